package chain

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// exchange is what the genuine contracts answered on anvil.
type exchange struct {
	Request struct {
		Method string
		Params []json.RawMessage
	}
	Response struct {
		Result json.RawMessage
		Error  *struct {
			Code    int64
			Message string
			Data    string
		}
	}
}

func recorded(t testing.TB) (all []exchange) {
	t.Helper()
	f, err := os.Open("../../../internal/devchain/testdata/life.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for lines := json.NewDecoder(unpacked); lines.More(); {
		var x exchange
		if err := lines.Decode(&x); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// callOf returns the data of an eth_call or eth_estimateGas.
func (x *exchange) callOf(t testing.TB) []byte {
	t.Helper()
	var call struct{ Data, Input string }
	if err := json.Unmarshal(x.Request.Params[0], &call); err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimPrefix(call.Data+call.Input, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRecordedReceiptsBlocksAndLogs(t *testing.T) {
	events := make(map[Word]int)
	for _, x := range recorded(t) {
		if x.Response.Error != nil {
			continue
		}
		switch x.Request.Method {
		case "eth_getBlockByNumber":
			b, err := parseBlock(bytes.Clone(x.Response.Result))
			if err != nil || b.Number == 0 || b.Hash.IsZero() || b.Parent.IsZero() || b.Time == 0 || b.BaseFee.Sign() == 0 {
				t.Errorf("%+v, %v", b, err)
			}
		case "eth_getTransactionReceipt":
			r, err := parseReceipt(bytes.Clone(x.Response.Result))
			if err != nil || r.GasUsed == 0 || r.GasPrice.Sign() == 0 {
				t.Errorf("%+v, %v", r, err)
				continue
			}
			for _, l := range r.Logs {
				events[l.Topics[0]]++
				checkLog(t, l)
			}
		case "eth_getLogs":
			logs, err := parseLogs(bytes.Clone(x.Response.Result))
			if err != nil || len(logs) == 0 {
				t.Errorf("%d logs, %v", len(logs), err)
			}
			for _, l := range logs {
				checkLog(t, l)
			}
		}
	}
	for topic, least := range map[Word]int{TopicJobSubmitted: 10, TopicJobSubmittedByQuote: 1, TopicJobResultSubmitted: 8,
		TopicJobCompleted: 2, TopicAggregatedResult: 1, TopicServiceTerminated: 1, TopicOperatorLeft: 1,
		TopicManagerHookFailed: 1, TopicPaused: 1, TopicUnpaused: 1, TopicServiceActivated: 1} {
		if events[topic] < least {
			t.Errorf("%d logs of %s", events[topic], topic)
		}
	}
}

func checkLog(t *testing.T, l Log) {
	t.Helper()
	switch l.Topics[0] {
	case TopicJobSubmitted, TopicJobSubmittedByQuote:
		s, err := ParseSubmitted(l)
		byQuote := l.Topics[0] == TopicJobSubmittedByQuote
		if err != nil || s.Service == 0 || s.Caller.IsZero() || (len(s.Quoted) > 0) != byQuote {
			t.Errorf("%+v, %v", s, err)
		}
		if len(l.Topics) == 3 && l.Topics[0] == TopicJobSubmitted { // as the published ABI has it
			l.Topics = append(l.Topics[:3:3], WordOf(uint64(s.Job)))
			l.Data = bytes.Clone(l.Data[wordSize:])
			l.Data[2*wordSize-1] -= wordSize
			if other, err := ParseSubmitted(l); err != nil || other.Job != s.Job || !bytes.Equal(other.Inputs, s.Inputs) {
				t.Errorf("%+v, %v", other, err)
			}
		}
	case TopicJobResultSubmitted:
		if r, err := ParseResult(l); err != nil || r.Service == 0 || r.Operator.IsZero() {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// What this package encodes is what was recorded.
func TestRecordedCalldata(t *testing.T) {
	seen := make(map[uint32]int)
	for _, x := range recorded(t) {
		if x.Request.Method != "eth_call" && x.Request.Method != "eth_estimateGas" {
			continue
		}
		data := x.callOf(t)
		if len(data) < 4 {
			continue
		}
		selector := binary.BigEndian.Uint32(data)
		d := tangle.NewDecoder(data[4:])
		var again []byte
		switch selector {
		case 0x2d07e655:
			d.Head(0, 3, "")
			again = SubmitResult(d.Uint(0, 64, ""), d.Uint(wordSize, 64, ""), d.Blob(0, 2*wordSize, ""))
		case 0xaacdba9f:
			d.Head(0, 3, "")
			var calls []uint64
			from, n := d.Array(0, wordSize, 100, wordSize, "")
			for i := range n {
				calls = append(calls, d.Uint(from+i*wordSize, 64, ""))
			}
			var outputs [][]byte
			from, n = d.Array(0, 2*wordSize, 100, wordSize, "")
			for i := range n {
				outputs = append(outputs, d.Blob(from, from+i*wordSize, ""))
			}
			again = SubmitResults(d.Uint(0, 64, ""), calls, outputs)
		case 0x5cce98a6:
			d.Head(0, 4, "")
			again = HeartbeatDirect(d.Uint(0, 64, ""), d.Uint(wordSize, 64, ""), uint8(d.Uint(2*wordSize, 8, "")),
				d.Blob(0, 3*wordSize, ""))
		case 0xd4e1ab7c:
			d.Head(0, 3, "")
			again = RegisterOperator(d.Uint(0, 64, ""), d.Blob(0, wordSize, ""), string(d.Blob(0, 2*wordSize, "")), nil)
		default:
			continue
		}
		if seen[selector]++; d.Err() != nil || !bytes.Equal(again, data) {
			t.Errorf("encoded   %x\nrecorded %x\n%v", again, data, d.Err())
		}
	}
	for _, selector := range []uint32{0x2d07e655, 0xaacdba9f, 0x5cce98a6, 0xd4e1ab7c} {
		if seen[selector] == 0 {
			t.Errorf("no call of 0x%08x is recorded: %v", selector, seen)
		}
	}
}

func TestRecordedRefusals(t *testing.T) {
	reverts, refused := make(map[string]bool), make(map[error]bool)
	for _, x := range recorded(t) {
		e := x.Response.Error
		if e == nil {
			continue
		}
		data, err := hex.DecodeString(strings.TrimPrefix(e.Data, "0x"))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			data = nil
		}
		answer := &rpc.RPCError{Code: e.Code, Message: e.Message, Data: data}
		failure := &rpc.Error{Kind: rpc.ErrRPC, RPC: answer, Err: answer}
		if x.Request.Method == "eth_sendRawTransaction" {
			for _, sentinel := range refusals {
				if errors.Is(sendError([]error{failure}), sentinel) {
					refused[sentinel] = true
				}
			}
			continue
		}
		var revert *Revert
		if !errors.As(callError(failure), &revert) || revert.Selector != binary.BigEndian.Uint32(data) {
			t.Errorf("%q is %v", e.Message, callError(failure))
			continue
		}
		reverts[revert.Error()] = true
	}
	for _, want := range []string{
		"JobAlreadyCompleted(1, 0)", "JobCallNotFound(1, 999)", "AggregationRequired(1, 2)", "EnforcedPause()",
		"NotRegisteredOperator()", "NotQuotedOperator(1, 13)",
		"ResultAlreadySubmitted(1, 1, 0x70997970c51812dc3a010c7d01b50e0d17dc79c8)"} {
		if !reverts["the contract reverts: "+want] {
			t.Errorf("%s is not among %v", want, reverts)
		}
	}
	for _, want := range []error{ErrNonceTooLow, ErrAlreadyKnown, ErrUnderpriced, ErrFeeTooLow, ErrGasLimit} {
		if !refused[want] {
			t.Errorf("%v is not among %v", want, refused)
		}
	}
}

func TestRecordedCallsOfJobs(t *testing.T) {
	n := 0
	for _, x := range recorded(t) {
		if x.Request.Method != "eth_call" {
			continue
		}
		if data := x.callOf(t); len(data) < 4 || binary.BigEndian.Uint32(data) != 0xa672bc0a {
			continue
		}
		raw, err := parseBytes(bytes.Clone(x.Response.Result))
		if err != nil {
			t.Fatal(err)
		}
		var r rawCall
		d := tangle.NewDecoder(raw)
		if r.decode(d); d.Err() != nil {
			t.Fatal(d.Err())
		}
		n++
		o, ok := r.certain(paymentFirst) // a wrong guess
		call := r.as(o)
		if !ok || (call.CreatedAt != 0) != (call.Payment.Sign() > 0) || call.CreatedAt != 0 && o != paymentLast {
			t.Errorf("%x: %+v, certain %t", raw, call, ok)
		}
		// The same call of the older generations.
		copy(raw[4*wordSize:], append(bytes.Clone(raw[6*wordSize:]), raw[4*wordSize:6*wordSize]...))
		d = tangle.NewDecoder(raw)
		var older rawCall
		if older.decode(d); d.Err() != nil {
			t.Fatal(d.Err())
		}
		o, ok = older.certain(paymentLast)
		same := older.as(o)
		if !ok || same.Completed != call.Completed || same.RFQ != call.RFQ || same.Payment.Cmp(call.Payment) != 0 {
			t.Errorf("%+v in the older order is %+v", call, same)
		}
	}
	if n < 10 {
		t.Errorf("%d calls", n)
	}
}
