package tx

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// What Parse accepts has one encoding, and costs no more than its size.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/mined.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		raw, _, _ := strings.Cut(line, " ")
		if b, err := hex.DecodeString(strings.TrimPrefix(raw, "0x")); err == nil {
			f.Add(b)
			_, _, _, _ = Parse(b) // the first time, the curve's tables are made
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		spent := alloctest.Roughly(func() { _, _, _, _ = Parse(raw) })
		if limit := uint64(16*len(raw)) + alloctest.Slack; spent > limit {
			t.Errorf("%d bytes cost %d", len(raw), spent)
		}
		x, sig, err := decode(raw)
		if err != nil {
			return
		}
		if again := x.signed(sig); !bytes.Equal(again, raw) {
			t.Errorf("%x is read as what is written %x", raw, again)
		}
	})
}
