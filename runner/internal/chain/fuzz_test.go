package chain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// logText writes a log as a node does.
func logText(l Log) string {
	topics := make([]string, len(l.Topics))
	for i, t := range l.Topics {
		topics[i] = t.String()
	}
	list, err := json.Marshal(topics)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"address":"%s","topics":%s,"data":"0x%x","blockNumber":"%#x","blockHash":"%s",`+
		`"transactionHash":"%s","logIndex":"%#x","removed":false}`,
		l.Address, list, l.Data, l.Block, l.BlockHash, l.Tx, l.Index)
}

// FuzzLogs reads logs, receipts and blocks that a hostile node sends. What is accepted must mean
// the same when it is written again, and cost no more than its length allows.
func FuzzLogs(f *testing.F) {
	l := Log{Topics: []Word{TopicJobSubmitted, WordOf(1), WordOf(2)}, Data: make([]byte, 160), Block: 7, Index: 1}
	rest := `"transactionHash":"0x` + zeros + `","blockHash":"0x` + zeros + `"`
	f.Add([]byte("[" + logText(l) + "]"))
	f.Add([]byte(`[` + strings.Replace(logText(l), "false", "true", 1) + `,` + logText(Log{}) + `]`))
	f.Add([]byte(`{"status":"0x1","gasUsed":"0x5208","blockNumber":"0x7","effectiveGasPrice":"0x1","logs":[` +
		logText(Log{}) + `],` + rest + `}`))
	f.Add([]byte(`{"status":"0x0","gasUsed":"0x0","blockNumber":"0x7","logs":[],` + rest + `}`))
	f.Add([]byte(`{"number":"0x7","hash":"0x` + zeros + `","parentHash":"0x` + zeros +
		`","timestamp":"0x1","baseFeePerGas":null}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if !jsonwalk.Valid(answer) {
			return
		}
		answer = jsonwalk.Trim(answer)
		limit := 30*uint64(len(answer)) + alloctest.Slack
		cost := alloctest.Roughly(func() {
			logs, err := parseLogs(bytes.Clone(answer))
			if err == nil {
				for _, l := range logs {
					again, removed, err := parseLog([]byte(logText(l)))
					if err != nil || removed || !reflect.DeepEqual(again, l) {
						t.Errorf("%+v becomes %+v, %v, %v", l, again, removed, err)
					}
				}
			}
		})
		cost += alloctest.Roughly(func() {
			if r, err := parseReceipt(bytes.Clone(answer)); err == nil && (r.GasPrice == nil || r.GasPrice.Sign() < 0) {
				t.Errorf("a gas price of %v", r.GasPrice)
			}
			if b, err := parseBlock(bytes.Clone(answer)); err == nil && b.BaseFee != nil && b.BaseFee.BitLen() > 256 {
				t.Errorf("a base fee of %v", b.BaseFee)
			}
		})
		if cost > limit {
			t.Errorf("an answer of %d bytes costs %d", len(answer), cost)
		}
	})
}

var zeros = strings.Repeat("0", 64)

// FuzzEvents decodes logs whose topics and data somebody else chose.
func FuzzEvents(f *testing.F) {
	for _, topic := range []Word{TopicJobSubmitted, TopicJobSubmittedByQuote, TopicJobResultSubmitted} {
		f.Add(append(topic[:], make([]byte, 64)...), make([]byte, 160))
		f.Add(append(topic[:], make([]byte, 96)...), make([]byte, 96))
	}
	var quote []byte
	for _, n := range []uint64{1, 2, 160, 3, 224, 1, 9, 4, 0} {
		word := WordOf(n)
		quote = append(quote, word[:]...)
	}
	f.Add(append(TopicJobSubmittedByQuote[:], make([]byte, 64)...), quote)
	f.Fuzz(func(t *testing.T, topics, data []byte) {
		l := Log{Data: data}
		for len(topics) >= wordSize {
			l.Topics = append(l.Topics, Word(topics))
			topics = topics[wordSize:]
		}
		var s Submitted
		var err error
		cost := alloctest.Roughly(func() { s, err = ParseSubmitted(l) })
		if limit := uint64(2*len(data)) + alloctest.Slack; cost > limit {
			t.Errorf("a log of %d bytes costs %d", len(data), cost)
		}
		if err == nil && 32*len(s.Quoted)+len(s.Inputs) > len(data) {
			t.Errorf("%d operators and %d bytes of inputs are in a log of %d", len(s.Quoted), len(s.Inputs), len(data))
		}
		if r, err := ParseResult(l); err == nil && len(r.Output) > len(data) {
			t.Errorf("%d bytes of output are in a log of %d", len(r.Output), len(data))
		}
	})
}
