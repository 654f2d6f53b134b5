package chain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// signer signs with a development account's key.
type signer int

func (s signer) Address() [20]byte { return devchain.Account(int(s)) }

func (s signer) Sign(_ context.Context, digest [32]byte) (sig [65]byte, _ error) {
	compact := secp.SignCompact(secp256k1.PrivKeyFromBytes(devchain.Key(int(s))), digest[:], false)
	copy(sig[:], compact[1:])
	sig[64] = compact[0] - 27
	return sig, nil
}

func newChain(t testing.TB, cfg devchain.Config) *devchain.Chain {
	t.Helper()
	dev := devchain.New(cfg)
	t.Cleanup(dev.Close)
	return dev
}

func listen(t testing.TB, n *devchain.Node) string {
	t.Helper()
	url, err := n.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func open(t testing.TB, cfg chain.Config) *chain.Chain {
	t.Helper()
	c, err := chain.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var jobLogs = chain.LogQuery{Topics: [][]chain.Word{
	{chain.TopicJobSubmitted, chain.TopicJobSubmittedByQuote}, {chain.WordOf(0)}}}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestTheViewsOfAService(t *testing.T) {
	dev := newChain(t, devchain.Config{})
	c := open(t, chain.Config{URLs: []string{listen(t, dev.Node())}})
	ctx := t.Context()
	blueprint := dev.AddBlueprint(devchain.Blueprint{KeyProof: true, Definition: tangle.Definition{
		Jobs: []tangle.Job{{Name: "a"}, {ResultSchema: []byte{2, 0, 0}}}},
		Rules: map[uint8]devchain.Rules{1: {Aggregate: true, Threshold: 5000, Results: 2}}})
	service := dev.AddService(devchain.Service{Blueprint: blueprint, TTL: 7200})
	if c.ID() != 31337 || c.Contract() != devchain.Contract {
		t.Errorf("chain %d, contract %s", c.ID(), c.Contract())
	}
	s := must[chain.Service](t)(c.Service(ctx, service))
	if s.Blueprint != blueprint || s.TTL != 7200 || s.Operators != 2 || s.Status != 1 || s.CreatedAt == 0 {
		t.Errorf("%+v", s)
	}
	operators := must[[]chain.Address](t)(c.ServiceOperators(ctx, service))
	if diff := cmp.Diff([]chain.Address{devchain.Account(1), devchain.Account(2)}, operators); diff != "" {
		t.Error(diff)
	}
	for i := range 4 {
		if got, err := c.IsServiceOperator(ctx, service, devchain.Account(i)); err != nil || got != (i == 1 || i == 2) {
			t.Errorf("account %d is an operator: %t, %v", i, got, err)
		}
	}
	call := must[uint64](t)(dev.SubmitQuoted(service, 0, []byte("x"), 7, devchain.Account(2)))
	jobCall := must[chain.JobCall](t)(c.JobCall(ctx, service, call))
	if !jobCall.RFQ || jobCall.Completed || jobCall.Payment.Int64() != 7 || jobCall.CreatedAt == 0 {
		t.Errorf("%+v", jobCall)
	}
	jobs := must[[]tangle.Job](t)(c.Jobs(ctx, blueprint))
	if len(jobs) != 2 || len(jobs[1].ResultSchema) != 3 {
		t.Errorf("%+v", jobs)
	}
	rules := must[[]chain.JobRules](t)(c.JobRules(ctx, service, []uint8{0, 1}))
	want := []chain.JobRules{{Threshold: 6700, Results: 1}, {Aggregated: true, Threshold: 5000, Results: 2}}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Error(diff)
	}
	if rules = must[[]chain.JobRules](t)(c.JobRules(ctx, 0, []uint8{0})); rules[0] != want[0] {
		t.Errorf("without a manager: %+v", rules)
	}
	registry := must[chain.Address](t)(c.StatusRegistry(ctx))
	if h, err := c.HeartbeatConfig(ctx, registry, service); err != nil || h.Interval != 300 || h.MaxMissed != 3 {
		t.Errorf("%+v, %v", h, err)
	}
	for what, got := range map[string]func() (bool, error){
		"registered": func() (bool, error) { return c.IsOperatorRegistered(ctx, blueprint, devchain.Account(1)) },
		"key proof":  func() (bool, error) { return c.RequiresKeyProof(ctx) },
		"paused": func() (bool, error) {
			if err := dev.Pause(); err != nil {
				return false, err
			}
			return c.Paused(ctx)
		},
	} {
		if yes, err := got(); err != nil || !yes {
			t.Errorf("%s: %t, %v", what, yes, err)
		}
	}
	if gas, err := c.HookGasLimit(ctx); err != nil || gas != 500_000 {
		t.Errorf("hooks may use %d, %v", gas, err)
	}
	operator := devchain.Account(1)
	if rewards, err := c.PendingRewards(ctx, operator); err != nil || rewards.Cmp(dev.Rewards(operator)) != 0 {
		t.Errorf("rewards %v, %v", rewards, err)
	}
}

func TestBlocksAndLogsOfTheChain(t *testing.T) {
	for name, node := range map[string]func(*devchain.Chain) *devchain.Node{
		"anvil": (*devchain.Chain).Node, "geth": (*devchain.Chain).GethNode} {
		t.Run(name, func(t *testing.T) { blocksAndLogs(t, node) })
	}
}

func blocksAndLogs(t *testing.T, node func(*devchain.Chain) *devchain.Node) {
	dev := newChain(t, devchain.Config{})
	n := node(dev)
	c := open(t, chain.Config{URLs: []string{listen(t, n)}})
	ctx := t.Context()
	first := must[chain.Block](t)(c.Head(ctx))
	for i := range 3 {
		must[uint64](t)(dev.Submit(0, uint8(i), []byte{byte(i)}))
	}
	head := must[chain.Block](t)(c.Head(ctx))
	number, hash := dev.Head()
	if head.Number != number || head.Hash != hash || head.Number != first.Number+3 || head.BaseFee == nil {
		t.Errorf("head %+v, want %d %s", head, number, hash)
	}
	if b, err := c.BlockAt(ctx, head.Number-1); err != nil || b.Hash != head.Parent {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := c.BlockAt(ctx, head.Number+1); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("the block beyond the head: %v", err)
	}
	logs := must[[]chain.Log](t)(c.Logs(ctx, jobLogs, first.Number, head.Number, head.Hash))
	if len(logs) != 3 {
		t.Fatalf("%d logs", len(logs))
	}
	for i, l := range logs {
		s, err := chain.ParseSubmitted(l)
		if err != nil || s.Call != uint64(i) || s.Job != uint8(i) || string(s.Inputs) != string(rune(i)) {
			t.Errorf("%+v, %v", s, err)
		}
		same := must[[]chain.Log](t)(c.LogsOfBlock(ctx, jobLogs, l.BlockHash))
		if diff := cmp.Diff(logs[i:i+1], same); diff != "" {
			t.Error(diff)
		}
	}
	dev.Reorg(2, nil)
	if _, err := c.Logs(ctx, jobLogs, first.Number, head.Number, head.Hash); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("after a reorg: %v", err)
	}
	if _, err := c.LogsOfBlock(ctx, jobLogs, head.Hash); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("a block that is gone: %v", err)
	}
	_, before := n.Requests()
	if _, err := c.Logs(ctx, jobLogs, first.Number, head.Number+9, chain.Word{}); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("beyond the head: %v", err)
	}
	if _, err := c.Logs(ctx, jobLogs, head.Number+5, head.Number+9, chain.Word{}); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("beyond the head from the start: %v", err)
	}
	if _, after := n.Requests(); after["eth_getLogs"]-before["eth_getLogs"] != 2 {
		t.Errorf("%d queries for blocks that are not there yet", after["eth_getLogs"]-before["eth_getLogs"])
	}
}

// Whatever words a node uses for "fewer blocks", it gets fewer, and nothing is lost between them.
func TestWindowsAdaptToEachNode(t *testing.T) {
	const jobs = 40
	dev := newChain(t, devchain.Config{})
	for i := range jobs {
		must[uint64](t)(dev.Submit(0, 0, []byte{byte(i)}))
		dev.Mine(i % 4)
	}
	number, hash := dev.Head()
	for name, limit := range map[string]func(*devchain.Faults){
		"range":       func(f *devchain.Faults) { f.LogBlocks, f.LogLimit = 7, devchain.LimitRange },
		"suggestion":  func(f *devchain.Faults) { f.LogBlocks, f.LogLimit = 7, devchain.LimitSuggestion },
		"results":     func(f *devchain.Faults) { f.LogResults, f.LogLimit = 3, devchain.LimitResults },
		"provider":    func(f *devchain.Faults) { f.LogBlocks, f.LogLimit = 1, devchain.LimitProvider },
		"server":      func(f *devchain.Faults) { f.LogBlocks, f.LogLimit = 7, devchain.LimitServer },
		"HTTP":        func(f *devchain.Faults) { f.LogResults, f.LogLimit = 3, devchain.LimitHTTP },
		"broken body": func(f *devchain.Faults) { f.LogResults, f.LogLimit = 5, devchain.LimitBrokenBody },
		"no answer":   func(f *devchain.Faults) { f.LogResults, f.LogLimit = 20, devchain.LimitNoAnswer },
		"no batches":  func(f *devchain.Faults) { f.LogResults, f.NoBatch = 3, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := dev.Node()
			c := open(t, chain.Config{URLs: []string{listen(t, n)}})
			n.Set(limit)
			logs, err := c.Logs(t.Context(), jobLogs, 0, number, hash)
			if err != nil || len(logs) != jobs {
				t.Fatalf("%d logs, %v", len(logs), err)
			}
			for i, l := range logs {
				if s, err := chain.ParseSubmitted(l); err != nil || s.Call != uint64(i) {
					t.Errorf("log %d is of call %d, %v", i, s.Call, err)
				}
			}
		})
	}
}

// A node that wants fewer requests gets the same query again, later, and not two of half the size.
func TestThrottlingSplitsNothing(t *testing.T) {
	dev := newChain(t, devchain.Config{})
	must[uint64](t)(dev.Submit(0, 0, nil))
	number, hash := dev.Head()
	for name, fault := range map[string]func(*devchain.Faults){
		"HTTP 429": func(f *devchain.Faults) { f.TooMany = 2 },
		"-32005":   func(f *devchain.Faults) { f.Throttled = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := dev.Node()
			c := open(t, chain.Config{URLs: []string{listen(t, n)}})
			_, before := n.Requests()
			n.Set(fault)
			if logs, err := c.Logs(t.Context(), jobLogs, 0, number, hash); err != nil || len(logs) != 1 {
				t.Fatalf("%d logs, %v", len(logs), err)
			}
			if _, calls := n.Requests(); calls["eth_getLogs"]-before["eth_getLogs"] > 3 {
				t.Errorf("%d queries", calls["eth_getLogs"]-before["eth_getLogs"])
			}
		})
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	one, other := newChain(t, devchain.Config{}), newChain(t, devchain.Config{ID: 84532})
	elsewhere := devchain.Account(9)
	down := one.Node()
	down.Set(func(f *devchain.Faults) { f.Down = true })
	for name, test := range map[string]struct {
		urls []string
		cfg  chain.Config
		kind error
		text string
	}{
		"no URL": {nil, chain.Config{}, rpc.ErrConfig, "no RPC URL is given"},
		"no contract": {[]string{listen(t, one.Node())}, chain.Config{Contract: &elsewhere},
			tangle.ErrNoContract, elsewhere.String()},
		"two chains": {[]string{listen(t, one.Node()), listen(t, other.Node())}, chain.Config{},
			tangle.ErrConfig, "31337"},
		"wrong chain": {[]string{listen(t, one.Node())}, chain.Config{ChainID: 1},
			tangle.ErrConfig, "chain id 31337, not 1"},
		"nobody there": {[]string{listen(t, down)}, chain.Config{}, rpc.ErrUnreachable, "node http://127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cfg.URLs = test.urls
			c, err := chain.Open(t.Context(), test.cfg)
			if c != nil || !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A node of another chain, one that is down and one that is far behind are not used, and told; the
// good one is.
func TestOnlyFitNodesAreUsed(t *testing.T) {
	var clock time.Duration
	start := time.Now()
	dev := newChain(t, devchain.Config{Now: func() time.Time { return start.Add(clock) }})
	foreign, down, behind, good := newChain(t, devchain.Config{ID: 84532}).Node(), dev.Node(), dev.Node(), dev.Node()
	down.Set(func(f *devchain.Faults) { f.Down = true })
	c := open(t, chain.Config{ChainID: 31337,
		URLs: []string{listen(t, foreign), listen(t, down), listen(t, behind), listen(t, good)}})
	for range 10 {
		clock += 10 * time.Second
		dev.Mine(1)
	}
	behind.Set(func(f *devchain.Faults) { f.Lag = 8 })
	number, _ := dev.Head()
	// It becomes known as soon as the other node has been asked as well.
	if head, err := c.Head(t.Context()); err != nil || head.Number < number-8 {
		t.Fatalf("%+v, %v", head, err)
	}
	deadline := time.Now().Add(30 * time.Second) // only a guard
	for {
		nodes := c.Nodes()
		if nodes[3].Head == number && !nodes[2].Usable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", nodes)
		}
		if _, err := c.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	nodes := c.Nodes()
	for i, want := range []string{"is of chain id 84532, not 31337", "", "is behind: its block", ""} {
		if nodes[i].Usable != (i == 3) || !strings.Contains(nodes[i].Problem, want) {
			t.Errorf("node %d: %+v", i, nodes[i])
		}
	}
	_, before := foreign.Requests()
	if nonce, err := c.Nonce(t.Context(), devchain.Account(0)); err != nil {
		t.Errorf("nonce %d, %v", nonce, err)
	}
	if head, err := c.Head(t.Context()); err != nil || head.Number != number {
		t.Errorf("head %d, %v, want %d", head.Number, err, number)
	}
	if _, after := foreign.Requests(); after["eth_getTransactionCount"] != before["eth_getTransactionCount"] {
		t.Error("the node of another chain was asked for a nonce")
	}
	// What is behind is better than nothing.
	good.Stop()
	if head, err := c.Head(t.Context()); err != nil || head.Number != number-8 {
		t.Errorf("with only the node that is behind: head %d, %v", head.Number, err)
	}
	behind.Stop()
	if _, err := c.Head(t.Context()); err == nil || !strings.Contains(err.Error(), "none of 4 nodes can be used") ||
		!strings.Contains(err.Error(), "is of chain id 84532") {
		t.Errorf("with none: %v", err)
	}
}

func TestSentTransactions(t *testing.T) {
	dev := newChain(t, devchain.Config{})
	one, two := dev.Node(), dev.Node()
	c := open(t, chain.Config{URLs: []string{listen(t, one), listen(t, two)}})
	ctx := t.Context()
	from := signer(1)
	fees := must[chain.Fees](t)(c.Fees(ctx))
	send := func(nonce uint64, change func(*tx.Tx)) (chain.Word, error) {
		out := &tx.Tx{ChainID: c.ID(), Nonce: nonce, Tip: fees.Tip,
			Cap: new(big.Int).Add(fees.Tip, new(big.Int).Lsh(fees.BaseFee, 1)), Gas: 1_000_000,
			To: c.Contract(), Data: chain.ClaimRewards()}
		if change != nil {
			change(out)
		}
		raw, hash, err := out.Sign(ctx, from)
		if err != nil {
			t.Fatal(err)
		}
		return hash, c.SendRaw(ctx, raw)
	}
	nonce := must[uint64](t)(c.Nonce(ctx, from.Address()))
	dev.Automine(false)
	hash, err := send(nonce, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Receipt(ctx, hash); r != nil || err != nil {
		t.Errorf("the receipt of a transaction in the pool: %+v, %v", r, err)
	}
	if _, err := send(nonce, nil); !errors.Is(err, chain.ErrAlreadyKnown) {
		t.Errorf("again: %v", err)
	}
	if _, err := send(nonce, func(t *tx.Tx) { t.Gas++ }); !errors.Is(err, chain.ErrUnderpriced) {
		t.Errorf("another one at the same price: %v", err)
	}
	dev.Mine(1)
	r := must[*chain.Receipt](t)(c.Receipt(ctx, hash))
	if r == nil || r.Tx != hash || r.GasUsed == 0 || r.GasPrice.Sign() <= 0 {
		t.Errorf("%+v", r)
	}
	if _, err := send(nonce, func(t *tx.Tx) { t.Gas++ }); !errors.Is(err, chain.ErrNonceTooLow) {
		t.Errorf("a used nonce: %v", err)
	}
	if _, err := send(nonce+1, func(t *tx.Tx) { t.Gas = 21_000 }); !errors.Is(err, chain.ErrGasLimit) {
		t.Errorf("too little gas: %v", err)
	}
	cheap := func(t *tx.Tx) { t.Cap, t.Tip = big.NewInt(1), big.NewInt(0) }
	if _, err := send(nonce+1, cheap); !errors.Is(err, chain.ErrFeeTooLow) {
		t.Errorf("below the base fee: %v", err)
	}
	generous := func(t *tx.Tx) { t.Value = new(big.Int).Lsh(big.NewInt(1), 120) }
	if _, err := send(nonce+1, generous); !errors.Is(err, chain.ErrNoFunds) {
		t.Errorf("more than there is: %v", err)
	}
	two.Stop()
	one.Set(func(f *devchain.Faults) { f.LoseSent = 1 })
	if _, err := send(nonce+1, nil); !errors.Is(err, chain.ErrSendUncertain) {
		t.Errorf("a lost answer: %v", err)
	}
	if len(dev.Pooled()) != 1 {
		t.Errorf("pool %v", dev.Pooled())
	}
	if _, err := send(nonce+2, nil); err != nil {
		t.Errorf("with one node: %v", err)
	}
	one.Stop()
	if _, err := c.Balance(ctx, from.Address()); err == nil { // no connection is left that could break in the middle
		t.Error("a node that was stopped answered")
	}
	if _, err := send(nonce+3, nil); err == nil || errors.Is(err, chain.ErrSendUncertain) {
		t.Errorf("nobody can have it: %v", err)
	}
}

func TestRefusedCalls(t *testing.T) {
	dev := newChain(t, devchain.Config{})
	c := open(t, chain.Config{URLs: []string{listen(t, dev.Node())}})
	call := must[uint64](t)(dev.Submit(0, 0, nil))
	result := func(from chain.Address, call uint64) chain.Call {
		return chain.Call{From: from, To: c.Contract(), Data: chain.SubmitResult(0, call, nil)}
	}
	operator, stranger := devchain.Account(1), devchain.Account(7)
	errs, err := c.DryRun(t.Context(), []chain.Call{
		result(operator, call), result(stranger, call), result(operator, call+1)})
	if err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	var revert *chain.Revert
	want := fmt.Sprintf("the contract reverts: OperatorNotInService(0, %s)", stranger)
	if !errors.As(errs[1], &revert) || revert.Selector != chain.RevertOperatorNotInService || revert.Error() != want {
		t.Errorf("%v", errs[1])
	}
	if !errors.As(errs[2], &revert) || revert.Selector != chain.RevertJobCallNotFound {
		t.Errorf("%v", errs[2])
	}
	if _, err := c.EstimateGas(t.Context(), result(stranger, call)); !errors.As(err, &revert) {
		t.Errorf("the estimate of what fails: %v", err)
	}
	if gas, err := c.EstimateGas(t.Context(), result(operator, call)); err != nil || gas < 21_000 {
		t.Errorf("an estimate of %d, %v", gas, err)
	}
	if _, err := c.Call(t.Context(), result(stranger, call)); !errors.As(err, &revert) {
		t.Errorf("a call that fails: %v", err)
	}
}

// The order of the words is found out for both generations, whatever the calls cost, and found out
// again when the contract is upgraded in place.
func TestBothOrdersOfAJobCall(t *testing.T) {
	for _, old := range []bool{false, true} {
		for _, perJob := range []bool{false, true} {
			t.Run(fmt.Sprintf("old %t, paid %t", old, perJob), func(t *testing.T) {
				t.Parallel()
				dev := newChain(t, devchain.Config{OldLayout: old})
				blueprint := dev.AddBlueprint(devchain.Blueprint{Rate: big.NewInt(1000),
					Definition: tangle.Definition{Jobs: make([]tangle.Job, 2)}})
				service := dev.AddService(devchain.Service{Blueprint: blueprint, PerJob: perJob})
				c := open(t, chain.Config{URLs: []string{listen(t, dev.Node())}})
				checkCalls(t, c, dev, service)
			})
		}
	}
	older, newer := newChain(t, devchain.Config{OldLayout: true}), newChain(t, devchain.Config{})
	current := older.Node()
	upgraded := func(w http.ResponseWriter, r *http.Request) { current.ServeHTTP(w, r) }
	c := open(t, chain.Config{URLs: []string{serve(t, http.HandlerFunc(upgraded))}})
	checkCalls(t, c, older, 0)
	current = newer.Node()
	checkCalls(t, c, newer, 0)
	current = older.Node()
	checkCalls(t, c, older, 0)
}

// checkCalls makes calls of all sorts and reads them one by one and together.
func checkCalls(t *testing.T, c *chain.Chain, dev *devchain.Chain, service uint64) {
	t.Helper()
	first, _ := dev.Calls(service)
	for i := range 6 {
		var id uint64
		if i%3 == 2 {
			id = must[uint64](t)(dev.SubmitQuoted(service, 0, nil, uint64(i/4), devchain.Account(1)))
		} else {
			id = must[uint64](t)(dev.Submit(service, 0, nil))
		}
		if i >= 3 {
			if err := dev.Answer(1, service, id, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids := make([]uint64, 7)
	for i := range ids {
		ids[i] = first + uint64(len(ids)-1-i) // the one that does not exist is the first
	}
	check := func(id uint64, call chain.JobCall) {
		i := id - first
		if i == 6 {
			if call.CreatedAt != 0 || call.Completed {
				t.Errorf("call %d: %+v", id, call)
			}
			return
		}
		if call.CreatedAt == 0 || call.Completed != (i >= 3) || call.RFQ != (i%3 == 2) {
			t.Errorf("call %d: %+v", id, call)
		}
	}
	for _, id := range ids {
		check(id, must[chain.JobCall](t)(c.JobCall(t.Context(), service, id)))
	}
	for i, call := range must[[]chain.JobCall](t)(c.JobCalls(t.Context(), service, ids)) {
		check(ids[i], call)
	}
}

// What a node answers that was not asked for is not believed: the next node is asked.
func TestFalseAnswersAreNotBelieved(t *testing.T) {
	dev := newChain(t, devchain.Config{})
	dev.Mine(3)
	must[uint64](t)(dev.Submit(0, 0, []byte("true")))
	good := listen(t, dev.Node())
	honest := open(t, chain.Config{URLs: []string{good}})
	number, hash := dev.Head()
	want := must[[]chain.Log](t)(honest.Logs(t.Context(), jobLogs, number, number, hash))
	text := func(s fmt.Stringer) string { return strings.TrimPrefix(s.String(), "0x") }
	for name, change := range map[string][2]string{
		"another contract": {text(devchain.Contract), text(devchain.Registry)},
		"another topic":    {text(chain.TopicJobSubmitted), text(chain.TopicJobCompleted)},
		"another service":  {`","0x` + text(chain.WordOf(0)), `","0x` + text(chain.WordOf(5))},
		"another block":    {fmt.Sprintf(`"blockNumber":"0x%x"`, number), `"blockNumber":"0x1"`},
		"cut":              {`"data":"0x`, `"data":"0x0`},
		"no index":         {`"logIndex"`, `"index"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := dev.Node()
			changed := false
			liar := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				rec := httptest.NewRecorder()
				n.ServeHTTP(rec, r)
				answer := rec.Body.String()
				if strings.Contains(string(body), "eth_getLogs") {
					changed = changed || strings.Contains(answer, change[0])
					answer = strings.ReplaceAll(answer, change[0], change[1])
				}
				_, _ = io.WriteString(w, answer)
			}))
			c := open(t, chain.Config{URLs: []string{liar, good}})
			got, err := c.Logs(t.Context(), jobLogs, number, number, hash)
			if err != nil || !changed {
				t.Fatalf("changed %t, %v", changed, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			alone := open(t, chain.Config{URLs: []string{liar}})
			if got, err := alone.Logs(t.Context(), jobLogs, number, number, hash); err == nil {
				t.Errorf("believed %+v", got)
			}
		})
	}
}

func TestOnlyANodeWithTheBlockSaysWhenACallWasMade(t *testing.T) {
	t.Parallel()
	dev := newChain(t, devchain.Config{})
	must[uint64](t)(dev.Submit(0, 0, []byte("first")))
	behind, other := dev.Node(), dev.Node()
	c := open(t, chain.Config{URLs: []string{listen(t, behind), listen(t, other)}, ChainID: 31337})
	must[uint64](t)(dev.Submit(0, 0, []byte("second")))
	head := must[chain.Block](t)(c.Head(t.Context()))
	behind.Set(func(f *devchain.Faults) { f.Lag = 1 })
	for call, want := range []bool{true, true, false} {
		at, err := c.CreatedAt(t.Context(), 0, uint64(call), head)
		if err != nil || at != 0 != want || want && at > head.Time {
			t.Errorf("call %d was made at %d, %v", call, at, err)
		}
	}
	other.Set(func(f *devchain.Faults) { f.Lag = 1 })
	if at, err := c.CreatedAt(t.Context(), 0, 1, head); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("nodes that are behind: %d, %v", at, err)
	}
	for _, n := range []*devchain.Node{behind, other} {
		n.Set(func(f *devchain.Faults) { f.Lag = 0 })
	}
	dev.Reorg(1, nil)
	if at, err := c.CreatedAt(t.Context(), 0, 1, head); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("a block that was replaced: %d, %v", at, err)
	}
}
