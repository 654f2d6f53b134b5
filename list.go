package serverless

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// ListServices returns the services that the ledgers in dir record, sorted by name and place. An
// empty dir is [DefaultStateDir]. A ledger that cannot be read is an error beside the services of
// the others.
func ListServices(dir string) ([]ServiceInfo, error) {
	store, err := ledgers{dir: dir}.store()
	if err != nil {
		return nil, err
	}
	records, err := store.Records()
	infos := serviceInfos(records)
	for i, r := range records {
		busy, busyErr := store.Busy(r.Service, r.Provider)
		infos[i].Busy, err = busy, errors.Join(err, busyErr)
	}
	return infos, err
}

// ServiceInfo is what a ledger records of a service. It is a plain value.
type ServiceInfo struct {
	Name        string      `json:"name"`
	Provider    faas.Config `json:"provider"` // where it is, without sensitive options
	BlueprintID uint64      `json:"blueprint_id"`
	BinaryPath  string      `json:"binary_path,omitempty"` // absolute, at the last deployment
	// BinarySHA256 is the hash of that file, in hex; empty if an older version deployed the service.
	BinarySHA256 string `json:"binary_sha256,omitempty"`
	// Given names what the last deployment was given, as NotGivenError does.
	Given     []string          `json:"given,omitempty"`
	LocalJobs []uint32          `json:"local_jobs,omitempty"`
	Runner    *orchestrator.Ref `json:"runner,omitempty"` // if it outlives the program that started it
	// ServiceID is the service on chain that the runner serves; nil if none. DataDir is where the
	// runner keeps its journal on this machine, or as the last deployment was given it.
	ServiceID *uint64    `json:"service_id,omitempty"`
	DataDir   string     `json:"data_dir,omitempty"`
	Updated   time.Time  `json:"updated,omitzero"`
	Units     []UnitInfo `json:"units"` // by ascending ID
	// Busy says that this program or another one is changing the service.
	Busy bool `json:"busy,omitempty"`
}

// Action is what a plan or a deployment does to a unit of functions.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionKeep   Action = "keep"
	ActionRemove Action = "remove"
)

// UnitInfo is what a ledger records of a unit of functions.
type UnitInfo struct {
	ID        string          `json:"id"`
	Functions []faas.Function `json:"functions,omitempty"` // without environment
	// Pending is a change that began and is not known to have ended. It is empty unless an operation
	// is under way or was interrupted.
	Pending Action      `json:"pending,omitempty"`
	State   *faas.State `json:"state,omitempty"` // when the unit was last known to be whole
}

// Interrupted reports whether the last operation on the service did not end, and none is under way.
// [Recover], Undeploy, or the next deployment puts that right.
func (s ServiceInfo) Interrupted() bool {
	return !s.Busy && slices.ContainsFunc(s.Units, func(u UnitInfo) bool { return u.Pending != "" })
}

func serviceInfo(r ledger.Record) ServiceInfo {
	info := ServiceInfo{
		Name: r.Service, Provider: r.Provider, BlueprintID: r.BlueprintID, BinaryPath: r.Binary,
		BinarySHA256: r.BinarySHA256, Given: recordGiven(r),
		LocalJobs: r.LocalJobs, Runner: r.Runner, Updated: r.Updated, Units: []UnitInfo{},
	}
	if r.Chain != nil {
		info.ServiceID, info.DataDir = new(r.Chain.ServiceID), r.Chain.DataDir
	}
	for _, u := range r.Sorted() {
		unit := UnitInfo{ID: u.ID, Functions: u.Functions, Pending: Action(u.Pending)}
		if u.State != nil {
			state := *u.State
			state.Private = nil // only the provider's
			unit.State = &state
		}
		info.Units = append(info.Units, unit)
	}
	return info
}

func serviceInfos(records []ledger.Record) []ServiceInfo {
	var infos []ServiceInfo
	for _, r := range records {
		infos = append(infos, serviceInfo(r))
	}
	return infos
}

// find returns the record of the service at the policy's place, and those of its other places.
// Without a policy it is the one that was updated last.
func (l ledgers) find(name string, policy *Policy) (ledger.Record, []ledger.Record, error) {
	none := ledger.Record{}
	store, err := l.store()
	if err != nil {
		return none, nil, err
	}
	records, err := store.Records()
	records = slices.DeleteFunc(records, func(r ledger.Record) bool { return r.Service != name })
	if len(records) == 0 {
		if err != nil {
			return none, nil, err // it may be in a ledger that cannot be read
		}
		return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "", "no ledger in %s records service %q", store.Dir(),
			name)
	}
	slices.SortStableFunc(records, func(a, b ledger.Record) int { return b.Updated.Compare(a.Updated) })
	found := 0
	if policy != nil {
		provider := faas.Resolve(policy.Serverless.Config().Provider)
		found = slices.IndexFunc(records, func(r ledger.Record) bool {
			return ledger.Location(r.Provider) == ledger.Location(provider)
		})
		if found < 0 {
			return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "",
				"service %q is not deployed in the policy's place, %s, but in %s: open it without the policy, or with one that "+
					"names that place", name, placeName(provider), placesText(records))
		}
		// The policy gives the credentials, and the ledger everything else.
		options := map[string]string{}
		maps.Copy(options, provider.Options)
		maps.Copy(options, records[found].Provider.Options)
		provider.Options = options
		records[found].Provider = provider
	}
	rec := records[found]
	others := slices.DeleteFunc(slices.Delete(records, found, found+1), ledger.Record.Empty)
	return rec, others, nil
}
