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

// generation names a function's code and configuration at some time.
type generation struct {
	PackageSHA256 string `json:"package_sha256"`
	Fingerprint   string `json:"config_fingerprint"`
}

func (r *record) generation() generation { return generation{r.PackageSHA256, r.Fingerprint} }

// revision changes whenever the function is replaced or restored, also by a request for what it
// already is.
func (f *function) revision() string {
	return strconv.FormatInt(f.DeployedAt.UnixNano(), 10) + "." + strconv.FormatUint(f.counts.restores.Load(), 10)
}

// same reports whether two records deploy the same thing.
func (r *record) same(o *record) bool {
	a, b := r.Config, o.Config
	return r.generation() == o.generation() && r.KeepWarm == o.KeepWarm && a.MemoryMB == b.MemoryMB &&
		a.TimeoutSecs == b.TimeoutSecs &&
		a.MaxConcurrency == b.MaxConcurrency && maps.Equal(a.Env, b.Env)
}

// previous returns the generation to keep when f replaces old.
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

// restore directs invocations to the wanted generation, which must be the live or the previous one,
// without dropping a call. Unfinished deployments of the function fail, so that none of them undoes
// the restore. The codes are ErrNotFound if the function does not exist, and ErrConflict if it does
// not have the generation. If service is not empty, the function must belong to it.
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

// putBack makes the function what the record says, whatever it is now. The caller holds the
// record's package. As with restore, unfinished deployments of the function fail.
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

// relaunch directs invocations to an earlier generation. The function must be locked against
// changes.
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
