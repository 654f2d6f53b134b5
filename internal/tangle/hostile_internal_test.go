package tangle

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// What nodes return of logs and blocks is foreign.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{
		`[{"address":"0x","topics":["0x00"],"data":"0x"}]`, `{"timestamp":"0x1"}`, `null`, `"0x"`, `[1,[]]`,
		`[{"removed":true,"topics":[1,2,3],"data":1}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, result []byte) {
		if !jsonwalk.Valid(result) || len(jsonwalk.Trim(result)) != len(result) {
			return
		}
		cost := alloctest.Roughly(func() {
			_, _ = blockMember(result, "timestamp")
			w := &walk{reader: &reader{blueprint: &Blueprint{}}, want: wanted{definitionHash: Word{1}, sourcesHash: Word{2}}}
			_ = w.match(result)
		})
		if cost > 16*uint64(len(result))+alloctest.Slack {
			t.Errorf("%d bytes were allocated for %d", cost, len(result))
		}
	})
}
