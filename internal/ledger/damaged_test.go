package ledger_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// A last line that was written whole records something that may exist. It is not dropped if it was
// damaged later; only a line that a crash cut off is dropped.
func TestADamagedLastLineIsRefusedAndAnUnfinishedOneIsNot(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(line []byte) []byte
		code   faas.Code
		units  int
	}{
		"a bit that has flipped":    {func(b []byte) []byte { b[len(b)-3] ^= 1; return b }, faas.ErrInternal, 0},
		"cut off":                   {func(b []byte) []byte { return b[:len(b)-5] }, "", 1},
		"blocks that never arrived": {func(b []byte) []byte { clear(b[5 : len(b)-1]); return b }, "", 1},
		"whole":                     {func(b []byte) []byte { return b }, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := ledger.NewStore(dir)
			l, err := store.Lock(t.Context(), "svc", faas.Config{Provider: "memory"}, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"a", "b"} {
				if err := l.Put(ledger.Unit{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.ledger"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%v, %v", files, err)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			begin := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
			if err := os.WriteFile(files[0], append(text[:begin:begin], tt.damage(bytes.Clone(text[begin:]))...),
				0o600); err != nil {
				t.Fatal(err)
			}
			records, err := store.Records()
			if faas.CodeOf(err) != tt.code || tt.code == "" && (len(records) != 1 || len(records[0].Units) != tt.units) {
				t.Errorf("records %+v, error %v", records, err)
			}
		})
	}
}
