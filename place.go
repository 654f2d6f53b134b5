package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// place is a service at one place of a provider, as one operation works with it.
type place struct {
	service string
	config  faas.Config
	exec    faas.Executor // nil until open, unless one was given
	opened  bool          // by open, and to be closed
	opts    serviceOptions
	events  *emitter
}

// open makes exec usable: it checks the one that was given, or opens the provider's.
func (p *place) open(ctx context.Context) (err error) {
	if p.exec != nil {
		return checkBound(p.exec, p.service)
	}
	cfg := p.config
	cfg.Service = p.service
	if cfg.Logger == nil {
		cfg.Logger = p.opts.logger
	}
	p.exec, err = faas.Open(ctx, cfg)
	p.opened = err == nil
	return err
}

// close closes what open opened.
func (p *place) close() error {
	if !p.opened {
		return nil
	}
	return p.exec.Close()
}

func (p *place) engine(j engine.Journal, keepSucceeded bool) *engine.Engine {
	info, _ := faas.Provider(p.config.Provider)
	return engine.New(p.exec, p.config.Provider, engine.Options{Parallel: info.MaxParallel, Report: p.events.step,
		Journal: j, KeepSucceeded: keepSucceeded, Patience: p.opts.patience})
}

func (p *place) lock(ctx context.Context) (j *journal, warning string, err error) {
	return p.opts.ledgers.lock(ctx, p.events, p.service, p.config)
}

// record returns what the ledger says. If the operation has none, that is what can be read.
func (p *place) record(j *journal) (ledger.Record, error) {
	if j.led == nil {
		return p.opts.ledgers.read(p.service, p.config)
	}
	return j.led.Record(), nil
}

// clearing says what clear may do.
type clearing struct {
	own     []faas.Unit // units of a handle, which a missing ledger does not record
	planned []string    // the only units that may be removed; nil: all
	// stopped says that the recorded runner was stopped, and clear forgets it. runner is the one that
	// was stopped, nil if the service had none.
	stopped bool
	runner  orchestrator.Runner
}

// clear removes every unit that the service has at the place: what the ledger records, what the
// handle has, and what carries the service's tags there. It returns the ids of those removed.
func (p *place) clear(ctx context.Context, c clearing) (removed []string, err error) {
	j, warning, err := p.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	rec, err := p.record(j)                               // a ledger that cannot be read is like none
	if err == nil && j.led == nil && len(rec.Units) > 0 { // their removal could not be recorded
		return nil, faas.Errorf(faas.ErrUnavailable, "remove", p.config.Provider, "%s", warning)
	}
	if err := rec.Settle(ctx); err != nil {
		return nil, err
	}
	if rec.Runner != nil && c.stopped {
		if detached, ok := c.runner.(orchestrator.Detached); !ok || detached.Ref().ID != rec.Runner.ID {
			return nil, faas.Errorf(faas.ErrConflict, "undeploy", "",
				"service %q was deployed again since, with the %s runner %s: open it again", p.service, rec.Runner.Kind,
				rec.Runner.ID)
		}
		if err := j.setRunner(nil); err != nil {
			return nil, err
		}
	}
	units := slices.Clone(c.own)
	for _, u := range units {
		delete(rec.Units, u.ID)
	}
	units = append(units, recordedUnits(rec.Sorted())...)
	if c.planned != nil {
		if u := slices.IndexFunc(units, func(u faas.Unit) bool { return !slices.Contains(c.planned, u.ID) }); u >= 0 {
			return nil, moved("%s exists now, and the plan does not remove it", units[u].ID)
		}
	}
	if len(units) == 0 && p.exec == nil {
		return nil, nil
	}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := checkPlace(ctx, p.exec, j.record()); err != nil {
		return nil, err
	}
	eng := p.engine(j, false)
	if c.planned != nil {
		err := eng.Remove(ctx, units)
		return removedOf(units, err), err
	}
	// Two listings, with the removals in between, also find what one stale answer leaves out.
	orphans, err := p.orphansToRemove(ctx, eng, units)
	if err != nil {
		return nil, err
	}
	units = append(units, orphans...)
	err = eng.Remove(ctx, units)
	if removed = removedOf(units, err); err != nil {
		return removed, err
	}
	late, err := p.orphansToRemove(ctx, eng, units)
	if err != nil {
		return removed, err
	}
	err = eng.Remove(ctx, late)
	return append(removed, removedOf(late, err)...), err
}

// clearOthers removes what the service has in other places. It continues after a failure. planned
// names, by place, the only units that may be removed; nil allows all.
func (p *place) clearOthers(ctx context.Context, others []ledger.Record, planned map[string][]string) (removed []string,
	err error) {
	var errs []error
	for _, r := range others {
		at := &place{service: p.service, config: withCredentials(r.Provider, p.config), opts: p.opts, events: p.events}
		var c clearing
		if planned != nil {
			c.planned = append([]string{}, planned[ledger.Location(r.Provider)]...)
		}
		var stopErr error
		if r.Runner != nil { // first, so that nothing delegates to what is being removed
			c.runner, stopErr = stopRecorded(ctx, p.opts.orchestrator, *r.Runner)
			c.stopped = c.runner != nil
		}
		gone, err := at.clear(ctx, c)
		if err := errors.Join(stopErr, err); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", placeName(r.Provider), err))
		}
		removed = append(removed, gone...)
	}
	return removed, errors.Join(errs...)
}

// withCredentials returns the configuration of a record with the sensitive options of another one
// for the same provider, because ledgers do not keep them.
func withCredentials(record, other faas.Config) faas.Config {
	info, _ := faas.Provider(record.Provider)
	if record.Provider != other.Provider {
		return record
	}
	options := maps.Clone(record.Options)
	for _, o := range info.Options {
		if value, ok := other.Options[o.Name]; ok && o.Sensitive {
			if options == nil {
				options = map[string]string{}
			}
			options[o.Name] = value
		}
	}
	record.Options = options
	return record
}

// recordedUnits are units as a ledger records them: without the environment.
func recordedUnits(recorded []ledger.Unit) []faas.Unit {
	units := make([]faas.Unit, len(recorded))
	for i, u := range recorded {
		units[i] = faas.Unit{ID: u.ID, Functions: u.Functions}
	}
	return units
}

// removedOf returns the ids of the units that are gone after a removal that ended with err.
func removedOf(units []faas.Unit, err error) (ids []string) {
	var left []string
	if fe := new(faas.Error); errors.As(err, &fe) {
		left = fe.Leftovers
	}
	if err != nil && len(left) == 0 {
		return nil // it did not begin
	}
	for _, u := range units {
		if !slices.Contains(left, u.ID) {
			ids = append(ids, u.ID)
		}
	}
	return ids
}

// orphansToRemove is listOrphans for a removal, which continues if the caller may not list.
func (p *place) orphansToRemove(ctx context.Context, eng *engine.Engine, known []faas.Unit) ([]faas.Unit, error) {
	units, err := listOrphans(ctx, eng, known)
	if faas.CodeOf(err) == faas.ErrPermissionDenied {
		p.opts.logger.Warn(cannotList(err), "service", p.service)
		return nil, nil
	}
	return units, err
}

func cannotList(err error) string {
	return fmt.Sprintf("functions that no ledger of this machine records cannot be listed, so some may be left: %v", err)
}

// listOrphans returns the units that carry the service's tags and are not among the known ones. It
// returns nil if the provider cannot list.
func listOrphans(ctx context.Context, eng *engine.Engine, known []faas.Unit) ([]faas.Unit, error) {
	states, err := eng.List(ctx)
	switch faas.CodeOf(err) {
	case "":
	case faas.ErrUnsupported:
		return nil, nil
	default:
		return nil, err
	}
	units := []faas.Unit{}
	for _, state := range states {
		if !slices.ContainsFunc(known, func(u faas.Unit) bool { return u.ID == state.ID }) {
			units = append(units, faas.Unit{ID: state.ID})
		}
	}
	return units, nil
}

// checkPlace refuses an executor whose credentials do not lead to where the recorded units are.
func checkPlace(ctx context.Context, exec faas.Executor, rec ledger.Record) error {
	checker, ok := find[faas.PlaceChecker](exec)
	if !ok {
		return nil
	}
	for _, u := range rec.Sorted() {
		if u.State != nil && u.State.Resource != "" {
			return checker.CheckPlace(ctx, *u.State) // the units of a ledger are all in one place
		}
	}
	return nil
}

// checkBound refuses an executor that is bound to another service.
func checkBound(exec faas.Executor, service string) error {
	if bound, ok := find[faas.Bound](exec); ok && bound.Service() != service {
		return faas.Errorf(faas.ErrInvalidArgument, "open", "",
			"the executor given with WithExecutor is bound to service %q, not %q: nothing was changed", bound.Service(),
			service)
	}
	return nil
}

// find returns the optional interface T of exec or of an executor that exec wraps and returns by a
// method Unwrap.
func find[T any](exec faas.Executor) (T, bool) {
	for {
		if found, ok := exec.(T); ok {
			return found, true
		}
		wrapper, ok := exec.(interface{ Unwrap() faas.Executor })
		if !ok {
			var none T
			return none, false
		}
		exec = wrapper.Unwrap()
	}
}

// closeUnused closes the executor that the caller gave, unless it is used on, by a service that
// will close it. It returns err, or why the executor could not be closed.
func closeUnused(given faas.Executor, used bool, err error) error {
	if given == nil || used {
		return err
	}
	return cmp.Or(err, given.Close())
}

// placeName is a place in the words of a message.
func placeName(c faas.Config) string {
	parts := []string{c.Provider}
	for _, part := range []string{c.Region, c.ProjectID, c.SubscriptionID, faas.RedactURL(c.Endpoint)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

// placesText lists places with what is there.
func placesText(records []ledger.Record) string {
	texts := make([]string, len(records))
	for i, r := range records {
		ids := make([]string, 0, len(r.Units))
		for _, u := range r.Sorted() {
			ids = append(ids, u.ID)
		}
		if r.Runner != nil {
			ids = append(ids, "the "+r.Runner.Kind+" runner "+r.Runner.ID)
		}
		texts[i] = fmt.Sprintf("%s (%s)", placeName(r.Provider), strings.Join(ids, ", "))
	}
	return strings.Join(texts, "; ")
}

func warnElsewhere(service string, records []ledger.Record) string {
	return fmt.Sprintf("service %q is also deployed elsewhere, where it keeps running and costing: %s. Deploy with "+
		"WithMove to remove that, or undeploy, which removes all", service, placesText(records))
}

// moved is the refusal of a plan that no longer fits what exists.
func moved(format string, args ...any) error {
	return faas.Errorf(faas.ErrConflict, "apply plan", "", "%w: make a new plan", fmt.Errorf(format, args...))
}
