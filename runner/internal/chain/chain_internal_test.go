package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

func TestSelectorsAndTopicsAreHashes(t *testing.T) {
	for signature, data := range map[string][]byte{
		"submitResult(uint64,uint64,bytes)":                   SubmitResult(1, 2, nil),
		"submitResults(uint64,uint64[],bytes[])":              SubmitResults(1, nil, nil),
		"claimRewards()":                                      ClaimRewards(),
		"submitHeartbeatDirect(uint64,uint64,uint8,bytes)":    HeartbeatDirect(1, 2, 3, nil),
		"goOffline(uint64)":                                   GoOffline(1),
		"registerOperator(uint64,bytes,string)":               RegisterOperator(1, nil, "", nil),
		"registerOperator(uint64,bytes,string,bytes)":         RegisterOperator(1, nil, "", []byte{1}),
		"getJobQuotedOperators(uint64,uint64)":                newCall(selQuoted, 0).encode(),
		"EnforcedPause()":                                     selectorOf(RevertPaused),
		"ServiceNotFound(uint64)":                             selectorOf(RevertServiceNotFound),
		"JobCallNotFound(uint64,uint64)":                      selectorOf(RevertJobCallNotFound),
		"ServiceNotActive(uint64)":                            selectorOf(RevertServiceNotActive),
		"ServiceExpired(uint64)":                              selectorOf(RevertServiceExpired),
		"AggregationRequired(uint64,uint8)":                   selectorOf(RevertAggregationRequired),
		"OperatorNotInService(uint64,address)":                selectorOf(RevertOperatorNotInService),
		"OperatorNotActive(address)":                          selectorOf(RevertOperatorNotActive),
		"JobAlreadyCompleted(uint64,uint64)":                  selectorOf(RevertJobAlreadyCompleted),
		"ResultAlreadySubmitted(uint64,uint64,address)":       selectorOf(RevertAlreadySubmitted),
		"NotQuotedOperator(uint64,uint64)":                    selectorOf(RevertNotQuotedOperator),
		"SchemaValidationFailed(uint8,uint64,uint64,uint256)": selectorOf(RevertSchemaValidation),
		"UnknownSelector(bytes4)":                             selectorOf(RevertUnknownSelector),
		"NotRegisteredOperator()":                             selectorOf(RevertNotRegisteredOperator),
		"Error(string)":                                       selectorOf(revertString),
		"Panic(uint256)":                                      selectorOf(revertPanic),
	} {
		if hash := tangle.Keccak256([]byte(signature)); string(hash[:4]) != string(data[:4]) {
			t.Errorf("%s is 0x%x, not 0x%x", signature, hash[:4], data[:4])
		}
	}
	for signature, topic := range map[string]Word{
		"JobSubmitted(uint64,uint64,uint8,address,bytes)":                            TopicJobSubmitted,
		"JobSubmittedFromQuote(uint64,uint64,uint8,address,address[],uint256,bytes)": TopicJobSubmittedByQuote,
		"JobResultSubmitted(uint64,uint64,address,bytes)":                            TopicJobResultSubmitted,
		"JobCompleted(uint64,uint64)":                                                TopicJobCompleted,
		"AggregatedResultSubmitted(uint64,uint64,uint256,bytes)":                     TopicAggregatedResult,
		"ServiceActivated(uint64,uint64,uint64,uint8)":                               TopicServiceActivated,
		"ServiceTerminated(uint64)":                                                  TopicServiceTerminated,
		"OperatorJoinedService(uint64,address,uint16)":                               TopicOperatorJoined,
		"OperatorLeftService(uint64,address)":                                        TopicOperatorLeft,
		"ManagerHookFailed(address,bytes4,bytes)":                                    TopicManagerHookFailed,
		"Paused(address)":   TopicPaused,
		"Unpaused(address)": TopicUnpaused,
	} {
		if hash := tangle.Keccak256([]byte(signature)); hash != topic {
			t.Errorf("%s is %s, not %s", signature, hash, topic)
		}
	}
}

func selectorOf(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// Every node has its own words for why it does not take a transaction.
func TestReasonsOfNodes(t *testing.T) {
	for _, test := range []struct {
		node, message string
		want          error
	}{
		{"geth", "nonce too low: next nonce 5, tx nonce 4", ErrNonceTooLow},
		{"geth", "already known", ErrAlreadyKnown},
		{"geth", "replacement transaction underpriced", ErrUnderpriced},
		{"geth", "transaction underpriced: gas tip cap 1, minimum needed 1000000", ErrUnderpriced},
		{"geth", "txpool is full", ErrUnderpriced},
		{"geth", "insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000", ErrNoFunds},
		{"geth", "intrinsic gas too low: gas 1, minimum needed 21000", ErrGasLimit},
		{"geth", "exceeds block gas limit", ErrGasLimit},
		{"geth", "transaction gas limit too high (cap: 16777216, tx: 20000000)", ErrGasLimit},
		{"geth", "oversized data: transaction size 131073, limit 131072", ErrTxTooLarge},
		{"geth", "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7", ErrFeeTooLow},
		{"geth", "gas required exceeds allowance (21000)", ErrGasLimit},
		{"anvil", "transaction already imported", ErrAlreadyKnown},
		{"anvil", "Insufficient funds for gas * price + value", ErrNoFunds},
		{"anvil", "max fee per gas less than block base fee", ErrFeeTooLow},
		{"reth", "nonce too low: next nonce 5, tx nonce 4", ErrNonceTooLow},
		{"reth", "oversized data: transaction size 131073, limit 131072", ErrTxTooLarge},
		{"reth", "transaction gas limit exceeds maximum allowed gas", ErrGasLimit},
		{"erigon", "existing tx with same hash", ErrAlreadyKnown},
		{"erigon", "fee too low", ErrFeeTooLow},
		{"erigon", "rlp too long", ErrTxTooLarge},
		{"erigon", "not replaced", ErrUnderpriced},
		{"erigon", "pending sub-pool is full", ErrUnderpriced},
		{"nethermind", "AlreadyKnown", ErrAlreadyKnown},
		{"nethermind", "OldNonce, Current nonce: 5, nonce of rejected tx: 4", ErrNonceTooLow},
		{"nethermind", "FeeTooLowToCompete", ErrUnderpriced},
		{"nethermind", "FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", ErrFeeTooLow},
		{"nethermind", "ReplacementNotAllowed", ErrUnderpriced},
		{"nethermind", "InsufficientFunds, Account balance: 0, cumulative cost: 21000", ErrNoFunds},
		{"nethermind", "GasLimitExceeded", ErrGasLimit},
		{"nethermind", "MaxTxSizeExceeded", ErrTxTooLarge},
		{"besu", "Known transaction", ErrAlreadyKnown},
		{"besu", "Upfront cost exceeds account balance", ErrNoFunds},
		{"any", "internal error: request timed out", ErrSendUncertain},
		{"any", "invalid sender", nil},
		{"any", "rate limit: nonce too low is not what this says", nil},
	} {
		e := &rpc.RPCError{Code: -32000, Message: test.message}
		err := sendError([]error{&rpc.Error{Kind: rpc.ErrRPC, RPC: e, Err: e}})
		for _, sentinel := range append([]error{ErrSendUncertain}, refusals...) {
			if errors.Is(err, sentinel) != (sentinel == test.want) {
				t.Errorf("%s: %q is %v, want %v", test.node, test.message, err, test.want)
			}
		}
	}
}

// A reason says more than a lost answer, and a lost answer more than a refusal without a reason.
func TestTheWeightiestOutcomeOfASendCounts(t *testing.T) {
	reason := func(message string) error {
		e := &rpc.RPCError{Code: -32000, Message: message}
		return &rpc.Error{Kind: rpc.ErrRPC, RPC: e, Err: e}
	}
	lost := &rpc.Error{Kind: rpc.ErrTimeout, Err: errors.New("did not answer within 10s")}
	unreachable := &rpc.Error{Kind: rpc.ErrUnreachable, Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}
	for _, test := range []struct {
		failed []error
		want   error
	}{
		{[]error{lost, reason("already known")}, ErrAlreadyKnown},
		{[]error{reason("nonce too low"), reason("already known")}, ErrAlreadyKnown},
		{[]error{reason("insufficient funds"), reason("nonce too low"), lost}, ErrNonceTooLow},
		{[]error{unreachable, lost}, ErrSendUncertain},
		{[]error{errLate, unreachable}, ErrSendUncertain},
		{[]error{unreachable}, unreachable},
	} {
		if err := sendError(test.failed); !errors.Is(err, test.want) {
			t.Errorf("%v is %v, want %v", test.failed, err, test.want)
		}
	}
}

func TestAWindowShrinksAtOnceAndGrowsSlowly(t *testing.T) {
	refuse := func(message string) error {
		e := &rpc.RPCError{Code: -32000, Message: message}
		return &rpc.Error{Kind: rpc.ErrRPC, RPC: e, Err: e}
	}
	var w window
	w.init(0)
	if !w.shrink(0, 1999, refuse("exceed maximum block range")) || w.width() != 1000 {
		t.Errorf("half of 2000 is %d", w.width())
	}
	hint := refuse("response size exceeded, this range should work: [0x100, 0x163]")
	if !w.shrink(0x100, 0x100+999, hint) || w.width() != 100 {
		t.Errorf("as suggested: %d", w.width())
	}
	for _, hint := range []string{
		"[0x0, 0x10]", "[0x100, 0x1000]", "[0x100, 0xff]", "[0x100, 0xffffffffffffffffff]", "[,]"} {
		other := window{most: 64, now: 64}
		if !other.shrink(0x100, 0x13f, refuse("response size exceeded "+hint)) || other.width() != 32 {
			t.Errorf("%s, which is no part of the query: %d", hint, other.width())
		}
	}
	from := uint64(0)
	widest, steps := w.width(), 0
	for range patience - 1 {
		w.grow(from, from+w.width()-1)
		if next := w.width(); next > widest+widest/8+1 || next >= 1000 {
			t.Errorf("from %d to %d", widest, next)
		}
		widest = w.width()
		steps++
	}
	if widest != 999 {
		t.Errorf("after %d queries: %d", steps, widest)
	}
	w.grow(0, 5) // a short one says nothing
	if w.width() != 999 {
		t.Errorf("after a short query: %d", w.width())
	}
	for range 100 {
		w.grow(0, w.width()-1)
	}
	if w.width() != 2000 {
		t.Errorf("in the end: %d", w.width())
	}
	throttled := &rpc.RPCError{Code: -32005, Message: "request rate limited"}
	for _, err := range []error{
		&rpc.Error{Kind: rpc.ErrRPC, RPC: throttled, Err: throttled},
		&rpc.Error{Kind: rpc.ErrHTTP, Status: 429, Err: errors.New("429")},
		&rpc.Error{Kind: rpc.ErrUnreachable, Err: &net.OpError{Op: "dial", Err: errors.New("refused")}},
		&rpc.Error{Kind: rpc.ErrAbsent, Err: rpc.ErrAbsent}, context.Canceled,
	} {
		if w.shrink(0, 1999, err) {
			t.Errorf("split on %v", err)
		}
	}
	if w.shrink(7, 7, refuse("exceed maximum block range")) {
		t.Error("split one block")
	}
}

// contractAnswering is a chain whose contract answers calls of a function with words or, for an
// empty answer, by the revert.
func contractAnswering(t *testing.T, answers map[uint32]string) *Chain {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		one := func(call []byte) string {
			var id, answer string
			_ = jsonwalk.Members(call, func(name string, value []byte) error {
				if name == "id" {
					id = string(value)
				}
				return nil
			})
			text := string(call)
			answer = `"result":"0x1"`
			if _, data, ok := strings.Cut(text, `"data":"0x`); ok {
				var selector uint32
				_, _ = fmt.Sscanf(data[:8], "%08x", &selector)
				switch hex, known := answers[selector]; {
				case !known:
					answer = `"error":{"code":3,"message":"execution reverted","data":"0xc2a825f5"}`
				case strings.HasPrefix(hex, "!"):
					answer = `"error":{"code":3,"message":"execution reverted","data":"0x` + hex[1:] + `"}`
				default:
					answer = `"result":"0x` + hex + `"`
				}
			}
			return `{"jsonrpc":"2.0","id":` + id + `,` + answer + `}`
		}
		if body[0] != '[' {
			_, _ = io.WriteString(w, one(body))
			return
		}
		var texts []string
		_ = jsonwalk.Elements(body, func(call []byte) error { texts = append(texts, one(call)); return nil })
		_, _ = io.WriteString(w, "["+strings.Join(texts, ",")+"]")
	}))
	t.Cleanup(server.Close)
	client, err := rpc.New(rpc.Config{URLs: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	return &Chain{rpc: client}
}

// Where the three words can mean two things, the contract is asked in other ways.
func TestAnAmbiguousCallIsLookedUp(t *testing.T) {
	words := func(list ...uint64) (text string) {
		for _, n := range list {
			w := WordOf(n)
			text += fmt.Sprintf("%x", w[:])
		}
		return text
	}
	nobody, somebody := words(32, 0), words(32, 1, 0xaa)
	const completed = "!0a55512f"
	const schema = "!9038fe73"
	for _, test := range []struct {
		last          [3]uint64
		results       uint64
		before, after order
		quoted, dry   string // "": the function is missing
		want          string
	}{
		// Completed, of older contracts, without a payment: an open call by quote in today's.
		{[3]uint64{0, 1, 0}, 1, paymentLast, paymentFirst, nobody, "", "completed"},
		{[3]uint64{0, 1, 0}, 1, paymentLast, paymentLast, somebody, "", "quoted"},
		{[3]uint64{0, 1, 0}, 0, paymentFirst, paymentLast, somebody, "", "quoted"},
		{[3]uint64{0, 1, 0}, 0, paymentFirst, paymentFirst, nobody, "", "completed"},
		{[3]uint64{0, 0, 1}, 0, paymentLast, paymentFirst, somebody, "", "quoted"},
		{[3]uint64{0, 0, 1}, 0, paymentLast, paymentLast, nobody, "", "paid 1"},
		// Completed without a payment, of today's: a payment of 1 in the older.
		{[3]uint64{1, 0, 0}, 1, paymentLast, paymentLast, "", "", "completed"},
		{[3]uint64{1, 0, 0}, 1, paymentFirst, paymentLast, nobody, completed, "completed"},
		{[3]uint64{1, 0, 0}, 1, paymentFirst, paymentFirst, nobody, schema, "paid 1"},
		{[3]uint64{1, 0, 0}, 1, paymentFirst, paymentLast, nobody, "", "completed"},
		{[3]uint64{0, 1, 1}, 1, paymentLast, paymentFirst, somebody, completed, "completed quoted"},
		{[3]uint64{0, 1, 1}, 1, paymentLast, paymentLast, somebody, schema, "quoted paid 1"},
		// No doubt at all.
		{[3]uint64{0, 0, 0}, 0, paymentFirst, paymentFirst, "", "", ""},
		{[3]uint64{1, 1, 1}, 1, paymentFirst, paymentFirst, "", "", "completed quoted paid 1"},
		{[3]uint64{5, 1, 0}, 1, paymentLast, paymentFirst, "", "", "completed paid 5"},
		{[3]uint64{1, 0, 5}, 1, paymentFirst, paymentLast, "", "", "completed paid 5"},
	} {
		answers := map[uint32]string{0xbb207f1f: somebody,
			0xa672bc0a: words(3, 0xca11e4, 99, test.results, test.last[0], test.last[1], test.last[2])}
		if test.quoted != "" {
			answers[selQuoted] = test.quoted
		}
		if test.dry != "" {
			answers[0x2d07e655] = test.dry
		}
		c := contractAnswering(t, answers)
		c.order.Store(int32(test.before))
		call, err := c.JobCall(t.Context(), 1, 2)
		if err != nil || call.Job != 3 || call.CreatedAt != 99 {
			t.Fatalf("%+v: %+v, %v", test, call, err)
		}
		var got []string
		if call.Completed {
			got = append(got, "completed")
		}
		if call.RFQ {
			got = append(got, "quoted")
		}
		if call.Payment.Sign() > 0 {
			got = append(got, "paid "+call.Payment.String())
		}
		if text := strings.Join(got, " "); text != test.want || order(c.order.Load()) != test.after {
			t.Errorf("%+v: %s, then in the order %d", test, text, c.order.Load())
		}
	}
}

// An error that looks like a revert is no answer to a query for logs.
func TestNoErrorMeansNoLogs(t *testing.T) {
	block := `{"number":"0x5","timestamp":"0x1","hash":"0x` + strings.Repeat("00", 32) +
		`","parentHash":"0x` + strings.Repeat("cd", 32) + `"}`
	for _, failure := range []string{`{"code":3,"message":"execution reverted"}`,
		`{"code":-32000,"message":"x","data":"0x01020304"}`, `{"code":-32603,"message":"cannot revert to the snapshot"}`} {
		client, err := rpc.New(rpc.Config{Attempts: 1, URLs: []string{"http://one"},
			HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				ids := []int{1, 2} // of the logs, of the block
				if strings.Index(string(body), "eth_getBlock") < strings.Index(string(body), "eth_getLogs") {
					ids = []int{2, 1}
				}
				answer := fmt.Sprintf(`[{"id":%d,"error":%s},{"id":%d,"result":%s}]`, ids[0], failure, ids[1], block)
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(answer)), Header: http.Header{}}, nil
			})}})
		if err != nil {
			t.Fatal(err)
		}
		c := &Chain{rpc: client}
		c.window.init(0)
		if logs, err := c.Logs(t.Context(), LogQuery{}, 5, 5, Word{}); err == nil {
			t.Errorf("%s: logs %v", failure, logs)
		}
		if logs, err := c.LogsOfBlock(t.Context(), LogQuery{}, Word{}); err == nil {
			t.Errorf("%s: logs of a block %v", failure, logs)
		}
	}
}

// A node that never answers holds up neither the others' answers nor the end.
func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := `{"number":"0x5","timestamp":"0x1","hash":"0x` + strings.Repeat("ab", 32) +
			`","parentHash":"0x` + strings.Repeat("cd", 32) + `"}`
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "hangs" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			answer := `{"id":1,"result":"0x1234"}`
			if body[0] == '[' {
				answer = `[{"id":1,"result":"0x7a69"},{"id":2,"result":` + block + `}]`
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(answer)), Header: http.Header{}}, nil
		})
		start := time.Now()
		c, err := Open(t.Context(), Config{URLs: []string{"http://hangs", "http://good"}, Timeout: time.Hour,
			HTTP: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*grace {
			t.Errorf("opened after %v", took)
		}
		for range 5 {
			time.Sleep(probeEvery)
			start = time.Now()
			if head, err := c.Head(t.Context()); err != nil || head.Number != 5 || time.Since(start) > grace {
				t.Errorf("%+v, %v, after %v", head, err, time.Since(start))
			}
		}
		if n := c.Nodes(); n[0].Usable || !n[1].Usable {
			t.Errorf("%+v", n)
		}
		start = time.Now()
		c.Close()
		if took := time.Since(start); took > 0 {
			t.Errorf("closed after %v", took)
		}
	})
}

// A manager that does not say whether results are aggregated makes the contract demand it.
func TestTheRulesOfASilentManager(t *testing.T) {
	words := func(n int, set map[int]uint64) (text string) {
		for i := range n {
			w := WordOf(set[i])
			text += fmt.Sprintf("%x", w[:])
		}
		return text
	}
	for name, hook := range map[string]string{"missing": "!", "no code": "", "failing": "!08c379a0"} {
		c := contractAnswering(t, map[uint32]string{0x3dc0d5fe: words(13, map[int]uint64{0: 7, 11: 1}),
			0xb7696dbb: words(6, map[int]uint64{1: 0x3a3a}), 0x19ed5bb2: hook, 0x25fcc64e: hook, 0x4c443e04: hook})
		rules, err := c.JobRules(t.Context(), 1, []uint8{0})
		if err != nil || rules[0] != (JobRules{Aggregated: true, Threshold: 6700, Results: 1}) {
			t.Errorf("%s: %+v, %v", name, rules, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzAnswers feeds foreign answers to everything that decodes them.
func FuzzAnswers(f *testing.F) {
	for _, x := range recorded(f) {
		switch x.Request.Method {
		case "eth_getLogs", "eth_getTransactionReceipt", "eth_getBlockByNumber":
			if len(x.Response.Result) > 0 && len(x.Response.Result) < 4096 {
				f.Add([]byte(x.Response.Result))
			}
		}
	}
	for _, seed := range []string{
		`null`, `[]`, `{}`, `[null]`, `[{"topics":[[]]}]`, `{"number":"0x"}`, `{"logs":[{}],"logs":[]}`} {
		f.Add([]byte(seed))
	}
	c := &Chain{}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if !jsonwalk.Valid(answer) || len(jsonwalk.Trim(answer)) != len(answer) {
			return
		}
		copies := make([][]byte, 4)
		for i := range copies {
			copies[i] = append([]byte(nil), answer...)
		}
		cost := alloctest.Roughly(func() {
			if b, err := parseBlock(copies[0]); err == nil && b.Hash.IsZero() && b.Number > 1<<62 {
				_ = b
			}
			r, err := parseReceipt(copies[1])
			if (r == nil) == (err == nil) {
				t.Errorf("%+v, %v", r, err)
			}
			logs, err := parseLogs(copies[2])
			for _, l := range logs {
				if err == nil && len(l.Topics) > maxTopics {
					t.Errorf("%+v", l)
				}
				_, _ = ParseSubmitted(l)
				_, _ = ParseResult(l)
			}
			_, _ = c.parse(copies[3], LogQuery{})
		})
		if cost > 64*uint64(len(answer))+alloctest.Slack {
			t.Errorf("%d bytes were allocated for %d", cost, len(answer))
		}
	})
}

// FuzzRevert names what a contract reverted with, and decodes events with such data.
func FuzzRevert(f *testing.F) {
	for _, x := range recorded(f) {
		if e := x.Response.Error; e != nil && len(e.Data) > 2 {
			if data, err := parseBytes([]byte(`"` + e.Data + `"`)); err == nil {
				f.Add(data)
			}
		}
	}
	f.Add(append(selectorOf(revertString), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &Revert{Data: data}
		if len(data) >= 4 {
			r.Selector = binary.BigEndian.Uint32(data)
		}
		cost := alloctest.Roughly(func() {
			text := r.Error()
			if len(text) > 1200 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
			for _, c := range text {
				if c < ' ' || c == 0x7f {
					t.Errorf("%q", text)
				}
			}
			for _, first := range []Word{TopicJobSubmitted, TopicJobSubmittedByQuote, TopicJobResultSubmitted} {
				for topics := range maxTopics + 1 {
					l := Log{Data: data, Topics: []Word{first, {}, {}, {}}[:topics]}
					_, _ = ParseSubmitted(l)
					_, _ = ParseResult(l)
				}
			}
		})
		if cost > 64*uint64(len(data))+alloctest.Slack {
			t.Errorf("%d bytes were allocated for %d", cost, len(data))
		}
	})
}
