package devchain

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAnswersAsNodesDo has what a real anvil answered (node-probe of the recordings), and what
// go-ethereum's sources say.
func TestAnswersAsNodesDo(t *testing.T) {
	c := open(t, Config{})
	for range 5 {
		if _, err := c.Submit(0, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	anvil, geth := c.Node(), c.GethNode()
	contract := Contract.String()
	logs := func(from, to string) map[string]any {
		return map[string]any{"address": contract, "fromBlock": from, "toBlock": to}
	}
	for _, tt := range []struct {
		method      string
		params      []any
		anvil, geth string // prefixes; an empty one of geth: the same
	}{
		{"eth_getLogs", []any{logs("0x200", "0x210")},
			"-32602 BlockOutOfRangeError: block height is 5 but requested was 512",
			"-32602 block range extends beyond current head block"},
		{"eth_getLogs", []any{logs("0x5", "0x1")}, "[]", "-32602 invalid block range params"},
		{"eth_getLogs", []any{logs("0x5", "0x300")}, `[{"address":"` + contract,
			"-32602 block range extends beyond current head block"},
		{"eth_getLogs", []any{logs("0x05", "0x6")}, "-32602 invalid argument 0", ""},
		{"eth_getLogs", []any{map[string]any{"blockHash": wordOf(170).String()}}, "-32000 unknown block", ""},
		{"eth_getLogs", []any{map[string]any{"blockHash": wordOf(170).String(), "fromBlock": "0x1"}},
			"-32602 invalid argument 0: cannot specify both", ""},
		{"eth_getTransactionReceipt", []any{wordOf(170).String()}, "null", ""},
		{"eth_getTransactionReceipt", []any{"0xaa"},
			"-32602 invalid argument 0: hex string has length 2, want 64 for hash", ""},
		{"eth_getBlockByNumber", []any{"0x77", false}, "null", ""},
		{"eth_getBlockByNumber", []any{"latest"}, "-32602 missing value for required argument 1", ""},
		{"eth_getBlockByNumber", []any{"newest", false}, "-32602 invalid argument 0", ""},
		{"eth_call", []any{map[string]any{"to": contract, "data": "0x5c975abb"}, "0x77"},
			"-32602 BlockOutOfRangeError: block height is 5 but requested was 119", "-32000 header not found"},
		{"eth_call", []any{map[string]any{"to": contract, "data": "0x5c975ab"}, "latest"}, "-32602 invalid argument 0", ""},
		{"eth_call", []any{map[string]any{"to": contract, "data": "0x01020304"}, "latest"},
			"3 execution reverted: custom error 0xc2a825f5", "3 execution reverted 0xc2a825f501020304"},
		{"eth_call", []any{map[string]any{"to": contract, "data": "0x3dc0d5fe"}, "latest"}, "3 execution reverted 0x", ""},
		{"eth_call", []any{map[string]any{"to": Account(7).String(), "data": "0x3dc0d5fe"}, "latest"}, "0x", ""},
		{"eth_getCode", []any{Account(7).String(), "latest"}, "0x", ""},
		{"eth_getCode", []any{contract, "latest"}, "0x60", ""},
		{"eth_chainId", nil, "0x7a69", ""},
		{"eth_chainId", []any{1}, "-32602 too many arguments", ""},
		{"net_version", nil, "31337", ""},
		{"eth_syncing", nil, "false", ""},
		{"eth_nosuch", nil, "-32601 Method not found", "-32601 the method eth_nosuch does not exist/is not available"},
		{"eth_feeHistory", []any{"0x5", "latest", []int{50}}, `{"baseFeePerBlobGas":["0x1`, ""},
	} {
		for _, node := range []struct {
			*Node
			want string
		}{{anvil, tt.anvil}, {geth, tt.geth}} {
			if node.want == "" {
				node.want = tt.anvil
			}
			if got := ask(t, node.Node, tt.method, tt.params...).text(); !strings.HasPrefix(got, node.want) {
				t.Errorf("%s %v: got %q, want %q", tt.method, tt.params, got, node.want)
			}
		}
	}
}

func TestRefusesMalformedRequests(t *testing.T) {
	n := open(t, Config{}).Node()
	for body, want := range map[string]string{
		`{`:                               "-32600",
		`[]`:                              "-32600",
		`{"id":1,"method":"eth_chainId"}`: "-32600",
		`{"jsonrpc":"2.0","method":"eth_chainId"}`:                    "-32600",
		`{"jsonrpc":"2.0","id":1}`:                                    "-32600",
		`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{}}`: "-32602",
		`[1]`: "-32600",
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x01c0"]}`: "transaction type not supported",
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02c0"]}`: "rlp: malformed",
	} {
		if got := string(post(t, n, []byte(body))); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`))
	w := httptest.NewRecorder()
	if n.ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("without a content type: status %d", w.Code)
	}
}

func TestRefusesTransactions(t *testing.T) {
	c := open(t, Config{Manual: true})
	anvil, geth := c.Node(), c.GethNode()
	first := signed(1, 0, func(tx *transaction) { tx.data = result(0, "") })
	if got := ask(t, anvil, "eth_sendRawTransaction", first).text(); !strings.HasPrefix(got, "0x") {
		t.Fatal(got)
	}
	for _, tt := range []struct {
		name, raw, anvil, geth string
	}{
		{"known", first, "-32003 transaction already imported", "-32000 already known"},
		{"replaced too cheaply", signed(1, 0, func(tx *transaction) { tx.cap = big.NewInt(11 * gwei) }),
			"-32003 replacement transaction underpriced", "-32000 replacement transaction underpriced"},
		{"another chain", signed(1, 1, func(tx *transaction) { tx.chain = 1 }),
			"-32003 invalid chain id", "-32000 invalid sender"},
		{"tip above cap", signed(1, 1, func(tx *transaction) { tx.tip = big.NewInt(11 * gwei) }),
			"-32003 max priority fee", "-32000 max priority fee"},
		{"cap below the base fee", signed(1, 1, func(tx *transaction) { tx.tip, tx.cap = big.NewInt(1), big.NewInt(2) }),
			"-32003 max fee per gas less than block base fee", "0x"}, // go-ethereum keeps it
		{"too little gas", signed(1, 5, func(tx *transaction) { tx.gas = 20_000 }),
			"-32000 intrinsic gas too low", "-32000 intrinsic gas too low"},
		{"less gas than the data's floor", signed(1, 5, func(tx *transaction) {
			tx.gas, tx.data = 200_000, []byte(strings.Repeat("x", 10_000))
		}), "-32003 insufficient gas for floor", "-32000 insufficient gas for floor"},
		{"too much gas", signed(1, 5, func(tx *transaction) { tx.gas = 1<<24 + 1 }),
			"-32003 transaction gas limit too high", "-32000 transaction gas limit too high"},
		{"a fee of 1.6 ether", signed(2, 5, func(tx *transaction) { tx.gas, tx.cap = 16_000_000, big.NewInt(100*gwei) }),
			"0x", "-32000 tx fee ("},
		{"too poor", signed(1, 5, func(tx *transaction) { tx.value = new(big.Int).Lsh(big.NewInt(1), 100) }),
			"-32003 Insufficient funds", "-32000 insufficient funds"},
		{"too large", signed(1, 5, func(tx *transaction) { tx.gas, tx.data = 16_000_000, make([]byte, 131_000) }),
			"-32000 oversized data", "-32000 oversized data"},
	} {
		for _, node := range []struct {
			*Node
			want string
		}{{anvil, tt.anvil}, {geth, tt.geth}} {
			if got := ask(t, node.Node, "eth_sendRawTransaction", tt.raw).text(); !strings.HasPrefix(got, node.want) {
				t.Errorf("%s: got %q, want %q", tt.name, got, node.want)
			}
		}
	}
	c.Mine(1)
	if got := ask(t, anvil, "eth_sendRawTransaction", signed(1, 0, nil)).text(); got != "-32003 nonce too low " {
		t.Errorf("a used nonce: %s", got)
	}
}

func count(t *testing.T, n *Node, account int, tag string) string {
	t.Helper()
	return ask(t, n, "eth_getTransactionCount", Account(account).String(), tag).text()
}

func TestPool(t *testing.T) {
	c := open(t, Config{})
	n := c.Node()
	for range 3 {
		if _, err := c.Submit(0, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	send := func(raw string) {
		t.Helper()
		if got := ask(t, n, "eth_sendRawTransaction", raw).text(); !strings.HasPrefix(got, "0x") {
			t.Fatal(got)
		}
	}
	answer := func(nonce, call uint64, bump int64) string {
		return signed(1, nonce, func(tx *transaction) {
			tx.data = result(call, "x")
			tx.tip, tx.cap = big.NewInt(gwei*bump), big.NewInt(10*gwei*bump)
		})
	}
	send(answer(2, 2, 1)) // there is a gap
	send(answer(1, 1, 1))
	if got := count(t, n, 1, "pending"); got != "0x0" {
		t.Errorf("pending nonce with a gap: %s", got)
	}
	if pooled := c.Pooled(); len(pooled) != 2 || pooled[0].Nonce != 1 {
		t.Errorf("pool: %+v", pooled)
	}
	c.Automine(false)
	send(answer(0, 0, 1))
	send(answer(0, 0, 2)) // replaces it
	if latest, pending := count(t, n, 1, "latest"), count(t, n, 1, "pending"); latest != "0x0" || pending != "0x3" {
		t.Errorf("nonces %s and %s", latest, pending)
	}
	c.Mine(1)
	mined := c.Mined(Account(1))
	if len(mined) != 3 || mined[0].Tip.Int64() != 2*gwei || !mined[0].Succeeded || mined[2].Nonce != 2 {
		t.Errorf("mined: %+v", mined)
	}
	if _, completed := c.Calls(0); completed != 3 {
		t.Errorf("%d calls completed", completed)
	}
	send(answer(3, 0, 1)) // it will revert
	c.Mine(1)
	mined = c.Mined(Account(1))
	if last := mined[3]; last.Succeeded || last.GasUsed < 21_000 || last.GasUsed > 200_000 {
		t.Errorf("a second answer: %+v", last)
	}
}

func TestReorganization(t *testing.T) {
	c := open(t, Config{})
	n := c.Node()
	for i := range 2 {
		if _, err := c.Submit(0, uint8(i), []byte("first")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Answer(2, 0, 1, []byte("out")); err != nil {
		t.Fatal(err)
	}
	head, hash := c.Head()
	c.Reorg(2, func(tx Transaction) bool { return tx.From == Account(2) }) // the answer without its call
	if again, other := c.Head(); again != head+1 || other == hash {
		t.Errorf("head %d %s, was %d %s", again, other, head, hash) // one more, for what came back
	}
	if all, _ := c.Calls(0); all != 1 {
		t.Errorf("%d calls", all)
	}
	if mined := c.Mined(Account(2)); len(mined) != 1 || mined[0].Succeeded {
		t.Errorf("the answer to the call that is gone: %+v", mined)
	}
	if got := ask(t, n, "eth_getLogs", map[string]any{"blockHash": hash.String()}).text(); got != "-32000 unknown block " {
		t.Errorf("logs of the old head: %s", got)
	}
	if id, err := c.Submit(0, 5, []byte("second")); id != 1 || err != nil {
		t.Errorf("the next call: %d, %v", id, err)
	}
	if err := c.Answer(2, 0, 1, []byte("out")); err != nil {
		t.Errorf("the new call 1: %v", err)
	}
	before, _ := c.Head()
	c.Reorg(3, nil)
	if all, completed := c.Calls(0); all != 2 || completed != 1 {
		t.Errorf("all came back: %d calls, %d completed", all, completed)
	}
	if head, _ := c.Head(); head <= before {
		t.Errorf("head %d, was %d", head, before)
	}
}

func TestNodeLags(t *testing.T) {
	c := open(t, Config{})
	good, behind := c.Node(), c.Node()
	behind.Set(func(f *Faults) { f.Lag = 2 })
	for i := range 4 {
		if _, err := c.Submit(0, 0, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	data := encoding{}.selector(selector("getJobCall(uint64,uint64)")).uint(0).uint(3)
	call := map[string]any{"to": Contract.String(), "data": hexBytes(data)}
	unknown := "0x" + strings.Repeat("0", 14*wordSize)
	if got := ask(t, good, "eth_call", call, "latest").text(); got == unknown {
		t.Error("the good node does not know the call")
	}
	if got := ask(t, behind, "eth_call", call, "latest").text(); got != unknown {
		t.Errorf("the node behind knows the call: %s", got)
	}
	if got := ask(t, behind, "eth_blockNumber").text(); got != "0x2" {
		t.Errorf("block %s", got)
	}
	if got := ask(t, behind, "eth_getBlockByNumber", "0x3", false).text(); got != "null" {
		t.Errorf("block 3: %s", got)
	}
	_, hash := c.Head()
	if got := ask(t, behind, "eth_getBlockByHash", hash.String(), false).text(); got != "null" {
		t.Errorf("the head: %s", got)
	}
	behind.Set(func(f *Faults) { *f = Faults{LogLag: 1} })
	filter := map[string]any{"fromBlock": "0x0", "toBlock": "latest"}
	logs := func(n *Node) (list []any) {
		must(t, json.Unmarshal([]byte(ask(t, n, "eth_getLogs", filter).text()), &list))
		return list
	}
	if all, some := len(logs(good)), len(logs(behind)); all != 4 || some != 3 {
		t.Errorf("%d and %d logs", all, some)
	}
}

func TestLogLimits(t *testing.T) {
	c := open(t, Config{})
	n := c.Node()
	c.Mine(20)
	url, err := n.Listen()
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[LogLimit]string{
		LimitRange:      `-32602`,
		LimitSuggestion: `this block range should work: [0x2, 0x6]`,
		LimitResults:    `-32005`,
		LimitProvider:   `-32614`,
		LimitServer:     `exceed maximum block range: 5`,
		LimitHTTP:       `413 Request Entity Too Large`,
		LimitBrokenBody: `error`,
		LimitNoAnswer:   `error`,
	} {
		n.Set(func(f *Faults) { *f = Faults{LogBlocks: 5, LogLimit: limit} })
		body := `{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x2","toBlock":"0x7"}]}`
		if got := over(t, url, body); !strings.Contains(got, want) {
			t.Errorf("limit %d: got %q, want %q", limit, got, want)
		}
		if got := over(t, url, strings.Replace(body, "0x7", "0x6", 1)); !strings.Contains(got, `"result":[]`) {
			t.Errorf("limit %d, within: %s", limit, got)
		}
	}
}

// over asks over a connection, and returns status and body.
func over(t *testing.T, url, body string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "error"
	}
	defer r.Body.Close()
	var out strings.Builder
	if _, err := fmt.Fprint(&out, r.Status, " "); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<20)
	for {
		n, err := r.Body.Read(buffer)
		out.Write(buffer[:n])
		if err != nil && err.Error() != "EOF" {
			return "error"
		} else if err != nil {
			return out.String()
		}
	}
}

func TestFaults(t *testing.T) {
	c := open(t, Config{Manual: true})
	n := c.Node()
	url, err := n.Listen()
	if err != nil {
		t.Fatal(err)
	}
	chainID := `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
	for name, tt := range map[string]struct {
		set  Faults
		want string
	}{
		"too many":  {Faults{TooMany: 1}, "429"},
		"throttled": {Faults{Throttled: 1}, "-32005"},
		"internal":  {Faults{Internal: 1}, "-32603"},
		"garbage":   {Faults{Garbage: 1}, "<html>"},
		"broken":    {Faults{Broken: 1}, "error"},
		"cut":       {Faults{Cut: 1}, "error"},
		"max":       {Faults{MaxAnswer: 10}, "error"},
		"slow":      {Faults{Latency: time.Millisecond}, "0x7a69"},
	} {
		n.Set(func(f *Faults) { *f = tt.set })
		if got := over(t, url, chainID); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	n.Set(func(f *Faults) { *f = Faults{LoseSent: 1} })
	send := func(nonce uint64) string {
		return over(t, url, `{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction",`+
			`"params":["`+signed(1, nonce, nil)+`"]}`)
	}
	if got := send(0); got != "error" || len(c.Pooled()) != 1 {
		t.Errorf("a lost answer: %s, %d in the pool", got, len(c.Pooled()))
	}
	n.Set(func(f *Faults) { *f = Faults{DropSent: 1} })
	if got := send(1); !strings.Contains(got, "0x") || len(c.Pooled()) != 1 {
		t.Errorf("a dropped transaction: %s, %d in the pool", got, len(c.Pooled()))
	}
	if n := c.Evict(nil); n != 1 || len(c.Pooled()) != 0 {
		t.Errorf("%d evicted", n)
	}
	outcomes := func() (all string) {
		n.Set(func(f *Faults) { *f = Faults{Seed: 7} })
		n.Set(func(f *Faults) { *f = Faults{Random: 0.5, Seed: 8} })
		for range 40 {
			if strings.Contains(over(t, url, chainID), "0x7a69") {
				all += "+"
			} else {
				all += "-"
			}
		}
		return all
	}
	first := outcomes()
	if again := outcomes(); again != first || strings.Count(first, "+") < 8 || strings.Count(first, "-") < 8 {
		t.Errorf("random faults: %s, then %s", first, again)
	}
}

func TestServiceEnds(t *testing.T) {
	c := open(t, Config{})
	short := c.AddService(Service{TTL: 3600})
	for _, service := range []uint64{0, short} {
		if _, err := c.Submit(service, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	dry := func(account int, service uint64) string {
		data := encoding{}.selector(selector("submitResult(uint64,uint64,bytes)")).uint(service).uint(0).
			uint(3 * wordSize).uint(0)
		r := ask(t, c.GethNode(), "eth_call", map[string]any{"from": Account(account).String(), "to": Contract.String(),
			"data": hexBytes(data)}, "latest")
		if r.Error != nil {
			return r.Error.Data[:10]
		}
		return "ok"
	}
	expect := func(what string, account int, service uint64, want string) {
		t.Helper()
		if got := dry(account, service); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("at first", 1, short, "ok")
	c.Advance(3600 * time.Second)
	c.Mine(1)
	expect("ttl reached", 1, short, "ok")
	c.Advance(2 * time.Second)
	c.Mine(1)
	expect("ttl over", 1, short, "0x7c3e621b")
	must(t, c.Pause())
	expect("paused", 1, short, "0xd93c0665")
	must(t, c.Unpause())
	must(t, c.Leave(2, 0))
	expect("left", 2, 0, "0x783482e9")
	c.Stake(Account(1), false)
	expect("not staked", 1, 0, "0xe356d5aa")
	c.Stake(Account(1), true)
	must(t, c.Terminate(0))
	expect("terminated", 1, 0, "0x4c5fe2d8")
	pending := c.AddService(Service{Pending: true})
	if _, err := c.Submit(pending, 0, nil); err == nil || !strings.Contains(err.Error(), "0x4c5fe2d8") {
		t.Errorf("a call of a pending service: %v", err)
	}
	must(t, c.Activate(pending))
	must(t, c.Join(4, pending))
	if _, err := c.Submit(pending, 0, nil); err != nil {
		t.Error(err)
	}
	expect("joined", 4, pending, "ok")
}

func TestQuotedAndPaid(t *testing.T) {
	c := open(t, Config{})
	b := c.AddBlueprint(Blueprint{Definition: withJobs(2), Rate: big.NewInt(1000)})
	s := c.AddService(Service{Blueprint: b, PerJob: true})
	if id, err := c.SubmitQuoted(s, 1, []byte("in"), 500, Account(1)); id != 0 || err != nil {
		t.Fatal(id, err)
	}
	if err := c.Answer(2, s, 0, nil); err == nil || !strings.Contains(err.Error(), "0xa32a5d1c") {
		t.Errorf("one who was not quoted: %v", err)
	}
	must(t, c.Answer(1, s, 0, []byte("out")))
	if _, err := c.Submit(s, 0, nil); err != nil {
		t.Fatal(err)
	}
	must(t, c.Answer(2, s, 1, nil))
	if one, two := c.Rewards(Account(1)), c.Rewards(Account(2)); one.Int64() != 200+200 || two.Int64() != 200 {
		t.Errorf("rewards %v and %v", one, two)
	}
	must(t, c.as(1, encoding{}.selector(selector("claimRewards()"))))
	if left := c.Rewards(Account(1)); left.Sign() != 0 {
		t.Errorf("%v left", left)
	}
}

func TestMinesInAnInterval(t *testing.T) {
	c := open(t, Config{Every: time.Millisecond})
	if _, err := c.Submit(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	for {
		if all, _ := c.Calls(0); all == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
