package oracle

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// events is the ABI of what the contract emits: as it does, not as the published ABI says.
const events = `[
{"type":"event","name":"JobSubmitted","inputs":[{"type":"uint64","name":"serviceId","indexed":true},
	{"type":"uint64","name":"callId","indexed":true},{"type":"uint8","name":"jobIndex"},{"type":"address","name":"caller"},
	{"type":"bytes","name":"inputs"}]},
{"type":"event","name":"JobSubmittedFromQuote","inputs":[{"type":"uint64","name":"serviceId","indexed":true},
	{"type":"uint64","name":"callId","indexed":true},{"type":"uint8","name":"jobIndex"},{"type":"address","name":"caller"},
	{"type":"address[]","name":"quotedOperators"},{"type":"uint256","name":"totalPrice"},
	{"type":"bytes","name":"inputs"}]},
{"type":"event","name":"JobResultSubmitted","inputs":[{"type":"uint64","name":"serviceId","indexed":true},
	{"type":"uint64","name":"callId","indexed":true},{"type":"address","name":"operator","indexed":true},
	{"type":"bytes","name":"output"}]}]`

func (w *world) open() *chain.Chain {
	w.Helper()
	c, err := chain.Open(w.Context(), chain.Config{URLs: []string{w.url}, Contract: (*chain.Address)(&w.contract)})
	must(w.T, err)
	w.Cleanup(c.Close)
	return c
}

// eachWorld runs a test in every world.
func eachWorld(t *testing.T, test func(w *world)) {
	for name, begin := range worlds {
		t.Run(name, func(t *testing.T) { test(begin(t)) })
	}
}

func TestLogsAreWhatGoEthereumDecodes(t *testing.T) {
	spec, err := abi.JSON(strings.NewReader(events))
	must(t, err)
	eachWorld(t, func(w *world) {
		t := w.T
		random := rand.New(rand.NewPCG(9, 10))
		const calls = 12
		for call := range uint64(calls) {
			inputs := randomBytes(random, []int{0, 1, 31, 32, 33, 100, 5000}[random.IntN(7)])
			if job := uint8(call % 5); call%4 == 3 {
				w.quoted(0, job, inputs, 1, 2)
			} else {
				w.call(0, "submitJob(uint64,uint8,bytes)", uint64(0), job, inputs)
			}
			output := randomBytes(random, random.IntN(100))
			w.call(1+int(call%2), "submitResult(uint64,uint64,bytes)", uint64(0), call, output)
		}
		c := w.open()
		head, err := c.Head(t.Context())
		must(t, err)
		logs, err := c.Logs(t.Context(), chain.LogQuery{}, 0, head.Number, head.Hash)
		must(t, err)
		theirs, err := w.client.FilterLogs(t.Context(), ethereum.FilterQuery{Addresses: []common.Address{w.contract},
			FromBlock: new(big.Int)})
		must(t, err)
		if len(logs) != len(theirs) || len(logs) < 2*calls {
			t.Fatalf("%d logs, go-ethereum reads %d", len(logs), len(theirs))
		}
		parsed := 0
		for i, l := range theirs {
			ours := logs[i]
			if ours.Block != l.BlockNumber || common.Hash(ours.BlockHash) != l.BlockHash || common.Hash(ours.Tx) != l.TxHash ||
				uint(ours.Index) != l.Index || !bytes.Equal(ours.Data, l.Data) || len(ours.Topics) != len(l.Topics) {
				t.Errorf("log %d: %+v, go-ethereum reads %+v", i, ours, l)
			}
			parsed += compareEvent(t, &spec, ours, l)
		}
		if parsed != 2*calls {
			t.Errorf("%d events were compared, want %d", parsed, 2*calls)
		}
		compareCalls(w, c, calls)
	})
}

// compareEvent compares what an event is decoded to, and returns how many events it knew.
func compareEvent(t *testing.T, spec *abi.ABI, ours chain.Log, theirs types.Log) int {
	t.Helper()
	event, err := spec.EventByID(theirs.Topics[0])
	if err != nil {
		return 0
	}
	values := map[string]any{}
	must(t, event.Inputs.UnpackIntoMap(values, theirs.Data))
	service, call := theirs.Topics[1].Big().Uint64(), theirs.Topics[2].Big().Uint64()
	if event.Name == "JobResultSubmitted" {
		got, err := chain.ParseResult(ours)
		must(t, err)
		if got.Service != service || got.Call != call || !bytes.Equal(got.Output, values["output"].([]byte)) ||
			common.Address(got.Operator) != common.BytesToAddress(theirs.Topics[3][12:]) {
			t.Errorf("result %+v, want %v", got, values)
		}
		return 1
	}
	got, err := chain.ParseSubmitted(ours)
	must(t, err)
	if got.Service != service || got.Call != call || got.Job != values["jobIndex"].(uint8) ||
		common.Address(got.Caller) != values["caller"].(common.Address) ||
		!bytes.Equal(got.Inputs, values["inputs"].([]byte)) {
		t.Errorf("submitted %+v, want %v", got, values)
	}
	quoted, _ := values["quotedOperators"].([]common.Address)
	if len(quoted) != len(got.Quoted) {
		t.Fatalf("quoted %v, want %v", got.Quoted, quoted)
	}
	for i, operator := range quoted {
		if common.Address(got.Quoted[i]) != operator {
			t.Errorf("quoted %v, want %v", got.Quoted, quoted)
		}
	}
	return 1
}

// compareCalls compares the typed reads with what go-ethereum's client says.
func compareCalls(w *world, c *chain.Chain, calls uint64) {
	t, ctx := w.T, w.Context()
	for call := range calls + 1 {
		got, err := c.JobCall(ctx, 0, call)
		must(t, err)
		raw, err := hex.DecodeString(strings.TrimPrefix(w.ask(0, "getJobCall(uint64,uint64)", uint64(0), call), "result "))
		must(t, err)
		word := func(i int) *big.Int { return new(big.Int).SetBytes(raw[32*i : 32*i+32]) }
		yes := func(i int) bool { return word(i).Sign() != 0 }
		if uint64(got.Job) != word(0).Uint64() || got.CreatedAt != word(2).Uint64() || got.Completed != yes(4) ||
			got.RFQ != yes(5) || uint64(got.ResultCount) != word(3).Uint64() {
			t.Errorf("call %d: %+v, want %x", call, got, raw)
		}
	}
	account := devchain.Account(1)
	nonce, err := c.Nonce(ctx, account)
	must(t, err)
	balance, err := c.Balance(ctx, account)
	must(t, err)
	wantNonce, err := w.client.NonceAt(ctx, common.Address(account), nil)
	must(t, err)
	wantBalance, err := w.client.BalanceAt(ctx, common.Address(account), nil)
	must(t, err)
	if nonce != wantNonce || balance.Cmp(wantBalance) != 0 {
		t.Errorf("nonce %d and balance %v, want %d and %v", nonce, balance, wantNonce, wantBalance)
	}
	service, err := c.Service(ctx, 0)
	must(t, err)
	operators, err := c.ServiceOperators(ctx, 0)
	must(t, err)
	if service.Status != 1 || service.Operators != 2 || len(operators) != 2 || operators[1] != devchain.Account(2) {
		t.Errorf("service %+v of %v", service, operators)
	}
	paused, err := c.Paused(ctx)
	if err != nil || paused {
		t.Errorf("paused %v, %v", paused, err)
	}
}

func TestCallDataIsWhatGoEthereumEncodes(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		service, call := random.Uint64()>>random.IntN(64), random.Uint64()>>random.IntN(64)
		status := uint8(random.Uint32())
		text := func() []byte { return randomBytes(random, random.IntN(100)) }
		var ids []uint64
		var outputs [][]byte
		for range random.IntN(5) {
			ids, outputs = append(ids, random.Uint64()), append(outputs, text())
		}
		output, key, url := text(), text(), string(text())
		for name, pair := range map[string][2][]byte{
			"submitResult": {chain.SubmitResult(service, call, output),
				pack(t, "submitResult(uint64,uint64,bytes)", service, call, output)},
			"submitResults": {chain.SubmitResults(service, ids, outputs),
				pack(t, "submitResults(uint64,uint64[],bytes[])", service, ids, outputs)},
			"heartbeat": {chain.HeartbeatDirect(service, call, status, output),
				pack(t, "submitHeartbeatDirect(uint64,uint64,uint8,bytes)", service, call, status, output)},
			"register": {chain.RegisterOperator(service, key, url, nil),
				pack(t, "registerOperator(uint64,bytes,string)", service, key, url)},
			"register with inputs": {chain.RegisterOperator(service, key, url, []byte("x")),
				pack(t, "registerOperator(uint64,bytes,string,bytes)", service, key, url, []byte("x"))},
			"claim":      {chain.ClaimRewards(), pack(t, "claimRewards()")},
			"go offline": {chain.GoOffline(service), pack(t, "goOffline(uint64)", service)},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%s:\ngot  %x\nwant %x", name, pair[0], pair[1])
			}
		}
	}
}

// TestRefusalsAreToldApart sends what nodes refuse: the reason must be found in their own words.
func TestRefusalsAreToldApart(t *testing.T) {
	eachWorld(t, func(w *world) {
		w.call(0, "submitJob(uint64,uint8,bytes)", uint64(0), uint8(0), []byte("in"))
		c := w.open()
		first := func(tx *types.DynamicFeeTx) { tx.Nonce = 3 } // leaves a gap, and so stays in the pool
		must(w.T, c.SendRaw(w.Context(), common.FromHex(w.dynamic(5, first))))
		for name, tt := range map[string]struct {
			account int
			want    error
			change  func(tx *types.DynamicFeeTx)
		}{
			"known":       {5, chain.ErrAlreadyKnown, first},
			"nonce":       {0, chain.ErrNonceTooLow, func(*types.DynamicFeeTx) {}},
			"underpriced": {5, chain.ErrUnderpriced, func(tx *types.DynamicFeeTx) { tx.Nonce, tx.Value = 3, big.NewInt(1) }},
			"no funds":    {6, chain.ErrNoFunds, func(tx *types.DynamicFeeTx) { tx.Nonce, tx.Value = 3, ether(1_000_000) }},
			"gas":         {6, chain.ErrGasLimit, func(tx *types.DynamicFeeTx) { tx.Gas = 20_000 }},
			"more gas than a block has": {6, chain.ErrGasLimit, func(tx *types.DynamicFeeTx) {
				tx.Gas, tx.GasFeeCap = 120_000_000, big.NewInt(2*params.GWei)
			}},
			"cap below the base fee": {6, chain.ErrFeeTooLow, func(tx *types.DynamicFeeTx) {
				tx.GasFeeCap = big.NewInt(params.Wei)
				tx.GasTipCap = big.NewInt(params.Wei)
			}},
		} {
			err := c.SendRaw(w.Context(), common.FromHex(w.dynamic(tt.account, tt.change)))
			if !errors.Is(err, tt.want) && (name != "cap below the base fee" || w.name != "go-ethereum" || err != nil) {
				w.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
	})
}
