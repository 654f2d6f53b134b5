//go:build unix

package ledger_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Opening a FIFO for reading waits for a writer that never comes.
func TestAFIFOAmongTheLedgersIsAnErrorAndNoHang(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "svc-0.ledger"), 0o600); err != nil {
		t.Fatal(err)
	}
	records, err := ledger.NewStore(dir).Records()
	if len(records) > 0 || faas.CodeOf(err) != faas.ErrInternal || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("records %v, error %v", records, err)
	}
}
