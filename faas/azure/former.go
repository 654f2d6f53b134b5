//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// reset gives the app its former configuration, settings, package and tags. gone says that somebody
// has removed the app meanwhile.
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
	// Until everything is restored, the tags say that the app is not whole.
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

// snapshot is what an app was before a change.
type snapshot struct {
	state    faas.State
	design   design
	tags     map[string]string
	touched  bool         // the app was changed since, or may have been
	replaced bool         // another package was published since, or may have been
	stays    bool         // the package stays in its container whatever is published
	kept     *keptPackage // nil if the package was not to be replaced, or could not be read
}

// memory holds the snapshots of apps, by id. They contain secrets, and last as long as the
// executor.
type memory struct {
	mu      sync.Mutex
	apps    map[string]*snapshot
	made    map[string]bool // apps that this executor has sent the making of
	scratch *files.Dir      // of former packages; nil until there is one
}

// keep records what an app is before the next change, in place of what it was before an earlier
// one.
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

// make records that the creation of an app is sent next.
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

// replaced records whether the app may have another package than before, and returns the previous
// record.
func (m *memory) replaced(id string, is bool) (was bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.apps[id]; s != nil {
		was, s.replaced = s.replaced, is
	}
	return was
}

// restored records that an app is as it was.
func (m *memory) restored(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.apps[id]; s != nil {
		s.touched, s.replaced = false, false
	}
}

// of returns the snapshot of an app in the state prior, or nil.
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

// dir returns the directory for former packages, and makes it the first time.
func (m *memory) dir() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scratch == nil {
		d, err := files.TempDir("blueprint-azure", nil)
		if err != nil {
			return "", err
		}
		m.scratch = d
	}
	return m.scratch.Path(), nil
}

// forget drops all snapshots.
func (m *memory) forget() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apps = nil
	if m.scratch == nil {
		return nil
	}
	d := m.scratch
	m.scratch = nil
	return d.Remove()
}

// releasedPackage is the name of an app's package in its container, the only place where Azure
// keeps it. Azure keeps no former package.
const releasedPackage = "released-package.zip"

// The ways to read a package back, as recorded in tagAccess.
const (
	accessToken = "token" // with a token, by a caller whose role allows to read blobs
	accessKey   = "key"   // with a key of the storage account, which the caller may list
	accessNone  = "no: "  // before the reason
)

const (
	checkTimeout = 15 * time.Second
	maxKeptBytes = 2 << 30
)

// packageAccess finds out whether and how the package of an app could be read back, for tagAccess.
func (e *Executor) packageAccess(ctx context.Context, container string) string {
	ctx, cancel := context.WithTimeout(policy.WithRetryOptions(
		ctx, policy.RetryOptions{MaxRetries: 2, RetryDelay: e.pace.retry}), checkTimeout)
	defer cancel()
	var why []string
	for _, access := range []string{accessToken, accessKey} {
		client, err := e.packageClient(ctx, container, access)
		if err == nil {
			_, err = client.GetProperties(ctx, nil)
		}
		if err == nil {
			return access
		}
		why = append(why, "with a "+access+": "+e.brief(err))
		if judge(err).Class == kit.Outage {
			break // the storage account is not reached, by whatever access
		}
	}
	text := accessNone + strings.Join(why, "; ")
	if len(text) > maxTagValue {
		text = sanitize.Line(text, maxTagValue-len("..."))
	}
	return text
}

// brief says why the package cannot be read, in few enough words for a tag.
func (e *Executor) brief(err error) string {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return words(err, e.hider())
	}
	text := fmt.Sprintf("status %d %s", response.StatusCode, response.ErrorCode)
	if raw := response.RawResponse; raw != nil && raw.Request != nil && raw.Request.Method == http.MethodPost {
		text += " of listKeys"
	}
	return e.hider()(text)
}

// packageClient returns a client of the package in a container, with the given access.
func (e *Executor) packageClient(ctx context.Context, container, access string) (*blob.Client, error) {
	url := container + "/" + releasedPackage
	if access != accessKey {
		return blob.NewClient(url, e.credential, &e.blobs)
	}
	key, err := e.accountKey(ctx)
	if err != nil {
		return nil, err
	}
	shared, err := blob.NewSharedKeyCredential(e.names.account, key)
	if err != nil {
		return nil, faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions,
			"the key of storage account %s is not in base64", e.names.account)
	}
	return blob.NewClientWithSharedKeyCredential(url, shared, &e.blobs)
}

// keptPackage is a former package on this machine's disk.
type keptPackage struct {
	path string
	size int64
}

func (k *keptPackage) Open() (io.ReadSeekCloser, error) { return os.Open(k.path) }

func (k *keptPackage) Size() int64 { return k.size }

// keepPackage reads the package of a container into a file, with the access that a deployment has
// recorded.
func (e *Executor) keepPackage(ctx context.Context, container, access string) (*keptPackage, error) {
	dir, err := e.memory.dir()
	if err != nil {
		return nil, faas.Errorf(faas.ErrInternal, "deploy", faas.AzureFunctions, "a directory for the former package: %w",
			err)
	}
	kept := &keptPackage{path: filepath.Join(dir, rand.Text()+".zip")}
	w := e.wait(e.pace.busy, "the former package could not be read from storage account %s", e.names.account)
	err = w.Until(ctx, func(ctx context.Context) error {
		client, err := e.packageClient(ctx, container, access)
		if err != nil {
			return err
		}
		resp, err := client.DownloadStream(ctx, nil)
		if err != nil {
			return err
		}
		body := resp.NewRetryReader(ctx, nil) // which goes on where a broken connection stopped
		defer body.Close()
		kept.size, err = writeFile(kept.path, body)
		if err == nil && resp.ContentLength != nil && kept.size != *resp.ContentLength {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, kept.remove())
	}
	return kept, nil
}

// writeFile writes r into a file that only this user can read, and returns its size in bytes.
func writeFile(path string, r io.Reader) (int64, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(file, io.LimitReader(r, maxKeptBytes+1))
	if err = errors.Join(err, file.Close()); err == nil && n > maxKeptBytes {
		err = fmt.Errorf("the package is larger than %d bytes", maxKeptBytes)
	}
	return n, err
}

func (k *keptPackage) remove() error {
	if err := os.Remove(k.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
