package serverless

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// DefaultStateDir returns the directory of the ledgers: tangle/services in the user's state
// directory. That is $XDG_STATE_HOME or ~/.local/state on Unix, and the user's configuration
// directory on macOS and Windows.
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

// ledgers are the ledgers in a state directory.
type ledgers struct {
	dir    string // empty: DefaultStateDir; if that cannot be used, operations continue without a ledger
	noWait bool   // see WithoutWaiting
	logger *slog.Logger
}

func (l ledgers) store() (*ledger.Store, error) {
	dir := l.dir
	if dir == "" {
		var err error
		if dir, err = DefaultStateDir(); err != nil {
			return nil, err
		}
	}
	return ledger.NewStore(dir), nil
}

// lock opens the ledger of the service at the provider for one operation. If the default directory
// cannot be used, the journal writes nothing, and the warning says what that means.
func (l ledgers) lock(ctx context.Context, events *emitter, service string, provider faas.Config) (j *journal,
	warning string, err error) {
	var led *ledger.Ledger
	store, err := l.store()
	if err == nil {
		led, err = store.Lock(ctx, service, provider, false)
		if faas.CodeOf(err) == faas.ErrConflict && !l.noWait { // an operator who waits is told why
			err = events.phase(PhaseLock, nil, func() (err error) {
				led, err = store.Lock(ctx, service, provider, true)
				return err
			})
		}
	}
	switch code := faas.CodeOf(err); {
	case err == nil:
		return &journal{led: led}, "", nil
	case l.dir == "" && ctx.Err() == nil &&
		(code == faas.ErrInvalidArgument || code == faas.ErrPermissionDenied || code == faas.ErrUnavailable):
		return &journal{}, "no ledger is kept, so a crash of this program may leave functions behind: " + err.Error(), nil
	}
	return nil, "", stateError{err}
}

// read returns what the ledger says without locking it. The record is empty if there is no ledger.
func (l ledgers) read(service string, provider faas.Config) (ledger.Record, error) {
	store, err := l.store()
	if err != nil {
		return ledger.Record{}, nil // without a directory there are no ledgers
	}
	rec, err := store.Read(service, provider)
	if l.dir == "" && faas.CodeOf(err) == faas.ErrUnavailable { // as in lock
		return ledger.Record{}, nil
	}
	return rec, err
}

// elsewhere returns the records of the service's other places that hold anything.
func (l ledgers) elsewhere(service string, here faas.Config) []ledger.Record {
	store, err := l.store()
	if err != nil {
		return nil // as in read
	}
	records, err := store.Records()
	if err != nil {
		l.logger.Warn("some ledgers could not be read", "error", err)
	}
	at := ledger.Location(here)
	return slices.DeleteFunc(records, func(r ledger.Record) bool {
		return r.Service != service || r.Empty() || ledger.Location(r.Provider) == at
	})
}

// both returns what the ledgers say of the service at a place, and of its other places.
func (l ledgers) both(service string, here faas.Config) (ledger.Record, []ledger.Record, error) {
	rec, err := l.read(service, here)
	if err != nil {
		return ledger.Record{}, nil, stateError{err}
	}
	return rec, l.elsewhere(service, here), nil
}

// stateError marks an error of the ledger or its lock. It says nothing about the provider, so that
// no deployment falls back because of it.
type stateError struct{ error }

func (e stateError) Unwrap() error { return e.error }

// journal writes what the engine does into a ledger. The zero journal writes nothing.
type journal struct {
	led *ledger.Ledger // nil: there is no ledger

	mu     sync.Mutex
	before map[string]ledger.Unit // what the ledger said before the changes began
}

func (j *journal) record() ledger.Record {
	if j.led == nil {
		return ledger.Record{}
	}
	return j.led.Record()
}

// known returns what the ledger said of a unit before the changes began.
func (j *journal) known(id string) (u ledger.Unit, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	u, known = j.before[id]
	return u, known
}

func (j *journal) put(units ...ledger.Unit) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Put(units...))
}

func (j *journal) drop(id string) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Drop(id))
}

// journaled marks an error of the ledger inside an *faas.Error, so that the mark stays when the
// engine copies the fields into another one.
func journaled(err error) error {
	if err != nil {
		return &faas.Error{Op: "record", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: stateError{err}}
	}
	return nil
}

// Begin writes all changes ahead, in one write.
func (j *journal) Begin(changes []engine.Change) error {
	j.mu.Lock()
	j.before = j.record().Units
	j.mu.Unlock()
	return j.Undoing(changes)
}

// Undoing writes that the changes are under way again, even those that were done.
func (j *journal) Undoing(changes []engine.Change) error {
	units := make([]ledger.Unit, len(changes))
	for i, c := range changes {
		known, _ := j.known(c.Unit.ID)
		u := ledgerUnit(c.Unit, known.State)
		u.Pending = string(c.Action)
		if c.NeverWhole {
			u.Pending = string(engine.Create)
		} else if c.Prior != nil {
			u.State = c.Prior
		}
		if c.Action == engine.Remove {
			u.Functions, u.EnvNames = known.Functions, known.EnvNames
		}
		units[i] = u
	}
	return j.put(units...)
}

// Done writes that a unit is as wanted.
func (j *journal) Done(c engine.Change, state faas.State) error {
	return j.put(ledgerUnit(c.Unit, &state))
}

// Undone writes that a unit is as it was.
func (j *journal) Undone(c engine.Change) error {
	u, known := j.known(c.Unit.ID)
	if c.Prior == nil || !known { // a unit that exists and was not known is not this service's work
		return j.drop(c.Unit.ID)
	}
	if !c.NeverWhole {
		u.State, u.Pending = c.Prior, ""
	}
	return j.put(u)
}

// Unmade writes what the ledger said before a change that was not made.
func (j *journal) Unmade(c engine.Change) error {
	if u, known := j.known(c.Unit.ID); known {
		return j.put(u)
	}
	return j.drop(c.Unit.ID)
}

// Found writes that a unit existed before its creation began, so that nothing takes it for what the
// creation left.
func (j *journal) Found(c engine.Change) error {
	u := ledgerUnit(c.Unit, &faas.State{ID: c.Unit.ID, Status: faas.StatusFailed,
		Reason: "a deployment that failed found it, and it is not known what became of it"})
	u.Pending = string(engine.Update)
	return j.put(u)
}

// Gone writes that a unit no longer exists.
func (j *journal) Gone(id string) error { return j.drop(id) }

// adopt writes the units that are kept, as far as the ledger does not record them as they are.
func (j *journal) adopt(changes []engine.Change) error {
	recorded := j.record().Units
	var units []ledger.Unit
	for _, c := range changes {
		if c.Action != engine.Keep {
			continue
		}
		if u, ok := recorded[c.Unit.ID]; !ok || u.Pending != "" || u.State == nil ||
			u.State.Revision != c.Prior.Revision || !u.State.Current(c.Unit) {
			units = append(units, ledgerUnit(c.Unit, c.Prior))
		}
	}
	return j.put(units...)
}

// describe writes what the service is now.
func (j *journal) describe(r ledger.Record) error {
	if j.led == nil {
		return nil
	}
	return journaled(j.led.Describe(r))
}

// setRunner writes where to find the runner that outlives this program; nil for none.
func (j *journal) setRunner(ref *orchestrator.Ref) error {
	if j.led == nil {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "",
			"a runner that outlives this program needs a ledger to be stopped later: give a directory for it with "+
				"WithStateDir")
	}
	return journaled(j.led.SetRunner(ref))
}

// close ends the operation. It removes a ledger that no longer records anything.
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

func envNames(functions []faas.Function) []string {
	names := map[string]bool{}
	for _, f := range functions {
		for name := range f.Env {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func sameState(a, b *faas.State) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.PackageSHA256 == b.PackageSHA256 && a.Fingerprint == b.Fingerprint &&
		a.Revision == b.Revision
}

// The kinds of things that a deployment is given beside the binary, and that a later one must not
// lose by leaving them out. Ledgers hold their names, never their values.
const (
	givenEnv      = "env."    // a variable of ServiceSpec.Env
	givenRunner   = "runner." // a variable of ServiceSpec.RunnerEnv
	givenOption   = "option." // an option of the provider
	givenRPC      = "chain.rpc"
	givenContract = "chain.contract"
	givenService  = "chain.service"
	givenKeystore = "chain.keystore"
)

// recordGiven is what a record says. A record of an older version has only the environment of its
// units.
func recordGiven(r ledger.Record) []string {
	if r.Given != nil {
		return slices.Clone(r.Given)
	}
	names := []string{}
	for _, u := range r.Units {
		for _, name := range u.EnvNames {
			names = append(names, givenEnv+name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
