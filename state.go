package serverless

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// DefaultStateDir returns the directory of the ledgers: tangle/services in the user's state directory, which is $XDG_STATE_HOME or ~/.local/state
// on Linux and other Unixes, and the user's configuration directory on macOS and Windows.
func DefaultStateDir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	switch {
	case runtime.GOOS == "windows" || runtime.GOOS == "darwin":
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", faas.Errorf(faas.ErrInvalidArgument, "find state directory", "", "%w: give one with WithStateDir", err)
		}
		base = dir
	case !filepath.IsAbs(base):
		home, err := os.UserHomeDir()
		if err != nil {
			return "", faas.Errorf(faas.ErrInvalidArgument, "find state directory", "", "%w: give one with WithStateDir", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "tangle", "services"), nil
}

// store returns where the ledgers are.
func (o *deployOptions) store() (*ledger.Store, error) {
	dir := o.stateDir
	if dir == "" {
		var err error
		if dir, err = DefaultStateDir(); err != nil {
			return nil, err
		}
	}
	return ledger.NewStore(dir), nil
}

// lock opens the ledger of the service at the provider for one operation. Without a state directory of the caller's choice, one that cannot be
// used is no error: the operation then goes without a ledger, and the warning says what that means.
func (o *deployOptions) lock(ctx context.Context, service string, provider faas.Config) (led *ledger.Ledger,
	warning string, err error) {
	store, err := o.store()
	if err == nil {
		led, err = store.Lock(ctx, service, provider, false)
		if faas.CodeOf(err) == faas.ErrConflict && !o.noWait { // an operator who waits is told for what
			err = o.events.phase(PhaseLock, nil, func() (err error) {
				led, err = store.Lock(ctx, service, provider, true)
				return err
			})
		}
	}
	switch code := faas.CodeOf(err); {
	case err == nil:
		return led, "", nil
	case o.stateDir == "" && ctx.Err() == nil &&
		(code == faas.ErrInvalidArgument || code == faas.ErrPermissionDenied || code == faas.ErrUnavailable):
		return nil, "no ledger is kept, so a crash of this program may leave functions behind: " + err.Error(), nil
	}
	return nil, "", stateError{err}
}

// read returns what the ledger says, without locking it; an empty record where there is none.
func (o *deployOptions) read(service string, provider faas.Config) (ledger.Record, error) {
	store, err := o.store()
	if err != nil {
		if o.stateDir == "" {
			return ledger.Record{}, nil
		}
		return ledger.Record{}, err
	}
	rec, err := store.Read(service, provider)
	if o.stateDir == "" && faas.CodeOf(err) == faas.ErrUnavailable { // as in lock
		return ledger.Record{}, nil
	}
	return rec, err
}

// stateError marks an error of the ledger or its lock: it says nothing of the provider, and no deployment falls back because of it.
type stateError struct{ error }

func (e stateError) Unwrap() error { return e.error }

// journal writes what the engine does into a ledger. The zero journal writes nothing.
type journal struct {
	led *ledger.Ledger // nil: no ledger is kept

	mu     sync.Mutex
	before map[string]ledger.Unit // what the ledger said before the changes that were begun
}

func (j *journal) record() ledger.Record {
	if j.led == nil {
		return ledger.Record{}
	}
	return j.led.Record()
}

// Begin writes all changes ahead, in one write.
func (j *journal) Begin(changes []engine.Change) error {
	if j.led == nil {
		return nil
	}
	j.mu.Lock()
	j.before = j.led.Record().Units
	j.mu.Unlock()
	return j.Undoing(changes)
}

// Undoing writes that changes are under way, those again that were done.
func (j *journal) Undoing(changes []engine.Change) error {
	if j.led == nil {
		return nil
	}
	j.mu.Lock()
	before := j.before
	j.mu.Unlock()
	units := make([]ledger.Unit, len(changes))
	for i, c := range changes {
		known := before[c.Unit.ID]
		u := ledgerUnit(c.Unit, known.State)
		u.Pending = string(c.Action)
		if c.Partial {
			u.Pending = string(engine.Create) // it was never whole, and still is not
		}
		if c.Prior != nil && !c.Partial {
			u.State = c.Prior
		}
		if c.Action == engine.Remove {
			u.Functions, u.EnvNames = known.Functions, known.EnvNames
		}
		units[i] = u
	}
	return journaled(j.led.Put(units...))
}

// journaled marks an error of the ledger within an *faas.Error, so that the mark stays when the engine
// makes another one of its fields.
func journaled(err error) error {
	if err != nil {
		return &faas.Error{Op: "record", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: stateError{err}}
	}
	return nil
}

// Done writes that a unit is as wanted.
func (j *journal) Done(c engine.Change, state faas.State) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Put(ledgerUnit(c.Unit, &state)))
}

// Undone writes that a unit is as it was.
func (j *journal) Undone(c engine.Change) error {
	if j.led == nil {
		return nil
	}
	if c.Prior == nil {
		return journaled(j.led.Drop(c.Unit.ID))
	}
	j.mu.Lock()
	u, known := j.before[c.Unit.ID]
	j.mu.Unlock()
	if !known {
		return journaled(j.led.Drop(c.Unit.ID)) // it was not this service's doing that it exists
	}
	if c.Prior != nil && !c.Partial {
		u.State, u.Pending = c.Prior, ""
	}
	return journaled(j.led.Put(u))
}

// Unmade writes what the ledger said before a change that was not made.
func (j *journal) Unmade(c engine.Change) error {
	if j.led == nil {
		return nil
	}
	j.mu.Lock()
	u, known := j.before[c.Unit.ID]
	j.mu.Unlock()
	if !known {
		return journaled(j.led.Drop(c.Unit.ID))
	}
	return journaled(j.led.Put(u))
}

// Found writes that a unit was there before the creation that was begun, so that nobody takes it for what that creation left.
func (j *journal) Found(c engine.Change) error {
	if j.led == nil {
		return nil
	}
	u := ledgerUnit(c.Unit, &faas.State{ID: c.Unit.ID, Status: faas.StatusFailed,
		Reason: "a deployment that failed found it, and it is not known what became of it"})
	u.Pending = string(engine.Update)
	return journaled(j.led.Put(u))
}

// Gone writes that a unit does not exist any more.
func (j *journal) Gone(id string) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Drop(id))
}

// adopt writes what exists already and is kept, where the ledger does not say so.
func (j *journal) adopt(changes []engine.Change) error {
	if j.led == nil {
		return nil
	}
	known := j.led.Record().Units
	var units []ledger.Unit
	for _, c := range changes {
		if c.Action != engine.Keep {
			continue
		}
		if u, ok := known[c.Unit.ID]; !ok || u.Pending != "" || u.State == nil || u.State.Revision != c.Prior.Revision ||
			!u.State.Current(c.Unit) {
			units = append(units, ledgerUnit(c.Unit, c.Prior))
		}
	}
	return journaled(j.led.Put(units...))
}

// describe writes what the service is now.
func (j *journal) describe(r ledger.Record) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Describe(r))
}

// setRunner writes where the runner is that outlives this program; nil for none.
func (j *journal) setRunner(ref *RunnerRef) error {
	if j.led == nil {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "",
			"a runner that outlives this program needs a ledger, or nobody could stop it: give a directory for it with "+
				"WithStateDir")
	}
	return journaled(j.led.SetRunner(ref))
}

// close ends the operation. A ledger that says nothing any more is removed.
func (j *journal) close() error {
	if j.led == nil {
		return nil
	}
	var err error
	if j.led.Record().Empty() {
		err = j.led.Delete()
	}
	return errors.Join(err, j.led.Close())
}

func ledgerUnit(u faas.Unit, state *faas.State) ledger.Unit {
	out := ledger.Unit{ID: u.ID, State: state, Functions: slices.Clone(u.Functions), EnvNames: envNames(u.Functions)}
	for i := range out.Functions {
		out.Functions[i].Env = nil
	}
	return out
}
