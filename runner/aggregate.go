package runner

import "context"

// Aggregator brings an answer on chain together with other operators. Package runner/bls has one.
type Aggregator interface {
	// Aggregate returns nil once the call is completed on chain, by whomever. After an error the same
	// call may be given again, with what the chain says then.
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
	// Read asks the contract, at the latest block: the data is a function's call data.
	Read func(ctx context.Context, data []byte) ([]byte, error)
	// Completed reports whether the call is completed on chain.
	Completed func(ctx context.Context) (bool, error)
	// Submit sends submitAggregatedResult's data, if the contract would accept it, and returns nil
	// once it is mined.
	Submit func(ctx context.Context, data []byte) error
}
