package serverless

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// WithMove makes a deployment remove what the service has in other places, after a change of provider,
// region or endpoint, once the new functions answer: both work in between. Without it a deployment
// leaves the other places as they are, and one of Service.Warnings names them.
func WithMove() DeployOption { return func(o *deployOptions) { o.move = true } }

// elsewhere returns the records of the service's other places that hold anything.
func (o *deployOptions) elsewhere(service string, here faas.Config) ([]ledger.Record, error) {
	store, err := o.store()
	if err != nil {
		if o.stateDir == "" {
			return nil, nil // as in lock: there are no ledgers
		}
		return nil, err
	}
	records, err := store.Records()
	if err != nil {
		o.logger.Warn("not every ledger could be read", "error", err)
	}
	at := ledger.Location(here)
	return slices.DeleteFunc(records, func(r ledger.Record) bool {
		return r.Service != service || r.Empty() || ledger.Location(r.Provider) == at
	}), nil
}

// placeName is a place as a sentence has it.
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
	return fmt.Sprintf("service %q is also deployed elsewhere, where it goes on running and costing: %s. Deploy with "+
		"WithMove to remove that, or undeploy, which removes all",
		service, placesText(records))
}

func serviceInfos(records []ledger.Record) []ServiceInfo {
	var infos []ServiceInfo
	for _, r := range records {
		infos = append(infos, serviceInfo(r))
	}
	return infos
}

// removeElsewhere removes what the service has in other places than here. It goes on after a failure.
// planned names, by place, the units that a plan allows to be removed; nil allows all. It returns what it removed.
func (o *deployOptions) removeElsewhere(ctx context.Context, service string, here faas.Config, records []ledger.Record,
	planned map[string][]string) (removed []string, err error) {
	var errs []error
	for _, r := range records {
		at := &place{opts: o, service: service, config: withCredentials(r.Provider, here)}
		if planned != nil {
			at.planned = planned[ledger.Location(r.Provider)]
		}
		err := at.stopRunner(ctx, r.Runner) // first, so that nothing delegates to what is being removed
		if err = errors.Join(err, at.clear(ctx)); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", placeName(r.Provider), err))
		}
		removed = append(removed, at.removed...)
	}
	return removed, errors.Join(errs...)
}

// withCredentials returns the configuration of a record with the sensitive options of another one for
// the same provider, as no ledger keeps them.
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

// place is one place of a service that is being cleared.
type place struct {
	opts    *deployOptions
	service string
	config  faas.Config
	exec    faas.Executor // nil: opened when it is needed
	own     []faas.Unit   // units of a handle, which a missing ledger does not know
	planned []string      // the units that may be removed; nil: all
	runner  Runner        // stopped before; see clear
	stopped bool          // the runner of the record is stopped, and its record may go
	removed []string      // the units that clear removed
}

// stopRunner stops the runner that an earlier deployment left at the place; nil: there is none.
func (p *place) stopRunner(ctx context.Context, ref *RunnerRef) error {
	if ref == nil {
		return nil
	}
	attacher, ok := p.opts.orchestrator.(Attacher)
	if !ok {
		return p.opts.canReplace(ref)
	}
	runner, err := attacher.Attach(ctx, *ref)
	if err != nil {
		return &faas.Error{Op: "find runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
	}
	if err = runner.Stop(ctx); err == nil {
		p.runner, p.stopped = runner, true
	}
	return errors.Join(err, runner.Release(ctx))
}

// clear removes every unit that the service has at the place: what the ledger says, what the handle
// knows, and what carries the service's tags there.
func (p *place) clear(ctx context.Context) (err error) {
	led, warning, err := p.opts.lock(ctx, p.service, p.config)
	if err != nil {
		return err
	}
	j := &journal{led: led}
	defer func() { err = errors.Join(err, j.close()) }()
	rec := j.record()
	if led == nil { // what can be read of the ledger counts, but what is removed cannot be written down
		if rec, err = p.opts.read(p.service, p.config); err == nil && len(rec.Units) > 0 {
			return faas.Errorf(faas.ErrUnavailable, "remove", p.config.Provider, "%s", warning)
		}
	}
	if err := rec.Settle(ctx); err != nil {
		return err
	}
	if rec.Runner != nil && p.stopped {
		if survivor, ok := p.runner.(Survivor); !ok || survivor.Ref().ID != rec.Runner.ID {
			return faas.Errorf(faas.ErrConflict, "undeploy", "",
				"service %q was deployed anew since, with the %s runner %s: open it again", p.service, rec.Runner.Kind,
				rec.Runner.ID)
		}
		if err := j.setRunner(nil); err != nil {
			return err
		}
	}
	units := slices.Clone(p.own)
	for _, u := range units {
		delete(rec.Units, u.ID)
	}
	recorded := rec.Sorted()
	units = append(units, staleUnits(recorded)...)
	if p.planned != nil {
		if u := slices.IndexFunc(units, func(u faas.Unit) bool { return !slices.Contains(p.planned, u.ID) }); u >= 0 {
			return moved("%s is there now, and removing it is not in the plan", units[u].ID)
		}
	}
	if len(units) == 0 && p.exec == nil {
		return nil
	}
	exec := p.exec
	if exec == nil {
		if exec, err = p.opts.openPlace(ctx, p.service, p.config); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, exec.Close()) }()
	}
	if err := checkPlace(ctx, exec, j.record()); err != nil {
		return err
	}
	eng := newEngine(exec, p.config.Provider, p.opts, j)
	if p.planned == nil {
		// Looking twice, with the removals in between, finds also what one stale answer leaves out.
		unknown, err := p.seeUnknown(ctx, eng, units)
		if err != nil {
			return err
		}
		units = append(units, unknown...)
	}
	err = eng.Remove(ctx, units)
	p.removed = removedOf(units, err)
	if err != nil || p.planned != nil {
		return err
	}
	late, err := p.seeUnknown(ctx, eng, units)
	if err != nil {
		return err
	}
	err = eng.Remove(ctx, late)
	p.removed = append(p.removed, removedOf(late, err)...)
	return err
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

// openPlace opens the executor of another place than the one that an executor was given for.
func (o *deployOptions) openPlace(ctx context.Context, service string, provider faas.Config) (faas.Executor, error) {
	without := *o
	without.executor = nil
	return without.open(ctx, service, provider)
}

// seeUnknown is listUnknown for a removal, which goes on if the caller may not list.
func (p *place) seeUnknown(ctx context.Context, eng *engine.Engine, known []faas.Unit) ([]faas.Unit, error) {
	units, err := listUnknown(ctx, eng, known)
	if faas.CodeOf(err) == faas.ErrPermissionDenied {
		p.opts.logger.Warn(cannotList(err), "service", p.service)
		return nil, nil
	}
	return units, err
}

func cannotList(err error) string {
	return fmt.Sprintf("it is not known whether the service has functions that stand in no ledger of this machine, as "+
		"they cannot be listed: %v", err)
}

// listUnknown returns the units that carry the service's tags and are not among the known; nil if the
// provider cannot list.
func listUnknown(ctx context.Context, eng *engine.Engine, known []faas.Unit) ([]faas.Unit, error) {
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

// find returns the optional interface T of exec or of what it wraps: an executor that wraps another
// can say so by a method Unwrap.
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
			"the executor given with WithExecutor is bound to service %q, not to %q: nothing was changed", bound.Service(),
			service)
	}
	return nil
}
