package chain

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// Call returns the result of eth_call at the latest block, or *Revert.
func (c *Chain) Call(ctx context.Context, call Call) ([]byte, error) {
	results, errs, err := c.callAll(ctx, []Call{call})
	if err != nil {
		return nil, err
	}
	return results[0], errs[0]
}

// DryRun is eth_call for several calls, in as few requests as possible. For each call it returns
// nil, or why it would not succeed: a *Revert, or another error of the node. The second error says
// that there is no answer at all.
func (c *Chain) DryRun(ctx context.Context, calls []Call) ([]error, error) {
	_, errs, err := c.callAll(ctx, calls)
	return errs, err
}

func (c *Chain) callAll(ctx context.Context, calls []Call) (results [][]byte, errs []error, err error) {
	results, errs = make([][]byte, len(calls)), make([]error, len(calls))
	for from := 0; from < len(calls); from += chunk {
		some := calls[from:min(from+chunk, len(calls))]
		batch := make([]rpc.Call, len(some))
		for i, call := range some {
			batch[i] = ask("eth_call", into(&results[from+i], parseBytes), call.params(), "latest")
			batch[i].Required = len(calls) == 1 // else one that a node cannot run would cost the others their answers
		}
		answers, node, err := c.rpc.Do(ctx, batch)
		if err != nil {
			return nil, nil, callError(err)
		}
		for i, a := range answers {
			if a.Err != nil {
				errs[from+i] = callError(node.RPCError(a.Err, "eth_call"))
			}
		}
	}
	return results, errs, nil
}

// EstimateGas returns the node's estimate, or *Revert.
func (c *Chain) EstimateGas(ctx context.Context, call Call) (uint64, error) {
	const method = "eth_estimateGas"
	var gas uint64
	answers, node, err := c.rpc.Do(ctx, []rpc.Call{ask(method, into(&gas, parseNumber), call.params())})
	switch {
	case err != nil:
		return 0, callError(err)
	case answers[0].Err != nil:
		return 0, callError(node.RPCError(answers[0].Err, method))
	}
	return gas, nil
}

func (call Call) params() map[string]string {
	p := map[string]string{"to": call.To.String(), "data": "0x" + hex.EncodeToString(call.Data)}
	if !call.From.IsZero() {
		p["from"] = call.From.String()
	}
	if call.Value != nil && call.Value.Sign() > 0 {
		p["value"] = "0x" + call.Value.Text(16)
	}
	if call.Gas > 0 {
		p["gas"] = rpc.Quantity(call.Gas)
	}
	return p
}

// callError returns a *Revert if the contract refused the call, one of the sentinels if the node
// did for a reason that they name, or else the error.
func callError(err error) error {
	var failure *rpc.Error
	if !errors.As(err, &failure) || failure.RPC == nil {
		return err
	}
	if sentinel := refusal(failure.RPC); sentinel != nil {
		return &textError{sentinel, err}
	}
	if !failure.RPC.Reverted() {
		return err
	}
	r := &Revert{Data: failure.RPC.Data}
	if len(r.Data) >= 4 {
		r.Selector = binary.BigEndian.Uint32(r.Data)
	}
	return r
}
