package runner

import "context"

// Call is the call on whose behalf a handler runs.
type Call struct {
	Service, ID uint64
	Job         uint32
	Caller      [20]byte
	Block       uint64
	BlockHash   [32]byte
	Time        uint64 // of the block; Unix seconds
}

type callKey struct{}

// CallOf returns the call that a handler's context is for. It reports false in a job function and
// where the call does not come from the chain.
func CallOf(ctx context.Context) (Call, bool) {
	c, ok := ctx.Value(callKey{}).(Call)
	return c, ok
}
