package tangle

import (
	"context"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// created finds a span of blocks that contains the block in which a blueprint was created: the
// first one whose time is at least createdAt. Walking back there from the newest block can take
// thousands of queries. The search takes a handful, because most chains produce blocks at a steady
// pace. The hash of the payload shows whether the guess was right.
func (w *walk) created(ctx context.Context, head, createdAt uint64) (from, to uint64, ok bool) {
	times, err := w.times(ctx, head, 1)
	if err != nil || createdAt > times[0] {
		return 0, 0, false
	}
	if createdAt <= times[1] {
		return 0, w.span - 1, true
	}
	// Invariant: block lo is earlier than createdAt, and block hi is not.
	lo, hi, loTime, hiTime := uint64(1), head, times[1], times[0]
	for probe := range maxProbes {
		if hi-lo <= w.span {
			return lo + 1, hi, true
		}
		guess := lo + (hi-lo)/2
		if elapsed := float64(hiTime) - float64(loTime); elapsed > 0 && probe%3 < 2 {
			guess = lo + uint64(float64(hi-lo)*(float64(createdAt)-float64(loTime))/elapsed)
			// Probe on alternating sides of the guess, so that a good guess is soon enclosed.
			if half := w.span / 2; probe%3 == 0 {
				guess -= min(half, guess)
			} else {
				guess += half
			}
		}
		guess = min(max(guess, lo+1), hi-1)
		times, err := w.times(ctx, guess)
		if err != nil {
			return 0, 0, false
		}
		if times[0] < createdAt {
			lo, loTime = guess, times[0]
		} else {
			hi, hiTime = guess, times[0]
		}
	}
	return 0, 0, false
}

// times returns the times of blocks in Unix seconds.
func (w *walk) times(ctx context.Context, blocks ...uint64) ([]uint64, error) {
	calls := make([]rpc.Call, len(blocks))
	for i, block := range blocks {
		calls[i] = rpc.Call{Method: "eth_getBlockByNumber", Params: []any{rpc.Quantity(block), false}, Required: true}
	}
	answers, err := w.do(ctx, calls)
	if err != nil {
		return nil, err
	}
	times := make([]uint64, len(blocks))
	for i, a := range answers {
		if a.Err != nil {
			return nil, a.Err
		}
		if times[i], err = blockMember(a.Result, "timestamp"); err != nil {
			return nil, fmt.Errorf("block %d: %s", blocks[i], w.nodes[0].Scrub(err.Error()))
		}
	}
	return times, nil
}

// blockMember returns a numeric member of a block.
func blockMember(block []byte, member string) (n uint64, err error) {
	if jsonwalk.Kind(block) != "an object" {
		return 0, fmt.Errorf("the block is %s, not an object", jsonwalk.Kind(block))
	}
	err = fmt.Errorf("the block has no %s", member)
	_ = jsonwalk.Members(block, func(name string, value []byte) error {
		if name == member {
			n, err = rpc.ParseQuantity(jsonwalk.Unquote(value))
		}
		return nil
	})
	return n, err
}
