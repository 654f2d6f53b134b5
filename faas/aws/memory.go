//go:build !faas_only || faas_aws

package aws

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// memory holds what an executor knows about its functions from its own calls. Reads at Lambda may
// lag behind it.
type memory struct {
	mu    sync.Mutex
	known map[string]*remembered
}

type remembered struct {
	versions []string // live ones that states have told of, the last ones last: Restore may go back to them
	changed  bool     // an update of $LATEST was sent
	reserved bool     // the reserved concurrency was changed
	sealed   bool     // an invocation was refused because Lambda cannot read the environment
	made     bool     // a request that creates the function was sent, and may have done so
}

// toldVersions is how many live versions are remembered: those before and after one update.
const toldVersions = 2

// of returns what is known about a function. The caller holds m.mu.
func (m *memory) of(name string) *remembered {
	if m.known == nil {
		m.known = map[string]*remembered{}
	}
	if m.known[name] == nil {
		m.known[name] = &remembered{}
	}
	return m.known[name]
}

// told records that a state says that the function exists, and its live version, or "" for none.
func (m *memory) told(name, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(name)
	if version == "" {
		return
	}
	r.versions = append(slices.DeleteFunc(r.versions, func(v string) bool { return v == version }), version)
	r.versions = r.versions[max(0, len(r.versions)-toldVersions):]
}

// keeps reports whether Restore may have to go back to the version.
func (m *memory) keeps(name, version string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && slices.Contains(r.versions, version)
}

// setChanged records that an update of $LATEST is being sent, or that one was undone.
func (m *memory) setChanged(name string, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).changed = changed
}

func (m *memory) changed(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && r.changed
}

// creating makes the SDK report when it sends a creation again because no answer came. A conflict
// is then with what the same request has made.
func (m *memory) creating(name string) func(*lambda.Options) {
	return func(o *lambda.Options) {
		o.Retryer = noting{o.Retryer, func(err error) {
			if !notStarted(err, codeOf(err)) {
				m.setMade(name)
			}
		}}
	}
}

// noting is a retryer that reports each error after which a request is sent again.
type noting struct {
	aws.Retryer
	note func(error)
}

func (n noting) RetryDelay(attempt int, err error) (time.Duration, error) {
	n.note(err)
	return n.Retryer.RetryDelay(attempt, err)
}

func (m *memory) setReserved(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).reserved = true
}

// reserved reports whether this executor has changed the function's reserved concurrency.
func (m *memory) reserved(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && r.reserved
}

func (m *memory) setSealed(name string, sealed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).sealed = sealed
}

// sealed reports whether Lambda could not read the environment at the last invocation by this
// executor.
func (m *memory) sealed(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && r.sealed
}

func (m *memory) setMade(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).made = true
}

// made reports whether this executor may have created the function.
func (m *memory) made(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && r.made
}

// forget records that a function was removed.
func (m *memory) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, name)
}

// names returns the functions that should exist, sorted.
func (m *memory) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.known))
}
