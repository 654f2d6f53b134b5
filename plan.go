package serverless

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Plan says what a deployment would do, in enough detail to do exactly that later. It is a plain
// value without secrets: it prints as a table, and marshals to JSON and back.
type Plan struct {
	Service     string      `json:"service"`
	BlueprintID uint64      `json:"blueprint_id"`
	Strategy    Strategy    `json:"strategy"`
	Metadata    *Metadata   `json:"metadata,omitempty"` // what the analysis was made from
	Analysis    *Analysis   `json:"analysis,omitempty"`
	Provider    faas.Config `json:"provider"` // without options
	Binary      PlanBinary  `json:"binary"`
	// Runner is what the runner serves on chain; nil if nothing (see ServiceSpec.ServiceID).
	Runner *PlannedRunner `json:"runner,omitempty"`
	// Changes are in the order of the units. Removals come last, and those in other places
	// ([WithMove], or a traditional strategy) after those here. A traditional strategy only removes.
	Changes []PlannedChange `json:"changes"`
	// Elsewhere is what the service has in other places and keeps there.
	Elsewhere []ServiceInfo `json:"elsewhere,omitempty"`
	// UploadBytes is what has to be uploaded at most: each package that a change needs, once. A
	// package that the provider already holds is not sent again.
	UploadBytes int64    `json:"upload_bytes"`
	Warnings    []string `json:"warnings,omitempty"`
}

// PlanBinary is the executable that a plan deploys.
type PlanBinary struct {
	Path   string    `json:"path"`
	SHA256 string    `json:"sha256"` // hex
	Size   int64     `json:"size"`   // in bytes
	Arch   faas.Arch `json:"arch,omitempty"`
}

// PlannedChange is what happens to one unit of functions.
type PlannedChange struct {
	Action    Action          `json:"action"`
	Unit      string          `json:"unit"`                // the provider's name for it
	Functions []faas.Function `json:"functions,omitempty"` // without environment
	EnvNames  []string        `json:"env_names,omitempty"` // of the environment, without values
	// Differs says what an update changes: "code", "memory", "timeout", "concurrency", "keep warm",
	// "environment +NAME", "environment -NAME", "environment" for a value, "configuration" if no more
	// is known, "state" for a function that is not ready, or "payload form" if the provider only has
	// to record that the function accepts the compact form.
	Differs       []string    `json:"differs,omitempty"`
	PackageSHA256 string      `json:"package_sha256,omitempty"` // hex
	PackageBytes  int64       `json:"package_bytes,omitempty"`
	Fingerprint   string      `json:"fingerprint,omitempty"`
	Prior         *faas.State `json:"prior,omitempty"` // what exists
	// Place is where the unit is; nil for the plan's Provider. Only removals are elsewhere.
	Place *faas.Config `json:"place,omitempty"`
}

// add adds what a serverless deployment would change.
func (p *Plan) add(now *prepared) {
	p.Binary, p.Runner = planBinary(now.binary), now.runner.planned
	uploads := map[string]int64{}
	updates := false
	for _, c := range now.changes {
		planned := plannedChange(c, now.record.Units[c.Unit.ID])
		if c.Action != engine.Keep && (c.Prior == nil || c.Prior.PackageSHA256 != planned.PackageSHA256) {
			uploads[planned.PackageSHA256] = planned.PackageBytes
		}
		p.Changes = append(p.Changes, planned)
		updates = updates || c.Action == engine.Update
		if c.Action == engine.Update && c.Prior.NotRestorable != "" {
			p.Warnings = append(p.Warnings, fmt.Sprintf("if the deployment fails, %s cannot be put back: %s", c.Unit.ID,
				c.Prior.NotRestorable))
		}
	}
	for _, size := range uploads {
		p.UploadBytes += size
	}
	p.Warnings = append(p.Warnings, now.warnings()...)
	if info, linked := faas.Provider(p.Provider.Provider); linked && !info.AtomicUpdate && updates {
		p.Warnings = append(p.Warnings, "this provider may not answer for a moment while it updates a function")
	}
	p.remove(now.stale, nil)
	if now.order.opts.move {
		p.removeElsewhere(now.others)
	} else {
		p.Elsewhere = serviceInfos(now.others)
	}
}

func planBinary(b *faas.Binary) PlanBinary {
	return PlanBinary{Path: b.Path, SHA256: b.SHA256, Size: b.Size, Arch: b.Arch}
}

// public is what a plan shows of a configuration.
func public(c faas.Config) faas.Config {
	c.Endpoint, c.Options, c.HTTPClient, c.Logger = faas.RedactURL(c.Endpoint), nil, nil, nil
	return c
}

func (p *Plan) remove(units []ledger.Unit, place *faas.Config) {
	for _, u := range units {
		p.Changes = append(p.Changes, PlannedChange{
			Action: ActionRemove, Unit: u.ID, Functions: u.Functions, EnvNames: u.EnvNames, Prior: u.State, Place: place})
	}
}

func (p *Plan) removeElsewhere(records []ledger.Record) {
	for _, r := range records {
		place := public(r.Provider)
		place.Options = faas.PublicOptions(r.Provider)
		p.remove(r.Sorted(), &place)
	}
}

// removals returns the units that the plan removes, by place. It is an error if the records hold
// others now.
func (p *Plan) removals(here faas.Config, records []ledger.Record) (map[string][]string, error) {
	planned := map[string][]string{}
	for _, c := range p.Changes {
		if c.Action == ActionRemove {
			at := here
			if c.Place != nil {
				at = *c.Place
			}
			planned[ledger.Location(at)] = append(planned[ledger.Location(at)], c.Unit)
		}
	}
	held := map[string]map[string]ledger.Unit{}
	for _, r := range records {
		held[ledger.Location(r.Provider)] = r.Units
		for id := range r.Units {
			if !slices.Contains(planned[ledger.Location(r.Provider)], id) {
				return nil, moved("%s exists in %s now, and the plan does not remove it", id, placeName(r.Provider))
			}
		}
	}
	for at, ids := range planned {
		for _, id := range ids {
			if _, ok := held[at][id]; !ok {
				return nil, moved("the plan removes %s, which no longer exists", id)
			}
		}
	}
	return planned, nil
}

func plannedChange(c engine.Change, known ledger.Unit) PlannedChange {
	wanted := ledgerUnit(c.Unit, nil)
	out := PlannedChange{
		Action: Action(c.Action), Unit: c.Unit.ID, Functions: wanted.Functions, EnvNames: wanted.EnvNames,
		PackageSHA256: c.Unit.Package.SHA256(),
		PackageBytes:  c.Unit.Package.Size(), Fingerprint: c.Unit.Fingerprint(), Prior: c.Prior,
	}
	if c.Action != engine.Update {
		return out
	}
	if c.Prior.Status != faas.StatusReady {
		out.Differs = append(out.Differs, "state")
	}
	if c.Prior.PackageSHA256 != out.PackageSHA256 {
		out.Differs = append(out.Differs, "code")
	}
	if c.Prior.Fingerprint != out.Fingerprint {
		out.Differs = append(out.Differs, configDiffers(wanted, known, c.Prior.Fingerprint)...)
	}
	if len(out.Differs) == 0 && c.Unit.Compact && !c.Prior.Compact {
		out.Differs = append(out.Differs, "payload form") // the function accepts another one than the provider has recorded
	}
	return out
}

// configDiffers says what of the configuration differs, as far as the ledger tells. The ledger does
// not hold values of the environment, so a difference that nothing else explains must be one of
// them.
func configDiffers(wanted, known ledger.Unit, fingerprint string) []string {
	if known.State == nil || known.State.Fingerprint != fingerprint || len(known.Functions) != len(wanted.Functions) {
		return []string{"configuration"} // the ledger does not record what exists
	}
	var differs []string
	add := func(what string, isSo bool) {
		if isSo && !slices.Contains(differs, what) {
			differs = append(differs, what)
		}
	}
	for i, w := range wanted.Functions {
		k := known.Functions[i]
		add("memory", w.MemoryMB != k.MemoryMB)
		add("timeout", w.TimeoutSecs != k.TimeoutSecs)
		add("concurrency", w.MaxConcurrency != k.MaxConcurrency)
		add("keep warm", w.KeepWarm != k.KeepWarm)
	}
	for _, name := range wanted.EnvNames {
		add("environment +"+name, !slices.Contains(known.EnvNames, name))
	}
	for _, name := range known.EnvNames {
		add("environment -"+name, !slices.Contains(wanted.EnvNames, name))
	}
	add("environment", len(differs) == 0)
	return differs
}

// matches returns an error if a deployment would now do anything but what is planned.
func (p *Plan) matches(now *prepared) error {
	if now.binary.SHA256 != p.Binary.SHA256 {
		return moved("the binary %s has changed", now.binary.Path)
	}
	if err := p.Runner.check(now.runner.planned); err != nil {
		return err
	}
	planned := map[string]PlannedChange{}
	for _, c := range p.Changes {
		if c.Place == nil {
			planned[c.Unit] = c
		}
	}
	for _, c := range now.changes {
		was, ok := planned[c.Unit.ID]
		delete(planned, c.Unit.ID)
		is := plannedChange(c, ledger.Unit{})
		switch {
		case !ok:
			return moved("%s is not in the plan", c.Unit.ID)
		case is.Fingerprint != was.Fingerprint:
			return moved("%s has another configuration or environment now", c.Unit.ID)
		case is.PackageSHA256 != was.PackageSHA256:
			return moved("%s has another package now", c.Unit.ID)
		case is.Action != was.Action:
			return moved("a deployment would %s %s now; the plan was to %s it", is.Action, c.Unit.ID, was.Action)
		case !sameState(is.Prior, was.Prior):
			return moved("%s was changed at the provider", c.Unit.ID)
		}
	}
	for _, u := range now.stale {
		if was, ok := planned[u.ID]; !ok || was.Action != ActionRemove {
			return moved("a deployment would remove %s now, and the plan does not", u.ID)
		}
		delete(planned, u.ID)
	}
	here := now.at.config
	if now.order.opts.move {
		stale := ledger.Record{Provider: here, Units: map[string]ledger.Unit{}}
		for _, u := range now.stale {
			stale.Units[u.ID] = u
		}
		var err error
		if now.planned, err = p.removals(here, append([]ledger.Record{stale}, now.others...)); err != nil {
			return err
		}
	} else if slices.ContainsFunc(p.Changes, func(c PlannedChange) bool { return c.Place != nil }) {
		return moved("the plan removes what the service has elsewhere: WithMove is missing")
	}
	for id, c := range planned {
		return moved("the plan was to %s %s, which no longer exists", c.Action, id)
	}
	return nil
}

// String returns the plan as a table.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "service %s (blueprint %d): %s", p.Service, p.BlueprintID, p.Strategy.Kind)
	if p.Strategy.Kind != StrategyTraditional {
		fmt.Fprintf(&b, " on %s", p.Provider.Provider)
	}
	if len(p.Strategy.LocalJobs) > 0 {
		fmt.Fprintf(&b, ", jobs run beside it: %v", p.Strategy.LocalJobs)
	}
	b.WriteByte('\n')
	if p.Runner != nil {
		fmt.Fprintf(&b, "the runner serves %v, with %s\n", p.Runner, strings.Join(p.Runner.EnvNames, ", "))
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	counts := map[Action]int{}
	for _, c := range p.Changes {
		counts[c.Action]++
		jobs := make([]string, len(c.Functions))
		size := ""
		for i, f := range c.Functions {
			jobs[i] = fmt.Sprint(f.JobID)
			size = fmt.Sprintf("%d MB, %d s", f.MemoryMB, f.TimeoutSecs)
		}
		remark := strings.Join(c.Differs, ", ")
		if c.Place != nil {
			remark = "in " + placeName(*c.Place)
		}
		fmt.Fprintf(w, "  %s\t%s\tjob %s\t%s\t%s\n", c.Action, c.Unit, strings.Join(jobs, ", "), size, remark)
	}
	w.Flush() // a strings.Builder never fails
	fmt.Fprintf(&b, "%d to create, %d to update, %d to keep, %d to remove; up to %.1f MB to upload\n",
		counts[ActionCreate], counts[ActionUpdate], counts[ActionKeep], counts[ActionRemove], float64(p.UploadBytes)/(1<<20))
	for _, warning := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	return b.String()
}
