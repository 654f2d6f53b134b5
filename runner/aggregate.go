package runner

import "context"

// Aggregator brings an answer on chain together with other operators. Package runner/bls has one.
type Aggregator interface {
	// Aggregate returns once the call is completed on chain. It is called with the call's answer.
	Aggregate(ctx context.Context, c AggregateCall) error
}

// AggregateCall is an answer that needs the signatures of several operators.
type AggregateCall struct {
	ChainID       uint64
	Contract      [20]byte
	Service, Call uint64
	Job           uint32
	Operator      [20]byte
	Operators     [][20]byte // of the service, in the contract's order
	ThresholdBPS  uint16
	ByStake       bool
	Output        []byte
	// Submit sends submitAggregatedResult's data and returns once it is mined.
	Submit func(ctx context.Context, data []byte) error
}
