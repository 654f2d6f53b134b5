package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// Store is the directory of the ledgers. Several processes may use it at once.
type Store struct{ dir string }

// NewStore returns the store in dir. The first ledger creates the directory.
func NewStore(dir string) *Store { return &Store{dir: dir} }

// Dir returns the directory.
func (s *Store) Dir() string { return s.dir }

const suffix = ".ledger"

// path returns the file of a service at a location. Its name has the service's name, as far as that
// is readable, and a hash. If an older version, which resolved locations differently, wrote a file
// for this service and location under another name, path returns that one.
func (s *Store) path(service string, provider faas.Config) string {
	sum := sha256.Sum256([]byte(service + "\x1e" + Location(provider)))
	path := filepath.Join(s.dir, files.ReadableName(service)+"-"+hex.EncodeToString(sum[:6])+suffix)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	// only the directory could make the pattern malformed
	others, _ := filepath.Glob(filepath.Join(s.dir, files.ReadableName(service)+"-*"+suffix))
	for _, other := range others {
		if rec, err := s.read(other); err == nil && rec.Service == service && Location(rec.Provider) == Location(provider) {
			return other
		}
	}
	return path
}

// Records returns what every ledger says, sorted by service and location. It locks none. A ledger
// that cannot be read is an error beside the records of the others.
func (s *Store) Records() ([]Record, error) {
	files, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed("list ledgers", err)
	}
	var records []Record
	var errs []error
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) {
			continue
		}
		rec, err := s.read(filepath.Join(s.dir, f.Name()))
		switch {
		case err == nil && rec.Service != "":
			records = append(records, rec)
		case err != nil && !errors.Is(err, fs.ErrNotExist): // it may have been removed since
			errs = append(errs, err)
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(Location(a.Provider), Location(b.Provider)))
	})
	return records, errors.Join(errs...)
}

// Read returns what the ledger of a service at a location says, without locking it. If there is no
// ledger, the record has no units.
func (s *Store) Read(service string, provider faas.Config) (Record, error) {
	rec, err := s.read(s.path(service, provider))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{Service: service, Provider: withoutSecrets(provider), Units: map[string]Unit{}}, nil
	}
	return rec, err
}

func (s *Store) read(path string) (Record, error) {
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, err
	}
	if err != nil {
		return Record{}, s.failed("read ledger", err)
	}
	rec, _, _, err := parse(path, text)
	return rec, err
}

// lockPoll is how often a waiting Lock tries again. Nothing signals the release of a file lock.
const lockPoll = 50 * time.Millisecond

// Lock opens the ledger of a service at a location for one operation, until Close the only one. If
// another operation has the ledger, Lock waits until ctx is done if wait is true, and else returns
// an ErrConflict at once. It refuses a damaged or newer ledger and leaves it as it is.
func (s *Store) Lock(ctx context.Context, service string, provider faas.Config, wait bool) (*Ledger, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, s.failed("lock service", err)
	}
	path := s.path(service, provider)
	poll := time.Duration(0)
	if wait {
		poll = lockPoll
	}
	name := lockPath(path)
	lock, err := files.AcquireLock(ctx, name, poll)
	switch {
	case errors.Is(err, files.ErrLockHeld) && ctx.Err() != nil:
		return nil, faas.Errorf(faas.ErrTimeout, "lock service", "",
			"gave up waiting for another operation that changes service %q: %w", service, ctx.Err())
	case errors.Is(err, files.ErrLockHeld):
		return nil, faas.Errorf(faas.ErrConflict, "lock service", "",
			"another operation is changing service %q (lock %s): try again when it has ended, or wait for it", service,
			name)
	case err != nil:
		return nil, s.failed("lock service", err)
	}
	l := &Ledger{path: path, lock: lock}
	if err := l.load(service, withoutSecrets(provider)); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return l, nil
}

// Busy reports whether an operation on the service at the location is under way. It changes
// nothing.
func (s *Store) Busy(service string, provider faas.Config) (bool, error) {
	busy, err := files.LockHeld(lockPath(s.path(service, provider)))
	if err != nil {
		return false, s.failed("look at lock", err)
	}
	return busy, nil
}

func lockPath(ledger string) string { return strings.TrimSuffix(ledger, suffix) + ".lock" }

func (s *Store) failed(op string, err error) error {
	var fe *faas.Error
	if errors.As(err, &fe) {
		return err
	}
	code := faas.ErrUnavailable // the file is not damaged, it cannot be reached
	if errors.Is(err, fs.ErrPermission) {
		code = faas.ErrPermissionDenied
	}
	return faas.Errorf(code, op, "", "state directory %s: %w", s.dir, err)
}
