//go:build unix

package keys

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a pipe would wait for ever for somebody who writes.
func TestReadDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path, "", nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("Read = %v; want ErrMalformed", err)
	}
}
