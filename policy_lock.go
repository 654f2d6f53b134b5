package serverless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// policyLockWait bounds the wait for another Save, which takes milliseconds: whoever holds the lock for longer hangs.
const policyLockWait = 30 * time.Second

// lockPolicy waits for the lock on the policy file at path. The returned function releases it, and removes the lock file.
func lockPolicy(path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), policyLockWait)
	defer cancel()
	lockPath := path + ".lock"
	for {
		lock := flock.New(lockPath)
		if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, fmt.Errorf("%w: another process has held %s for %s", faas.ErrConflict, lockPath, policyLockWait)
			}
			return nil, err
		}
		if isCurrent(lock) {
			return func() {
				// Removed before it is released: a waiter that gets this lock then sees that its file is gone, and takes the next one.
				_ = os.Remove(lockPath)
				_ = lock.Unlock()
			}, nil
		}
		_ = lock.Unlock()
	}
}

// isCurrent reports whether the locked file is still the one at its path.
func isCurrent(lock *flock.Flock) bool {
	held, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(lock.Path())
	return err == nil && os.SameFile(held, there)
}
