package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// ErrLockHeld is the error if somebody else holds the lock and the wait is over or was not asked
// for. If the context ended, the error wraps the context's error too.
var ErrLockHeld = errors.New("the lock is held by another operation")

// Lock is a lock that is held.
type Lock struct{ f *flock.Flock }

// OpenLock prepares the lock file at path for its methods, such as TryLock, which create it for
// this user alone. It refuses a link at path, and opens anything else without waiting. Once the
// lock is held, [CheckRegular] must check the file.
func OpenLock(path string) *flock.Flock {
	return flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|carefully), flock.SetPermissions(0o600))
}

// CheckRegular returns an error unless the locked file is a regular one.
func CheckRegular(f *flock.Flock) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file but %v: remove it", f.Path(), info.Mode().Type())
	}
	return err
}

// AcquireLock takes the lock at path, which exists as a file while somebody holds it. It tries
// again every poll until it has the lock or ctx is done; with poll 0 it tries once. The lock
// excludes other processes and other callers in this one, and ends with the process.
func AcquireLock(ctx context.Context, path string, poll time.Duration) (*Lock, error) {
	for {
		f := OpenLock(path)
		var locked bool
		var err error
		if poll > 0 {
			locked, err = f.TryLockContext(ctx, poll)
		} else {
			locked, err = f.TryLock()
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, errors.Join(ErrLockHeld, err)
		case err != nil:
			return nil, err
		case !locked:
			return nil, ErrLockHeld
		}
		if err := CheckRegular(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if isCurrent(f) {
			return &Lock{f}, nil
		}
		// The last holder removed the file after it was opened and before it was locked here, so this
		// lock excludes nobody.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// LockHeld reports whether somebody holds the lock at path. It creates no file. If the file exists,
// which a killed holder may have left, LockHeld locks it for a moment as a reader. An AcquireLock
// with poll 0 fails at that moment.
func LockHeld(path string) (held bool, err error) {
	f := flock.New(path, flock.SetFlag(os.O_RDONLY|carefully))
	locked, err := f.TryRLock()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if locked {
		err = CheckRegular(f)
	}
	return err == nil && !locked, errors.Join(err, f.Close())
}

// isCurrent reports whether the locked file is still the one at its path.
func isCurrent(f *flock.Flock) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(f.Path())
	return err == nil && os.SameFile(held, there)
}

// Release ends the lock and removes its file. If the system cannot remove an open file, as on
// Windows, the file stays and does no harm.
func (l *Lock) Release() error {
	// Remove the file before the lock ends: a waiter that gets it then sees that it is gone, and opens
	// the next one.
	_ = os.Remove(l.f.Path())
	return l.f.Close()
}
