//go:build !faas_only || faas_aws

package aws

import (
	"maps"
	"slices"
	"sync"
)

// memory is what an executor knows of its functions from its own calls, which reads at Lambda may
// lag behind.
type memory struct {
	mu    sync.Mutex
	known map[string]*remembered
}

type remembered struct {
	versions []string // live ones that states have told of, the last ones last: Restore may go back to them
	changed  bool     // an update of $LATEST was sent
}

// toldVersions is how many live versions are remembered: those before and after one update.
const toldVersions = 2

// of returns what is known of a function. The caller holds m.mu.
func (m *memory) of(name string) *remembered {
	if m.known == nil {
		m.known = map[string]*remembered{}
	}
	if m.known[name] == nil {
		m.known[name] = &remembered{}
	}
	return m.known[name]
}

// told notes that a state says that the function exists, and which version is live; empty for none.
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

// keeps reports whether Restore may have to go back to a version.
func (m *memory) keeps(name, version string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.known[name]
	return r != nil && slices.Contains(r.versions, version)
}

// setChanged notes that an update of $LATEST is sent, or that one was undone.
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

// forget notes that a function was removed.
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
