package chain

import (
	"context"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// chunk is how many calls go into one batch.
const chunk = 100

// BlockAt returns the block of a number, ErrNoBlock if no node has it.
func (c *Chain) BlockAt(ctx context.Context, number uint64) (Block, error) {
	blocks, err := c.Blocks(ctx, []uint64{number})
	if err != nil {
		return Block{}, err
	}
	return blocks[0], nil
}

// Blocks returns the blocks of several numbers, ErrNoBlock if there is no node that has them.
func (c *Chain) Blocks(ctx context.Context, numbers []uint64) ([]Block, error) {
	blocks := make([]Block, len(numbers))
	for from := 0; from < len(numbers); from += chunk {
		some := numbers[from:min(from+chunk, len(numbers))]
		calls := make([]rpc.Call, len(some))
		for i, number := range some {
			calls[i] = blockCall(number, &blocks[from+i])
		}
		if _, _, err := c.rpc.Do(ctx, calls); err != nil {
			return nil, noBlock(err)
		}
	}
	return blocks, nil
}

// blockCall asks for a block by its number.
func blockCall(number uint64, into *Block) rpc.Call {
	return ask("eth_getBlockByNumber", func(result []byte) error {
		b, err := parseBlock(result)
		if err == nil && b.Number != number {
			err = fmt.Errorf("block %d instead of block %d", b.Number, number)
		}
		*into = b
		return err
	}, rpc.Quantity(number), false)
}

// noBlock returns ErrNoBlock if that is what the nodes said.
func noBlock(err error) error {
	if absent(err) {
		return &textError{ErrNoBlock, err}
	}
	return err
}

// textError is a sentinel with the node's words.
type textError struct{ is, err error }

func (e *textError) Error() string   { return e.is.Error() + ": " + e.err.Error() }
func (e *textError) Unwrap() []error { return []error{e.is, e.err} }
