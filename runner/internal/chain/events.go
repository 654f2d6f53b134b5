package chain

import (
	"encoding/hex"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The topics of the contract's events.
var (
	TopicJobSubmitted        = topic("de37cc48d21778e1c9a075c4e41c5aff6918c3ea6151221f0af3ce8121a29db5")
	TopicJobSubmittedByQuote = topic("b707259a8a1604adca251fecf84eb283329cd45175690dcb8ff1cf52a6252422")
	TopicJobResultSubmitted  = topic("8a04f99fe23284e874e8dd017345248279cc59701695e73bcdbeb6241bcd2ac6")
	TopicJobCompleted        = topic("60a7649f6e93e7a3ce1dc9729c20e3d95dce28c6a6bd957cde09d8a1cb37c19f")
	TopicAggregatedResult    = topic("e6fcb3342abe43c21acc6a04e3d7912476836976e07ed47d0b15a374e200e2f0")
	TopicServiceActivated    = topic("0325bb1c453505f13d5546dda087be5e237f7cf249f79a0ee406d97ef0ca7ee9")
	TopicServiceTerminated   = topic("3fd558a59bbce1d996d17eab7fde314bcd201ec3f17375a7f873b3162927e881")
	TopicOperatorJoined      = topic("2457918796078440068385e73e422539c84f2f9045dd442e123d4284258ae24a")
	TopicOperatorLeft        = topic("8ce53e4b6002ff090e641ddecdaf7edd2813a98e19139fa7d1c79fccc3c4dead")
	TopicManagerHookFailed   = topic("212b3bea93ba3eefbae6d15f7c17ac0868f3f756aacdd24d0bd69b0cbab22327")
	TopicPaused              = topic("62e78cea01bee320cd4e420270b5ea74000d11b0c9f74754ebdbfc544b05a258")
	TopicUnpaused            = topic("5db9ee0a495bf2e6ff9c91a7834c1ba4fdd244a5e8aa4e537bd38aeae4b073aa")
)

func topic(digits string) (w Word) {
	if n, err := hex.Decode(w[:], []byte(digits)); err != nil || n != len(w) {
		panic("a topic of " + digits)
	}
	return w
}

// maxOperators limits the operators of a service, and those of a quote.
const maxOperators = 4096

// Submitted is JobSubmitted or JobSubmittedFromQuote.
type Submitted struct {
	Service, Call uint64
	Job           uint8
	Caller        Address
	Quoted        []Address // of a call by quote
	Inputs        []byte
}

// ParseSubmitted decodes a log of either event. The error is a *tangle.DecodeError. Inputs are a
// part of the log's data.
func ParseSubmitted(l Log) (Submitted, error) {
	var s Submitted
	d := tangle.NewDecoder(l.Data)
	byQuote := len(l.Topics) > 0 && l.Topics[0] == TopicJobSubmittedByQuote
	switch {
	case byQuote:
		if err := hasTopics(l, 3); err != nil {
			return s, err
		}
		if d.Head(0, 5, "JobSubmittedFromQuote") {
			s.Job = uint8(d.Uint(0, 8, "jobIndex"))
			s.Caller = d.Address(wordSize, "caller")
			s.Quoted = addresses(d, 2*wordSize, "quotedOperators")
			s.Inputs = d.Blob(0, 4*wordSize, "inputs")
		}
	case len(l.Topics) == 4 && l.Topics[0] == TopicJobSubmitted:
		// As the published ABI has it. No contract is known that emits it like this.
		var err error
		if s.Job, err = topicUint8(l, 3, "jobIndex"); err != nil {
			return s, err
		}
		if d.Head(0, 2, "JobSubmitted") {
			s.Caller = d.Address(0, "caller")
			s.Inputs = d.Blob(0, wordSize, "inputs")
		}
	case len(l.Topics) > 0 && l.Topics[0] == TopicJobSubmitted:
		if err := hasTopics(l, 3); err != nil {
			return s, err
		}
		if d.Head(0, 3, "JobSubmitted") {
			s.Job = uint8(d.Uint(0, 8, "jobIndex"))
			s.Caller = d.Address(wordSize, "caller")
			s.Inputs = d.Blob(0, 2*wordSize, "inputs")
		}
	default:
		return s, &tangle.DecodeError{Field: "topics[0]", Reason: "not an event of a submitted job"}
	}
	if err := d.Err(); err != nil {
		return Submitted{}, err
	}
	return s, callTopics(l, &s.Service, &s.Call)
}

// Result is JobResultSubmitted.
type Result struct {
	Service, Call uint64
	Operator      Address
	Output        []byte
}

// ParseResult decodes a log of JobResultSubmitted. The error is a *tangle.DecodeError. Output is a
// part of the log's data.
func ParseResult(l Log) (Result, error) {
	var r Result
	if err := hasTopics(l, 4); err != nil {
		return r, err
	}
	if l.Topics[0] != TopicJobResultSubmitted {
		return r, &tangle.DecodeError{Field: "topics[0]", Reason: "not the event JobResultSubmitted"}
	}
	d := tangle.NewDecoder(l.Data)
	if d.Head(0, 1, "JobResultSubmitted") {
		r.Output = d.Blob(0, 0, "output")
	}
	if err := d.Err(); err != nil {
		return r, err
	}
	operator := tangle.NewDecoder(l.Topics[3][:])
	if operator.Head(0, 1, "operator") {
		r.Operator = operator.Address(0, "operator")
	}
	if err := operator.Err(); err != nil {
		return r, err
	}
	return r, callTopics(l, &r.Service, &r.Call)
}

func hasTopics(l Log, n int) error {
	if len(l.Topics) != n {
		return &tangle.DecodeError{Field: "topics", Reason: fmt.Sprintf("%d topics, not %d", len(l.Topics), n)}
	}
	return nil
}

// callTopics decodes the service and the call, which are topics 1 and 2 of every event of a call.
func callTopics(l Log, service, call *uint64) error {
	for i, into := range []*uint64{service, call} {
		d := tangle.NewDecoder(l.Topics[1+i][:])
		if d.Head(0, 1, "topic") {
			*into = d.Uint(0, 64, fmt.Sprintf("topics[%d]", 1+i))
		}
		if err := d.Err(); err != nil {
			return err
		}
	}
	return nil
}

func topicUint8(l Log, i int, field string) (uint8, error) {
	d := tangle.NewDecoder(l.Topics[i][:])
	var n uint64
	if d.Head(0, 1, field) {
		n = d.Uint(0, 8, field)
	}
	return uint8(n), d.Err()
}

// addresses decodes a list of addresses whose offset is stored at at.
func addresses(d *tangle.Decoder, at int, field string) []Address {
	elements, n := d.Array(0, at, maxOperators, wordSize, field)
	if n == 0 || !d.Head(elements, n, field) {
		return nil
	}
	list := make([]Address, n)
	for i := range list {
		list[i] = d.Address(elements+i*wordSize, field)
	}
	return list
}
