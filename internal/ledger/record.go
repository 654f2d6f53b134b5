// Package ledger records what a service holds at a provider, and which changes began, in a file for
// each service and place. It writes and syncs the file before each change, so that after a crash at
// any moment the next operation knows every resource that may exist.
package ledger

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// Format is the version of the file format that this package writes, and the newest that it reads.
const Format = 1

// Record is what a ledger says: a plain value without secrets. It never has values of the
// environment.
type Record struct {
	Service string `json:"service"`
	// Provider is where the service is. A service of the same name at another endpoint or in another
	// region has a ledger of its own, and operations on one never touch the other.
	Provider    faas.Config `json:"provider"`
	BlueprintID uint64      `json:"blueprint_id"`
	Binary      string      `json:"binary,omitempty"` // absolute path of the executable at the last deployment
	// BinarySHA256 is the hash of that executable, in hex; empty if an older version wrote the record.
	BinarySHA256 string `json:"binary_sha256,omitempty"`
	// Given names what the last deployment was given beside the binary, such as "env.NAME", sorted. It
	// is nil if an older version wrote the record.
	Given     []string          `json:"given"`
	LocalJobs []uint32          `json:"local_jobs,omitempty"`
	Updated   time.Time         `json:"updated,omitzero"`
	Runner    *orchestrator.Ref `json:"runner,omitempty"` // if it outlives the program that started it
	Chain     *Chain            `json:"chain,omitempty"`  // nil if the service is not on chain
	Units     map[string]Unit   `json:"units,omitempty"`  // by ID
}

// Chain is what a record says of a service on chain.
type Chain struct {
	ServiceID uint64 `json:"service_id"`
	DataDir   string `json:"data_dir,omitempty"` // of the runner; empty if the orchestrator chose it on another machine
}

// Unit is a unit that exists at the provider, or may exist.
type Unit struct {
	ID        string          `json:"id"`
	Functions []faas.Function `json:"functions,omitempty"` // without environment
	EnvNames  []string        `json:"env_names,omitempty"` // of the environment, without values
	// Pending is the change of the unit ("create", "update", "remove") that began and is not known to
	// have ended; empty if there is none.
	Pending string `json:"pending,omitempty"`
	// Since is when Pending was written. Put sets it.
	Since *time.Time `json:"since,omitempty"`
	// State is the unit's state when it was last known to be whole; nil if it never was.
	State *faas.State `json:"state,omitempty"`
}

// Older reports whether the unit in this state existed before the creation that the record says
// began: a read that was behind hid it then. Clocks differ, so a minute does not count. A unit that
// is taken for older by mistake is kept, and not removed.
func (u Unit) Older(state faas.State) bool {
	return u.Since != nil && !state.DeployedAt.IsZero() && state.DeployedAt.Before(u.Since.Add(-time.Minute))
}

// Location identifies the place that a configuration names. It resolves the configuration first, so
// that every spelling of a place has one location.
func Location(c faas.Config) string {
	info, _ := faas.Provider(c.Provider)
	c = faas.Resolve(c)
	parts := []string{c.Provider, c.Region, c.ProjectID, c.SubscriptionID,
		strings.TrimRight(faas.RedactURL(c.Endpoint), "/")}
	for _, o := range info.Options {
		if o.Place && c.Options[o.Name] != "" {
			parts = append(parts, o.Name+"="+c.Options[o.Name])
		}
	}
	return strings.Join(parts, "\x1f")
}

// Whole returns, by ID, the states of the units that were ever whole. The state of a unit whose
// removal began is pending.
func (r Record) Whole() map[string]faas.State {
	whole := map[string]faas.State{}
	for id, u := range r.Units {
		if u.State == nil {
			continue
		}
		state := *u.State
		if u.Pending == "remove" {
			state.Status = faas.StatusPending
		}
		whole[id] = state
	}
	return whole
}

// Empty reports whether the service holds nothing.
func (r Record) Empty() bool { return len(r.Units) == 0 && r.Runner == nil }

// settleTime is longer than the request of a killed program needs to reach the provider and take
// effect.
const settleTime = 2 * time.Second

// Settle waits until the requests of an interrupted operation have taken effect, because a request
// outlives the program that sent it. It returns at once if no operation was interrupted, or if that
// was some time ago. It returns an error only if ctx ends.
func (r Record) Settle(ctx context.Context) error {
	var wait time.Duration
	for _, u := range r.Units {
		if u.Pending != "" && u.Since != nil {
			wait = max(wait, min(settleTime-time.Since(*u.Since), settleTime)) // the clock may have been set back since
		}
	}
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return faas.Errorf(faas.ErrTimeout, "wait for an interrupted operation", "", "%w", ctx.Err())
	}
}

// Sorted returns the units by ascending ID.
func (r Record) Sorted() []Unit {
	units := make([]Unit, 0, len(r.Units))
	for _, key := range slices.Sorted(maps.Keys(r.Units)) {
		units = append(units, r.Units[key])
	}
	return units
}

func (r Record) clone() Record {
	r.LocalJobs, r.Given, r.Units = slices.Clone(r.LocalJobs), slices.Clone(r.Given), maps.Clone(r.Units)
	return r
}

// entry is one line of the file. Exactly one member is set.
type entry struct {
	Header  *header `json:"header,omitempty"`
	Service *Record `json:"record,omitempty"` // everything but the units, which stay as they are
	Put     []Unit  `json:"put,omitempty"`
	Drop    *string `json:"drop,omitempty"` // the ID of a unit that no longer exists
}

type header struct {
	Format   int         `json:"format"`
	Service  string      `json:"service"`
	Provider faas.Config `json:"provider"`
}

// renameOptions gives options that an older version recorded their current names.
func (r *Record) renameOptions() {
	const prefix = "option."
	r.Provider.Options = faas.CurrentOptions(r.Provider.Provider, r.Provider.Options)
	for i, given := range r.Given {
		if name, ok := strings.CutPrefix(given, prefix); ok {
			for name = range faas.CurrentOptions(r.Provider.Provider, map[string]string{name: ""}) {
				r.Given[i] = prefix + name
			}
		}
	}
	slices.Sort(r.Given)
}

func (r *Record) apply(e entry) {
	switch {
	case e.Service != nil:
		kept := *r
		*r = e.Service.clone()
		r.Service, r.Units = kept.Service, kept.Units
	case e.Put != nil:
		for _, u := range e.Put {
			r.Units[u.ID] = u
		}
	case e.Drop != nil:
		delete(r.Units, *e.Drop)
	}
}
