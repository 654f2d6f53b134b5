package platform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// store keeps functions on disk:
//
//	lock                 held while a platform uses the directory
//	functions/HASH.json  a record for each function; HASH is that of its id
//	packages/SHA256/     the files of a package, never changed; functions share equal packages
//	uploads/             uploads, and large answers until complete; emptied at the start
//	work/HASH-N/         a function's directories until its end; emptied at the start
//
// A record is written, by rename, after its package is complete, so that a crash leaves the old
// function or the new one.
type store struct {
	dir  string
	own  *files.Dir // the directory, where it is a temporary one, so that nothing in it needs to survive a crash
	lock *flock.Flock

	private bool // a package is for the users to which it is given, see users

	unpacking keyedMutex // by package
	mu        sync.Mutex
	uses      map[string]int // by package
}

// record is a function as it is stored.
type record struct {
	ID            string    `json:"id"`
	Service       string    `json:"service,omitempty"`
	Fingerprint   string    `json:"fingerprint,omitempty"`
	JobIDs        []uint32  `json:"job_ids,omitempty"`
	KeepWarm      uint32    `json:"keep_warm,omitempty"`
	PackageSHA256 string    `json:"package_sha256"`
	PackageSize   int64     `json:"package_size"` // of the zip
	BinarySize    int64     `json:"binary_size"`
	DeployedAt    time.Time `json:"deployed_at"`
	ColdStartMS   float64   `json:"cold_start_ms"`
	Config        config    `json:"config"`
	// Previous is the function before its last replacement.
	Previous *record `json:"previous,omitempty"`
}

// storeError returns the error of an operation on the platform's files. It hides their paths,
// because clients see it.
func storeError(format string, args ...any) error {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = withoutPath(err)
		}
	}
	return notRunError(faas.ErrInternal, "store", format, args...)
}

// withoutPath returns err with a text that does not name the file. It still wraps the same errors.
func withoutPath(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return pathless{err, path.Op + ": " + path.Err.Error()}
	case errors.As(err, &link):
		return pathless{err, link.Op + ": " + link.Err.Error()}
	}
	return err
}

type pathless struct {
	error
	text string
}

func (e pathless) Error() string { return e.text }
func (e pathless) Unwrap() error { return e.error }

// openError returns an error about the platform's directory, for the program that starts the
// platform.
func openError(err error) error { return notRunError(faas.ErrInternal, "open", "%w", err) }

func openStore(dir string) (*store, error) {
	s := &store{dir: dir, uses: map[string]int{}}
	var err error
	if dir == "" {
		if s.own, err = files.TempDir("blueprint-platform", endLeftovers); err != nil {
			return nil, openError(err)
		}
		s.dir = s.own.Path()
	} else if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, openError(err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, openError(err)
	}
	if err := checkOwner(s.dir); err != nil {
		return nil, err
	}
	s.lock = files.OpenLock(filepath.Join(s.dir, "lock"))
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, openError(err)
	}
	if !locked {
		return nil, notRunError(faas.ErrConflict, "open", "another platform uses directory %s", s.dir)
	}
	if err := files.CheckRegular(s.lock); err != nil {
		return nil, errors.Join(openError(err), s.lock.Unlock())
	}
	endLeftovers(s.dir)
	for _, name := range []string{"uploads", "work"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return nil, errors.Join(openError(err), s.lock.Unlock())
		}
	}
	for _, name := range []string{"functions", "packages", "uploads", "work"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o700); err != nil {
			return nil, errors.Join(openError(err), s.lock.Unlock())
		}
	}
	return s, nil
}

func (s *store) close() error {
	err := s.lock.Unlock()
	if s.own != nil {
		err = errors.Join(err, s.own.Remove())
	}
	if err != nil {
		return storeError("%w", err)
	}
	return nil
}

// uploads returns the directory of uploads and answers that are not complete.
func (s *store) uploads() string { return filepath.Join(s.dir, "uploads") }

func hashName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

func (s *store) recordPath(id string) string {
	return filepath.Join(s.dir, "functions", hashName(id)+".json")
}

// packageMode returns the mode of a package's directory.
func (s *store) packageMode() fs.FileMode {
	if s.private {
		return 0o700
	}
	return 0o755
}

func (s *store) packageDir(sum string) string { return filepath.Join(s.dir, "packages", sum) }

// load returns the stored records, takes hold of their packages, and removes unused packages.
func (s *store) load() ([]record, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "functions"))
	if err != nil {
		return nil, openError(err)
	}
	var records []record
	for _, e := range entries {
		name := filepath.Join(s.dir, "functions", e.Name())
		if !strings.HasSuffix(name, ".json") { // a write that did not end
			if err := os.Remove(name); err != nil {
				return nil, openError(err)
			}
			continue
		}
		text, err := readRecord(name)
		if err != nil {
			return nil, openError(err)
		}
		var rec record
		if err := json.Unmarshal(text, &rec); err != nil || checkID(rec.ID) != nil || name != s.recordPath(rec.ID) {
			return nil, storeError("%s is not a record of this platform: remove it to go on without that function", name)
		}
		s.hold(rec.PackageSHA256)
		if rec.Previous != nil {
			if _, err := os.Stat(s.packageDir(rec.Previous.PackageSHA256)); err != nil || rec.Previous.ID != rec.ID {
				rec.Previous = nil // it could not be put back
			} else {
				s.hold(rec.Previous.PackageSHA256)
			}
		}
		records = append(records, rec)
	}
	packages, err := os.ReadDir(filepath.Join(s.dir, "packages"))
	if err != nil {
		return nil, openError(err)
	}
	for _, e := range packages {
		if s.uses[e.Name()] == 0 {
			if err := os.RemoveAll(s.packageDir(e.Name())); err != nil {
				return nil, openError(err)
			}
		}
	}
	return records, nil
}

// maxRecord exceeds the largest record: one with two environments, escaped.
const maxRecord = 16 << 20

// readRecord reads a file that could be anything: reading a pipe would block, and a device may have
// no end.
func readRecord(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxRecord) {
		err = fmt.Errorf("%s is not a record of this platform: remove it to go on without that function", name)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}

// save writes the function's record, as a whole or not at all.
func (s *store) save(rec *record) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return storeError("%w", err)
	}
	name := s.recordPath(rec.ID)
	f, err := os.CreateTemp(filepath.Dir(name), hashName(rec.ID)+".*.tmp") // mode 0600: it holds the environment
	if err != nil {
		return storeError("%w", err)
	}
	_, err = f.Write(text)
	if err == nil && s.own == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return storeError("%w", errors.Join(err, os.Remove(f.Name())))
	}
	return s.syncDir(filepath.Dir(name))
}

func (s *store) remove(id string) error {
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storeError("%w", err)
	}
	return s.syncDir(filepath.Join(s.dir, "functions"))
}

func (s *store) syncDir(dir string) error {
	if s.own != nil {
		return nil
	}
	return syncDirectory(dir)
}

// upload is a zip that has arrived.
type upload struct {
	file   *os.File
	size   int64
	sha256 string
}

// receive writes r to disk and hashes it. More than limit bytes are an ErrTooLarge.
func (s *store) receive(ctx context.Context, r io.Reader, limit int64) (*upload, error) {
	f, err := os.CreateTemp(s.uploads(), "*.zip")
	if err != nil {
		return nil, storeError("%w", err)
	}
	u := &upload{file: f}
	hash := sha256.New()
	b := newBehind(io.MultiWriter(f, hash))
	u.size, err = b.ReadFrom(io.LimitReader(r, limit+1))
	if werr := b.Close(); werr != nil { // the disk's trouble says more than what the client made of it
		err = werr
	}
	var failed *fs.PathError
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errStopping):
		err = notRunError(faas.ErrUnavailable, "deploy", "%w", errStopping)
	case err != nil && ctx.Err() != nil:
		err = notRunError(faas.ErrTimeout, "deploy", "the upload was given up: %w", ctx.Err())
	case errors.As(err, &failed):
		err = storeError("%w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = notRunError(faas.ErrTimeout, "deploy", "the upload did not arrive in time")
	case err != nil:
		err = notRunError(faas.ErrInvalidArgument, "deploy", "the upload broke off after %d bytes: %w", u.size, err)
	case u.size > limit:
		err = notRunError(faas.ErrTooLarge, "deploy", "the zip is larger than %d MiB, the limit", limit>>20)
	case u.size == 0:
		err = badZip("it is empty")
	}
	if err != nil {
		u.discard()
		return nil, err
	}
	u.sha256 = hex.EncodeToString(hash.Sum(nil))
	return u, nil
}

func (u *upload) discard() {
	_ = u.file.Close()
	_ = os.Remove(u.file.Name())
}

// add checks the zip, unpacks it unless the store has that package, and holds the package until
// release.
func (s *store) add(u *upload, l *Limits) (*archive, error) {
	a, err := openArchive(u.file, u.size, l)
	if err != nil {
		return nil, err
	}
	defer s.unpacking.lock(u.sha256)()
	s.hold(u.sha256)
	dir := s.packageDir(u.sha256)
	if _, err := os.Stat(dir); err == nil {
		return a, nil
	}
	temp, err := os.MkdirTemp(s.uploads(), "unpack-")
	if err == nil {
		err = a.unpack(temp, s.own == nil)
		if err == nil {
			err = os.Chmod(temp, s.packageMode())
		}
		if err == nil {
			err = os.Rename(temp, dir)
		}
		if err == nil {
			err = s.syncDir(filepath.Dir(dir))
		}
		if err != nil {
			_ = os.RemoveAll(temp)
		}
	}
	if err != nil {
		s.mu.Lock()
		s.unuse(u.sha256)
		s.mu.Unlock()
		var e *faas.Error
		if !errors.As(err, &e) {
			err = storeError("%w", err)
		}
		return nil, err
	}
	return a, nil
}

// hold holds a package, which the store has or which is about to be unpacked, until release.
func (s *store) hold(sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[sum]++
}

// release releases a package. The last release removes it.
func (s *store) release(sum string) error {
	defer s.unpacking.lock(sum)()
	s.mu.Lock()
	last := s.unuse(sum)
	s.mu.Unlock()
	if !last {
		return nil
	}
	if err := os.RemoveAll(s.packageDir(sum)); err != nil {
		return storeError("%w", err)
	}
	return nil
}

// unuse ends one hold of the package and reports whether it was the last. mu must be held.
func (s *store) unuse(sum string) bool {
	s.uses[sum]--
	if s.uses[sum] > 0 {
		return false
	}
	delete(s.uses, sum)
	return true
}
