package rpc

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
		check := func(a Answer) {
			if (a.Err == nil) == (a.Result == nil) && a.Err == nil {
				t.Errorf("neither result nor error in %q", body)
			}
			if a.Err != nil {
				_, _, _ = a.Err.Error(), a.Err.transient(), a.Err.Throttled()
			}
			if a.Result != nil {
				if !json.Valid(a.Result) {
					t.Errorf("the result %q is no JSON", a.Result)
				}
				_, _ = a.Bytes()
				_, _ = a.Quantity()
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
