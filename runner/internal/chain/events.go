package chain

// The events of the contract that a runner reads. See decode.go for the topics.

// Submitted is JobSubmitted or JobSubmittedFromQuote.
type Submitted struct {
	Service, Call uint64
	Job           uint8
	Caller        Address
	Quoted        []Address // of a call by quote
	Inputs        []byte
}

// ParseSubmitted decodes a log of either event. The error is a *tangle.DecodeError.
func ParseSubmitted(l Log) (Submitted, error) { panic("unwritten") }

// Result is JobResultSubmitted.
type Result struct {
	Service, Call uint64
	Operator      Address
	Output        []byte
}

func ParseResult(l Log) (Result, error) { panic("unwritten") }

// TopicJobResultSubmitted is topic 0 of Result's event.
var TopicJobResultSubmitted Word
