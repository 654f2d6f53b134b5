package provider

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// revision is one deployment of a function, as its function.json holds it. It has the environment,
// which a State must not have.
type revision struct {
	JobID       uint32            `json:"job_id"`
	TimeoutSecs uint32            `json:"timeout_secs"`
	Env         map[string]string `json:"env"`
	SHA256      string            `json:"sha256"`
	Fingerprint string            `json:"fingerprint"`
	DeployedAt  time.Time         `json:"deployed_at"`
}

// name is the same for the same code and configuration, so a repeated change finds its own work.
func (r revision) name() string { return r.SHA256[:16] + "-" + r.Fingerprint[:16] }

func (e *Executor) state(id string, r revision) faas.State {
	return faas.State{
		ID: id, Status: faas.StatusReady, Resource: filepath.Join(e.dir, id), PackageSHA256: r.SHA256,
		Fingerprint: r.Fingerprint,
		JobIDs:      []uint32{r.JobID}, Revision: r.name(), DeployedAt: r.DeployedAt,
	}
}

// live returns the revision that answers. It returns ErrNotFound if none does, and ErrConflict if
// the function belongs to another service.
func (e *Executor) live(ctx context.Context, op, id string) (revision, error) {
	var r revision
	if err := ctx.Err(); err != nil {
		return r, fail(op, err)
	}
	if !strings.HasPrefix(id, e.prefix()) {
		return r, faas.Errorf(faas.ErrConflict, op, Name, "%q belongs to another service", id)
	}
	name, err := os.ReadFile(filepath.Join(e.dir, id, "live"))
	if err != nil {
		return r, fail(op, err)
	}
	text, err := os.ReadFile(filepath.Join(e.dir, id, string(name), "function.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, fail(op, err)
}

// Observe returns what exists.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	r, err := e.live(ctx, "observe", id)
	if err != nil {
		return faas.State{}, err
	}
	return e.state(id, r), nil
}

// Converge adds the wanted revision, unless it exists, and makes it live. It reads the live
// revision itself, because prior may be out of date.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	now, err := e.live(ctx, "converge", u.ID)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return faas.State{}, err
	}
	_, made := e.made.Load(u.ID)
	existed := err == nil && prior == nil && !made
	if err != nil {
		e.made.Store(u.ID, nil)
	}
	state, err := e.converge(ctx, u, now, err == nil, report)
	state.Existed = existed
	return state, err
}

func (e *Executor) converge(ctx context.Context, u faas.Unit, now revision, exists bool,
	report func(faas.Progress)) (faas.State, error) {
	f := u.Functions[0]
	r := revision{
		JobID: f.JobID, TimeoutSecs: f.TimeoutSecs, Env: f.Env.Reveal(),
		SHA256: u.Package.SHA256(), Fingerprint: u.Fingerprint(), DeployedAt: time.Now().UTC(),
	}
	if exists && now.name() == r.name() {
		return e.state(u.ID, now), nil
	}
	if err := e.add(ctx, u, r, report); err != nil {
		return faas.State{}, fail("converge", err)
	}
	if err := e.switchTo(ctx, u.ID, r.name()); err != nil {
		return faas.State{}, fail("converge", err)
	}
	if err := e.prune(u.ID, r, now); err != nil {
		return faas.State{}, fail("converge", err)
	}
	return e.state(u.ID, r), nil
}

// add unpacks a revision beside its final place and renames it, so it exists as a whole or not at
// all, even if this program is killed.
func (e *Executor) add(ctx context.Context, u faas.Unit, r revision, report func(faas.Progress)) (err error) {
	final := filepath.Join(e.dir, u.ID, r.name())
	if _, err := os.Stat(final); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(final), "new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := unpack(ctx, u.Package.Path(), dir); err != nil {
		return err
	}
	if report != nil {
		report(faas.Progress{Step: "upload", Bytes: u.Package.Size(), TotalBytes: u.Package.Size()})
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "function.json"), text, 0o600); err != nil {
		return err
	}
	return os.Rename(dir, final)
}

func unpack(ctx context.Context, archive, dir string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		content, err := f.Open()
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(f.Name)) // the library made the package: its names stay below dir
		err = os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = write(path, content, f.Mode().Perm())
		}
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, content io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// switchTo makes a revision the one that answers, in one step.
func (e *Executor) switchTo(ctx context.Context, id, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	next := filepath.Join(e.dir, id, "next")
	if err := os.WriteFile(next, []byte(name), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(e.dir, id, "live"))
}

// prune removes all revisions except the live one and the one before it, which Restore may need.
func (e *Executor) prune(id string, keep ...revision) error {
	entries, err := os.ReadDir(filepath.Join(e.dir, id))
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, r := range keep {
		if r.SHA256 != "" {
			kept[r.name()] = true
		}
	}
	var errs []error
	for _, entry := range entries {
		if entry.IsDir() && !kept[entry.Name()] {
			errs = append(errs, os.RemoveAll(filepath.Join(e.dir, id, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

// Restore makes the earlier revision live again.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	if _, err := e.live(ctx, "restore", prior.ID); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	if _, err := os.Stat(filepath.Join(e.dir, prior.ID, prior.Revision)); err != nil {
		return faas.Errorf(faas.ErrUnsupported, "restore", Name, "revision %s of %s is not kept any more: %w",
			prior.Revision, prior.ID, err)
	}
	return fail("restore", e.switchTo(ctx, prior.ID, prior.Revision))
}

// Remove removes the function's directory; what answers goes first.
func (e *Executor) Remove(ctx context.Context, id string) error {
	if _, err := e.live(ctx, "remove", id); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	err := os.Remove(filepath.Join(e.dir, id, "live"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail("remove", err)
	}
	return fail("remove", os.RemoveAll(filepath.Join(e.dir, id)))
}

// List returns the functions of the service. os.ReadDir sorts, which the contract asks for.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	entries, err := os.ReadDir(e.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fail("list", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("list", err)
	}
	var states []faas.State
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), e.prefix()) {
			continue
		}
		switch state, err := e.Observe(ctx, entry.Name()); {
		case err == nil:
			states = append(states, state)
		case faas.CodeOf(err) != faas.ErrNotFound: // removed meanwhile, or never finished
			return nil, err
		}
	}
	return states, nil
}
