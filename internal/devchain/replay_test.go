package devchain

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The selectors of what the model does not do: a blueprint's and a service's beginning, which the
// replay does through the functions of Chain; the recorded manager's own counter of hooks; and the
// exit of an operator from staking.
var notModelled = map[string]string{
	"0x3022f66c": "createBlueprint: AddBlueprint instead",
	"0xc841e26e": "requestService: AddService instead",
	"0x6a46006b": "approveService: AddService instead, at the last approval",
	"0x6d691076": "the recorded manager's counter of hooks: it is no part of the interface",
	"0x07e60129": "serviceRequestCount: there are no requests here",
	"0x87703550": "startLeaving: staking has no exit here",
	"0x60806040": "the creation of the manager: Rules instead",
}

// The other exchanges that are not compared, and why.
const (
	whyDevRPC = "anvil's own methods: the test drives the chain by its functions"
	whySetUp  = "receipts of a blueprint's or a service's beginning"
	whyFirst  = "the first block, which is older"
)

// Of what is compared, these parts are not: hashes of blocks; the gas that was used; estimates
// closer than a factor of two; indexes of logs, because logs that no runner reads are left out.

// comparedTopics are the events that must be the same.
var comparedTopics = map[Word]bool{
	topicSubmitted: true, topicSubmittedQuoted: true, topicResult: true, topicCompleted: true, topicAggregated: true,
	topicTerminated: true, topicLeft: true, topicHookFailed: true, topicPaused: true, topicUnpaused: true,
	topicRegistered: true, topicBeat: true, topicStatus: true, topicCameOnline: true, topicWentOffline: true,
	topicRegistryLeft: true, topicMetrics: true,
}

type exchange struct {
	Request struct {
		ID     int
		Method string
		Params []json.RawMessage
	}
	Response struct {
		Result json.RawMessage
		Error  *rpcError
	}
	Step string
}

func recorded(t *testing.T) (list []exchange) {
	t.Helper()
	file, err := os.Open("testdata/life.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(zipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e exchange
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// replay repeats the recorded life of a service.
type replay struct {
	*testing.T
	chain     *Chain
	node      *Node
	now       uint64
	offset    uint64 // recorded block numbers are higher
	snapshots []uint64
	setUps    map[string]bool // the transactions that begin a blueprint or a service
	approvals int
	compared  map[string]int
	skipped   map[string]int
}

// TestRecordedLife asks a devchain in the same state what the genuine contracts were asked, and
// compares the answers.
func TestRecordedLife(t *testing.T) {
	life := recorded(t)
	r := &replay{T: t, setUps: map[string]bool{}, compared: map[string]int{}, skipped: map[string]int{}}
	r.now = blockTime(life)
	r.chain = open(t, Config{BLS: &BLS{}, Now: func() time.Time { return time.Unix(int64(r.now), 0) }})
	r.chain.blocks[0].baseFee, r.chain.blocks[0].gasUsed = big.NewInt(8), 1_000_000 // as recorded
	r.node = r.chain.Node()
	nonces := map[string]bool{}
	for i, e := range life {
		if e.Request.Method == "eth_getTransactionCount" {
			account := string(e.Request.Params[0])
			if !nonces[account] { // the recorded chain had begun before
				nonces[account] = true
				r.setNonce(e)
			}
		}
		if e.Request.Method == "eth_sendRawTransaction" {
			if at := blockTime(life[i:]); at != 0 {
				r.now = at
			}
		}
		r.step(e)
	}
	for what, n := range r.compared {
		t.Logf("compared %3d %s", n, what)
	}
	for why, n := range r.skipped {
		t.Logf("not compared %3d: %s", n, why)
	}
	var done int
	for _, n := range r.compared {
		done += n
	}
	if least := 410; done < least {
		t.Errorf("%d of %d exchanges were compared, want at least %d", done, len(life), least)
	}
}

// blockTime returns the time in the first receipt of a part of the life.
func blockTime(life []exchange) uint64 {
	for _, e := range life {
		var receipt struct{ BlockTimestamp uint64 }
		if e.Request.Method == "eth_getTransactionReceipt" && json.Unmarshal(e.Response.Result, &receipt) == nil {
			return receipt.BlockTimestamp
		}
	}
	return 0
}

func (r *replay) setNonce(e exchange) {
	var account hexAddress
	var nonce hexUint
	must(r.T, json.Unmarshal(e.Request.Params[0], &account))
	must(r.T, json.Unmarshal(e.Response.Result, &nonce))
	r.chain.change(func(f *frame) { f.set(key{kind: kindNonce, address: Address(account)}, uint64(nonce)) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// function returns the selector of what an exchange calls or sends.
func (r *replay) function(e exchange) string {
	switch e.Request.Method {
	case "eth_call", "eth_estimateGas":
		var m struct{ Data string }
		must(r.T, json.Unmarshal(e.Request.Params[0], &m))
		return m.Data[:min(10, len(m.Data))]
	case "eth_sendRawTransaction":
		var raw hexData
		must(r.T, json.Unmarshal(e.Request.Params[0], &raw))
		tx, err := decodeTransaction(raw)
		must(r.T, err)
		return hexBytes(tx.data[:min(4, len(tx.data))])
	}
	return ""
}

func (r *replay) step(e exchange) {
	function := r.function(e)
	switch method := e.Request.Method; method {
	case "evm_snapshot":
		r.snapshots = append(r.snapshots, r.chain.head().number)
	case "evm_revert":
		r.revert()
	case "evm_increaseTime":
		var by uint64
		must(r.T, json.Unmarshal(e.Request.Params[0], &by))
		r.now += by
	case "evm_mine":
		r.chain.Mine(1)
	case "evm_setAutomine":
		r.chain.Automine(string(e.Request.Params[0]) == "true")
	case "anvil_reorg":
		r.chain.Reorg(1, func(Transaction) bool { return false })
	case "eth_getLogs":
		r.same(e, r.logs(e.Response.Result), r.logs(r.ask(e)))
		return
	case "eth_getTransactionReceipt":
		r.receipt(e)
		return
	case "eth_getBlockByNumber":
		r.block(e)
		return
	default:
		if why := notModelled[function]; why != "" {
			if r.skipped[why]++; method == "eth_sendRawTransaction" {
				r.setUps[string(r.ask(e))] = true // it fails, and uses the nonce
				r.setUp(function, e)
			}
			return
		}
		if method == "eth_estimateGas" && e.Response.Error == nil {
			r.estimate(e)
			return
		}
		r.same(e, r.told(e.Response.Result, e.Response.Error), r.answer(e))
		return
	}
	r.skipped[whyDevRPC]++
}

func (r *replay) told(result json.RawMessage, err *rpcError) string {
	if err != nil {
		return fmt.Sprintf("%d %q %s", err.Code, err.Message, err.Data)
	}
	return string(result)
}

func (r *replay) answer(e exchange) string {
	got := r.request(e)
	result, _ := got.Result.(json.RawMessage)
	return r.told(result, got.Error)
}

func (r *replay) request(e exchange) response {
	params := make([]any, len(e.Request.Params))
	for i, p := range e.Request.Params {
		params[i] = p
	}
	return ask(r.T, r.node, e.Request.Method, params...)
}

func (r *replay) ask(e exchange) json.RawMessage {
	result, _ := r.request(e).Result.(json.RawMessage)
	return result
}

func (r *replay) same(e exchange, want, got string) {
	r.compared[e.Request.Method]++
	if want != got {
		r.Errorf("%s: exchange %d, %s %s:\nwant %s\ngot  %s", e.Step, e.Request.ID,
			e.Request.Method, r.function(e), want, got)
	}
}

func (r *replay) logs(raw json.RawMessage) string {
	var list []map[string]json.RawMessage
	must(r.T, json.Unmarshal(raw, &list))
	var out strings.Builder
	for _, l := range list {
		var topics []hexHash
		must(r.T, json.Unmarshal(l["topics"], &topics))
		if comparedTopics[Word(topics[0])] {
			fmt.Fprintf(&out, "%s %s %s %s; ", l["address"], l["topics"], l["data"], slices.Sorted(maps.Keys(l)))
		}
	}
	return out.String()
}

func (r *replay) receipt(e exchange) {
	text := func(raw json.RawMessage) string {
		var m map[string]json.RawMessage
		must(r.T, json.Unmarshal(raw, &m))
		return fmt.Sprintf("%s %s %s %s %s %s %s %s %s", m["type"], m["status"], m["from"], m["to"], m["transactionHash"],
			m["transactionIndex"], m["effectiveGasPrice"], r.logs(m["logs"]), slices.Sorted(maps.Keys(m)))
	}
	if r.setUps[string(e.Request.Params[0])] {
		r.skipped[whySetUp]++
		return
	}
	r.same(e, text(e.Response.Result), text(r.ask(e)))
}

func (r *replay) block(e exchange) {
	text := func(raw json.RawMessage, offset uint64) string {
		var m map[string]json.RawMessage
		must(r.T, json.Unmarshal(raw, &m))
		delete(m, "requestsHash") // the recorded chain was older
		var number hexUint
		must(r.T, json.Unmarshal(m["number"], &number))
		return fmt.Sprintf("%d %s %s %s", uint64(number)-offset, m["timestamp"], m["baseFeePerGas"],
			slices.Sorted(maps.Keys(m)))
	}
	got := r.ask(e)
	if r.offset == 0 {
		var want, have struct{ Number hexUint }
		must(r.T, json.Unmarshal(e.Response.Result, &want))
		must(r.T, json.Unmarshal(got, &have))
		r.offset = uint64(want.Number - have.Number)
		r.skipped[whyFirst]++
		return
	}
	r.same(e, text(e.Response.Result, r.offset), text(got, 0))
}

func (r *replay) estimate(e exchange) {
	var want, got hexUint
	must(r.T, json.Unmarshal(e.Response.Result, &want))
	answer := r.request(e)
	if answer.Error != nil {
		r.Errorf("%s: exchange %d: %+v", e.Step, e.Request.ID, answer.Error)
		return
	}
	must(r.T, json.Unmarshal(answer.Result.(json.RawMessage), &got))
	if r.compared["eth_estimateGas, within a factor of 2"]++; got < want/2 || got > want*2 {
		r.Errorf("%s: exchange %d estimates %d, want about %d", e.Step, e.Request.ID, got, want)
	}
}

func (r *replay) revert() {
	c := r.chain
	head, back := c.head().number, r.snapshots[len(r.snapshots)-1]
	for _, b := range c.blocks[back+1:] {
		delete(c.byHash, b.hash)
		for _, receipt := range b.receipts {
			delete(c.receipts, receipt.tx.hash)
		}
	}
	c.state.cut(back, head)
	c.blocks = c.blocks[:back+1]
}

// setUp does what a transaction of the beginning did.
func (r *replay) setUp(function string, e exchange) {
	c := r.chain
	switch function {
	case "0x3022f66c":
		schema := []byte{2, 0, 1, fieldUint64, 0, 0, 0, 0, 1, 'x'}
		jobs := make([]tangle.Job, 7)
		jobs[4].ParamsSchema, jobs[4].ResultSchema = schema, schema
		c.AddBlueprint(Blueprint{Definition: tangle.Definition{Jobs: jobs}, Rate: big.NewInt(1e15),
			Rules: map[uint8]Rules{1: {Results: 2}, 2: {Aggregate: true, HookGas: 300_000}, 3: {HookGas: 300_000},
				5: {HookFails: true}, 6: {Results: 2, HookGas: 300_000}}})
	case "0x6a46006b":
		s := Service{Blueprint: 1, PerJob: true, Callers: []Address{Account(5)}, HeartbeatInterval: 120, MaxMissed: 2,
			Weights: []uint64{1, 21}}
		switch e.Step[:2] {
		case "04":
			if r.approvals++; r.approvals == 2 {
				c.AddService(s)
			}
		case "21":
			if r.approvals++; r.approvals == 4 {
				c.AddService(s)
				r.keys()
			}
		case "61":
			s.TTL, s.Operators = 3600, []Address{Account(1)}
			c.AddService(s)
		}
	}
}

// keys lets the chain know the operators' keys for aggregates. The curve is not needed: the
// recorded aggregate is the only valid one.
func (r *replay) keys() {
	var good *arguments
	for _, e := range recorded(r.T) {
		if r.function(e) == "0xc325ae12" && e.Request.Method == "eth_sendRawTransaction" {
			var raw hexData
			must(r.T, json.Unmarshal(e.Request.Params[0], &raw))
			tx, err := decodeTransaction(raw)
			must(r.T, err)
			good = &arguments{data: tx.data[4:]}
			break
		}
	}
	sum := [4]Word{good.word(6), good.word(7), good.word(8), good.word(9)}
	signature := [2]Word{good.word(4), good.word(5)}
	r.chain.bls.Keys = map[Address][4]Word{Account(1): sum, Account(2): sum}
	r.chain.bls.Sum = func([][4]Word) [4]Word { return sum }
	r.chain.bls.Verify = func(_ []byte, s [2]Word, _ [4]Word) bool { return s == signature }
}
