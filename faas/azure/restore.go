//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/scratch"
)

// Restore puts the app back to what it was: its configuration, its settings, and its package, which it
// publishes again if another one may be in place. Azure keeps neither of them, and the settings are
// secrets that no State holds, so the executor that changed the app kept them when it did.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	err := e.restore(ctx, prior)
	if err == nil {
		return nil
	}
	var hidden []string
	if before := e.memory.of(prior); before != nil {
		hidden = before.design.settings.Values()
	}
	return e.fail(ctx, "restore", faas.NoJob, err, hidden...)
}

func (e *Executor) restore(ctx context.Context, prior faas.State) error {
	now, err := e.known(ctx, "restore", prior.ID)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	before := e.memory.of(prior)
	switch {
	case err == nil && isSame(e.state(now), prior) && (before == nil || !before.touched): // what was touched may be shown by a replica that lags
		return nil
	case before != nil && (!before.replaced || before.kept != nil || before.stays):
		return e.reset(ctx, before, now == nil)
	case prior.NotRestorable != "":
		return faas.Errorf(faas.ErrUnsupported, "restore", faas.AzureFunctions, "app %s was changed and cannot be put back: %s", prior.ID, prior.NotRestorable)
	}
	return faas.Errorf(faas.ErrConflict, "restore", faas.AzureFunctions,
		"app %s was changed by somebody else, so that its former settings and package are not known here; deploy it again", prior.ID)
}

// isSame reports whether an app is what it was. An app that could not be told from another is not.
func isSame(now, prior faas.State) bool {
	return now.Status == prior.Status && now.PackageSHA256 == prior.PackageSHA256 && now.Fingerprint == prior.Fingerprint && now.PackageSHA256 != ""
}

// reset gives the app its former configuration, settings, package and tags. gone says that somebody has
// removed it meanwhile.
func (e *Executor) reset(ctx context.Context, before *snapshot, gone bool) error {
	defer e.forgetApp()
	c := &convergence{Executor: e, id: before.state.ID, jobs: slices.Sorted(maps.Keys(parseJobs(before.tags[tagJobs])))}
	replaced := before.replaced && !before.stays
	if gone {
		if _, err := e.ensureBase(ctx, c.report); err != nil {
			return err
		}
		replaced = before.kept != nil
	}
	// Until all of it is back, the tags say that the app is not whole.
	tags := maps.Clone(before.tags)
	if replaced || gone {
		delete(tags, tagPackage)
		delete(tags, tagFingerprint)
		delete(tags, tagPublished)
	}
	made, err := e.putSite(ctx, c.id, before.design.body(tags))
	if err != nil {
		return err
	}
	if err := e.setSettings(ctx, c.id, before.design.settings); err != nil {
		return err
	}
	if gone && before.tags[tagAuth] == authIdentity {
		if err := c.grantTo(ctx, made); err != nil {
			return err
		}
	}
	if replaced {
		if err := c.publish(ctx, made, before.kept); err != nil {
			return err
		}
	}
	switch {
	case len(c.jobs) == 0: // too many for a tag: what the host says of them cannot be compared
	case replaced:
		err = c.ready(ctx, made)
	default:
		err = e.answers(ctx, made, c.jobs[0])
	}
	if err != nil {
		return err
	}
	if replaced || gone {
		if _, err := e.putSite(ctx, c.id, before.design.body(before.tags)); err != nil {
			return err
		}
	}
	e.memory.restored(c.id)
	return nil
}

// snapshot is what an app was before it was changed.
type snapshot struct {
	state    faas.State
	design   design
	tags     map[string]string
	touched  bool         // the app was changed since, or may have been
	replaced bool         // another package was published since, or may have been
	stays    bool         // the package stays in its container whatever is published
	kept     *keptPackage // nil if the package was not to be replaced, or could not be read
}

// memory holds the snapshots of apps, by id. They hold secrets, and go with the executor.
type memory struct {
	mu      sync.Mutex
	apps    map[string]*snapshot
	made    map[string]bool // apps that this executor has sent the making of
	scratch *scratch.Dir    // of former packages; nil until there is one
}

// keep remembers what an app was before a change that is made next, instead of what it was before an earlier one.
func (m *memory) keep(id string, s *snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.apps == nil {
		m.apps = map[string]*snapshot{}
	}
	old := m.apps[id]
	m.apps[id] = s
	s.touched = true
	if old == nil || old.kept == nil {
		return nil
	}
	if s.kept == nil && s.state.PackageSHA256 == old.state.PackageSHA256 && !s.stays {
		s.kept = old.kept // it is the same package
		return nil
	}
	return old.kept.remove()
}

// make notes that the making of an app is sent next.
func (m *memory) make(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made == nil {
		m.made = map[string]bool{}
	}
	m.made[id] = true
}

// isMade reports whether this executor may have made an app.
func (m *memory) isMade(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[id]
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

// restored notes that an app is again what it was.
func (m *memory) restored(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.apps[id]; s != nil {
		s.touched, s.replaced = false, false
	}
}

// of returns what is remembered of an app in the state prior, or nil.
func (m *memory) of(prior faas.State) *snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.apps[prior.ID]
	if s == nil || !isSame(s.state, prior) {
		return nil
	}
	copied := *s
	return &copied
}
