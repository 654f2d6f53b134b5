package tangle

import (
	"encoding/json"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		`[{"jsonrpc":"2.0","id":1,"result":"0x2a"},{"id":2,"error":{"code":3,"message":"execution reverted",` +
			`"data":"0x5fd248ec00"}}]`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}`, `[]`, `{}`, `null`,
		`[{"id":"1","result":null}]`,
		`[{"id":1,"result":[{"address":"0x","topics":["0x00"],"data":"0x"}]},{"id":2,"result":{"timestamp":"0x1"}}]`,
		`[{"id":1,"error":{"code":1e99,"message":5,"data":{"data":"Reverted 0x08"}}},{"id":2,"error":"text"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(a answer) {
			if (a.err == nil) == (a.result == nil) && a.err == nil {
				t.Errorf("neither result nor error in %q", body)
			}
			if a.err != nil {
				_, _, _ = a.err.Error(), a.err.selector(), a.err.transient()
			}
			if a.result != nil {
				if !json.Valid(a.result) {
					t.Errorf("the result %q is no JSON", a.result)
				}
				_, _ = a.bytes()
				_, _ = a.quantity()
				_, _ = blockMember(a.result, "timestamp")
				w := &walk{reader: &reader{blueprint: &Blueprint{}}, want: wanted{definitionHash: Word{1}, sourcesHash: Word{2}}}
				_ = w.match(a.result)
			}
		}
		if cost := alloctest.Roughly(func() { _, _ = parseBatch(body, 2); _, _ = parseSingle(body) }); cost > 16*uint64(
			len(body))+alloctest.Slack {
			t.Errorf("%d bytes were allocated for %d", cost, len(body))
		}
		if answers, err := parseBatch(body, 2); err == nil {
			for _, a := range answers {
				check(a)
			}
		}
		if a, err := parseSingle(body); err == nil {
			check(a)
		}
	})
}
