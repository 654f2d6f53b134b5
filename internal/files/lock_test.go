package files_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/files"
)

func TestOneHoldsTheLockAtATimeAndItsFileIsGoneAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	counter, most := 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l, err := files.AcquireLock(t.Context(), path, time.Millisecond)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				counter++
				most = max(most, counter)
				mu.Unlock()
				mu.Lock()
				counter--
				mu.Unlock()
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at the same time", most)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) > 0 && os.PathSeparator == '/' {
		t.Errorf("left: %v, %v", files, err)
	}
}

func TestALockInUseIsSaidToBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := files.AcquireLock(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.AcquireLock(t.Context(), path, 0); !errors.Is(err, files.ErrLockHeld) {
		t.Errorf("error %v, want held", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := files.AcquireLock(ctx, path, time.Millisecond); !errors.Is(err, files.ErrLockHeld) ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want held and cancelled", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}
