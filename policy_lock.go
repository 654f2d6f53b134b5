package serverless

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// policyLockWait bounds the wait for another Save, which takes milliseconds: whoever holds the lock for longer hangs.
const policyLockWait = 30 * time.Second

// lockPolicy waits for the lock on the policy file at path. The returned function releases it.
func lockPolicy(path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), policyLockWait)
	defer cancel()
	lock, err := files.AcquireLock(ctx, path+".lock", 5*time.Millisecond)
	switch {
	case errors.Is(err, files.ErrLockHeld):
		return nil, fmt.Errorf("%w: another process has held %s.lock for %s", faas.ErrConflict, path, policyLockWait)
	case err != nil:
		return nil, err
	}
	return func() { _ = lock.Release() }, nil // the file was saved; the lock ends with the process at the latest
}
