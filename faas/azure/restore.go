//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Restore puts the app back to what it was. Azure keeps neither the former settings nor the former package, and the settings are secrets that no State holds;
// so it takes the executor that changed the app, which remembers the settings, and, where the new package may be in place already, the former package.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	id, u := prior.ID, faas.Unit{ID: prior.ID}
	if err := e.restore(ctx, id, u, prior); err != nil {
		hidden := values(u)
		if before := e.memory.of(id, prior); before != nil {
			hidden = slices.AppendSeq(hidden, maps.Values(before.design.settings))
		}
		return e.fail(ctx, "restore", faas.NoJob, err, hidden...)
	}
	return nil
}

func (e *Executor) restore(ctx context.Context, id string, u faas.Unit, prior faas.State) error {
	s, err := e.owned(ctx, "restore", id)
	switch {
	case err == nil:
		if isSame(e.state(s), prior) {
			return nil
		}
	case faas.CodeOf(err) != faas.ErrNotFound:
		return err
	}
	if before := e.memory.of(id, prior); before != nil && err == nil && !before.replaced {
		return e.reset(ctx, id, before)
	}
	if u.Package == nil || len(u.Functions) == 0 || prior.PackageSHA256 != "" && u.Package.SHA256() != prior.PackageSHA256 {
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AzureFunctions,
			"app %s was changed, and Azure keeps no former version: without the package and the environment of that version it cannot be put back; deploy it again", id)
	}
	_, err = e.Converge(ctx, u, &prior, nil)
	return err
}

// isSame reports whether an app is what it was. An app that could not be told from another is not.
func isSame(now, prior faas.State) bool {
	return now.Status == prior.Status && now.PackageSHA256 == prior.PackageSHA256 && now.Fingerprint == prior.Fingerprint && now.PackageSHA256 != ""
}

// reset gives the app its former configuration, settings and tags.
func (e *Executor) reset(ctx context.Context, id string, before *snapshot) error {
	defer e.app.forget()
	body := before.design.body(before.tags)
	made, err := e.putSite(ctx, id, body)
	if err != nil {
		return err
	}
	if err := e.setSettings(ctx, id, before.design.settings); err != nil {
		return err
	}
	for job := range parseJobs(before.tags[tagJobs]) {
		return e.answers(ctx, made, job)
	}
	return nil
}

// snapshot is what an app was before it was changed.
type snapshot struct {
	state    faas.State
	design   design
	tags     map[string]string
	replaced bool // another package was published since, or may have been
}

// memory holds the snapshots of apps, by id. They hold secrets, and go with the executor.
type memory struct {
	mu   sync.Mutex
	apps map[string]*snapshot
}

// keep remembers what an app was before a change.
func (m *memory) keep(id string, s *snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.apps == nil {
		m.apps = map[string]*snapshot{}
	}
	m.apps[id] = s
}

// replaced notes whether the package of an app is not what it was, or may not be, and returns what was noted before.
func (m *memory) replaced(id string, is bool) (was bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.apps[id]; s != nil {
		was, s.replaced = s.replaced, is
	}
	return was
}

// of returns what is remembered of an app in the state prior, or nil.
func (m *memory) of(id string, prior faas.State) *snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.apps[id]
	if s == nil || !isSame(s.state, prior) {
		return nil
	}
	copied := *s
	return &copied
}
