package devchain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// open returns a chain that ends with the test.
func open(t testing.TB, cfg Config) *Chain {
	t.Helper()
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

// ask asks a node without a connection.
func ask(t testing.TB, n *Node, method string, params ...any) response {
	t.Helper()
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Result json.RawMessage
		Error  *rpcError
	}
	raw := post(t, n, body)
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v in %q", method, err, raw)
	}
	return response{Result: out.Result, Error: out.Error}
}

func post(t testing.TB, n *Node, body []byte) []byte {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	return w.Body.Bytes()
}

// text returns a result as text, or how the call failed.
func (r response) text() string {
	if r.Error != nil {
		return fmt.Sprintf("%d %s %s", r.Error.Code, r.Error.Message, r.Error.Data)
	}
	return strings.Trim(string(r.Result.(json.RawMessage)), `"`)
}

func signed(account int, nonce uint64, change func(*transaction)) string {
	to := Contract
	tx := &transaction{chain: 31337, nonce: nonce, gas: 1_000_000, tip: big.NewInt(gwei), cap: big.NewInt(10 * gwei),
		to: &to, value: new(big.Int)}
	if change != nil {
		change(tx)
	}
	tx.sign(account)
	return hexBytes(tx.raw)
}

func result(call uint64, output string) []byte {
	return encoding{}.selector(selector("submitResult(uint64,uint64,bytes)")).uint(0).uint(call).uint(3 * wordSize).
		bytes([]byte(output))
}

func TestCallIsAnswered(t *testing.T) {
	c := open(t, Config{})
	n := c.Node()
	for want := range uint64(3) {
		if id, err := c.Submit(0, 2, []byte("in")); err != nil || id != want {
			t.Fatalf("call %d: id %d, %v", want, id, err)
		}
	}
	dry := map[string]any{"from": Account(1), "to": Contract, "data": hexBytes(result(1, ""))}
	if got := ask(t, n, "eth_call", addresses1(dry), "latest").text(); got != "0x" {
		t.Fatalf("dry run: %s", got)
	}
	raw := signed(1, 0, func(tx *transaction) { tx.data = result(1, "out") })
	hash := ask(t, n, "eth_sendRawTransaction", raw).text()
	receipt := ask(t, n, "eth_getTransactionReceipt", hash).text()
	if !strings.Contains(receipt, `"status":"0x1"`) {
		t.Fatalf("receipt: %s", receipt)
	}
	if got := c.Results(0, 1); len(got) != 1 || string(got[0].Output) != "out" || got[0].Operator != Account(1) {
		t.Errorf("results: %+v", got)
	}
	if all, completed := c.Calls(0); all != 3 || completed != 1 {
		t.Errorf("%d calls, %d completed", all, completed)
	}
	if got := ask(t, n, "eth_call", addresses1(dry), "latest").text(); !strings.Contains(got, "0x0a55512f") {
		t.Errorf("second dry run: %s", got)
	}
	if err := c.Answer(2, 0, 1, nil); err == nil || !strings.Contains(err.Error(), "0x0a55512f") {
		t.Errorf("the other operator's answer: %v", err)
	}
}

// addresses1 writes addresses as nodes want them.
func addresses1(m map[string]any) map[string]any {
	for name, value := range m {
		if a, ok := value.(Address); ok {
			m[name] = a.String()
		}
	}
	return m
}

func TestServes(t *testing.T) {
	c := open(t, Config{})
	n := c.Node()
	url, err := n.Listen()
	if err != nil {
		t.Fatal(err)
	}
	body := `[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},` +
		`{"jsonrpc":"2.0","id":"b","method":"eth_nosuch","params":[]}]`
	answer := func() string {
		t.Helper()
		r, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			return "error"
		}
		defer r.Body.Close()
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return "broken"
		}
		return string(raw)
	}
	want := `[{"jsonrpc":"2.0","id":"b","error":{"code":-32601,"message":"Method not found"}},` +
		`{"jsonrpc":"2.0","id":1,"result":"0x7a69"}]`
	if got := answer(); got != want {
		t.Errorf("got %s", got)
	}
	n.Set(func(f *Faults) { f.Down = true })
	if got := answer(); got != "error" {
		t.Errorf("while down: %s", got)
	}
	n.Set(func(f *Faults) { *f = Faults{Broken: 1} })
	if got := answer(); got != "broken" {
		t.Errorf("broken: %s", got)
	}
	n.Stop()
	if got := answer(); got != "error" {
		t.Errorf("stopped: %s", got)
	}
	if again, err := n.Listen(); err != nil || again != url {
		t.Errorf("again at %s, %v", again, err)
	}
	if got := answer(); got != want {
		t.Errorf("after all: %s", got)
	}
}

func BenchmarkTenThousandCalls(b *testing.B) {
	for b.Loop() {
		c := open(b, Config{})
		for range 10_000 {
			if _, err := c.Submit(0, 0, []byte("in")); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func withJobs(n int) tangle.Definition { return tangle.Definition{Jobs: make([]tangle.Job, n)} }
