package devchain

import (
	"encoding/json"
	"testing"
)

// Whatever is asked, the node answers with JSON, and a node of the other kind with an error or a
// result too.
func FuzzNode(f *testing.F) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`, `[{"jsonrpc":"2.0","id":1,"method":"eth_nosuch"}]`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","topics":[null,["0x00"]]}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"` + Contract.String() +
			`","data":"0xaacdba9f"},"latest"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"data":"0x00"}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":["0xffffffffffffffff","latest",[1e300]]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["` + signed(1, 0, nil) + `"]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := New(Config{})
		defer c.Close()
		if _, err := c.Submit(0, 0, nil); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*Node{c.Node(), c.GethNode()} {
			if answer := post(t, n, body); !json.Valid(answer) {
				t.Errorf("%q is answered with %q", body, answer)
			}
		}
	})
}

// Whatever the arguments are, a function of a contract ends.
func FuzzCall(f *testing.F) {
	f.Add(result(0, "output"), uint8(0))
	f.Add([]byte(encoding{}.selector(selectQuoted).uint(0).uint(0).uint(128).uint(160).uint(0).uint(1).uint(32)), uint8(0))
	f.Add([]byte(encoding{}.selector(selector("goOffline(uint64)")).uint(0)), uint8(1))
	c := New(Config{})
	f.Cleanup(c.Close)
	if _, err := c.Submit(0, 0, nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, to uint8) {
		contracts := []Address{c.contract, Registry, Staking, manager}
		c.mu.Lock()
		defer c.mu.Unlock()
		x := c.latest()
		x.from = Account(1)
		if _, err := x.run(&contracts[int(to)%len(contracts)], data); err == nil && x.charged < 21_000 {
			t.Errorf("%x costs %d", data, x.charged)
		}
	})
}
