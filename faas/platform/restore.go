package platform

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// generation names what a function was at some time: its code and its configuration.
type generation struct {
	PackageSHA256 string `json:"package_sha256"`
	Fingerprint   string `json:"config_fingerprint"`
}

func (r *record) generation() generation { return generation{r.PackageSHA256, r.Fingerprint} }

// revision changes whenever the function is replaced or put back, and when it was asked to be and is it already.
func (f *function) revision() string {
	return strconv.FormatInt(f.DeployedAt.UnixNano(), 10) + "." + strconv.FormatUint(f.counts.restores.Load(), 10)
}

// same reports whether the two records deploy the same thing.
func (r *record) same(o *record) bool {
	a, b := r.Config, o.Config
	return r.generation() == o.generation() && r.KeepWarm == o.KeepWarm && a.MemoryMB == b.MemoryMB &&
		a.TimeoutSecs == b.TimeoutSecs &&
		a.MaxConcurrency == b.MaxConcurrency && maps.Equal(a.Env, b.Env)
}

// previous returns the generation that is kept when f takes the place of old.
func (f *function) previous(old *function) *record {
	switch {
	case old == nil || old.broken != nil:
		return nil
	case f.same(&old.record): // a deployment that is repeated must not displace what it replaced the first time
		return old.Previous
	}
	rec := old.record
	rec.Previous = nil // one generation is kept, not a history
	return &rec
}

// restore makes the wanted generation of the function the one that is invoked, if it is that already or is the one before, without dropping a call.
// Deployments of the function that have not ended fail, so that none of them undoes it. The codes are ErrNotFound where there is no such function and ErrConflict
// where it has no such generation. service, where it is not empty, must be the function's.
func (p *Platform) restore(ctx context.Context, id, service string, want generation) (*function, error) {
	if want.PackageSHA256 == "" || want.Fingerprint == "" {
		return nil, notRunError(faas.ErrInvalidArgument, "restore",
			"package_sha256 and config_fingerprint must name the generation to put back")
	}
	p.life.RLock()
	defer p.life.RUnlock()
	defer p.changes.lock(id)()
	live, err := p.lookup("restore", id)
	if err != nil {
		return nil, err
	}
	if service != "" && live.Service != service {
		return nil, notRunError(faas.ErrConflict, "restore", "function %q belongs to another service", id)
	}
	current := live.broken == nil && live.generation() == want
	if !current && (live.Previous == nil || live.Previous.generation() != want) {
		return nil, notRunError(faas.ErrConflict, "restore",
			"function %q cannot be put back: neither it nor its previous generation is the one that was asked for. Deploy "+
				"that again", id)
	}
	live.counts.restores.Add(1)
	if current {
		return live, nil
	}
	return p.relaunch(ctx, *live.Previous)
}

// putBack makes the function what the record says, whose package the caller holds, whatever it is now. As with restore, deployments of it that have not ended fail.
func (p *Platform) putBack(ctx context.Context, rec record) error {
	p.life.RLock()
	defer p.life.RUnlock()
	defer p.changes.lock(rec.ID)()
	live, err := p.lookup("restore", rec.ID)
	switch {
	case err != nil && faas.CodeOf(err) != faas.ErrNotFound:
		return err
	case err == nil && live.Service != rec.Service:
		return notRunError(faas.ErrConflict, "restore", "function %q belongs to another service", rec.ID)
	case err == nil:
		live.counts.restores.Add(1)
		if live.broken == nil && live.same(&rec) {
			return nil
		}
	}
	_, err = p.relaunch(ctx, rec)
	return err
}

// relaunch makes what a function was the one that is invoked. The function's changes are locked.
func (p *Platform) relaunch(ctx context.Context, rec record) (*function, error) {
	d := &deployment{record: rec}
	d.DeployedAt = time.Now().UTC()
	p.store.hold(d.PackageSHA256)
	f, err := p.launch(ctx, d)
	if err != nil {
		return nil, err
	}
	p.opts.logger.Info("function put back", "function", rec.ID, "sha256", rec.PackageSHA256)
	return f, nil
}

// maxRestoreBody is the largest body of a restore, in bytes.
const maxRestoreBody = 4 << 10

func (p *Platform) serveRestore(w http.ResponseWriter, r *http.Request, id string) {
	service, err := serviceHeader(r)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	control := http.NewResponseController(w)
	var want generation
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRestoreBody)).Decode(&want); err != nil {
		w.Header().Set("Connection", "close")
		writeErrorOf(w, id, notRunError(faas.ErrInvalidArgument, "restore",
			`the body is not {"package_sha256":"...","config_fingerprint":"..."}`))
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	f, err := p.restore(r.Context(), id, service, want)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	writeJSON(w, http.StatusOK, f.describe(""))
}
