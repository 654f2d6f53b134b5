package chain

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// SendRaw sends a signed transaction to all usable nodes. It returns nil if one took it. Otherwise
// it returns ErrAlreadyKnown if one has it; or one of the errors above if a node gave a reason, the
// weightiest one; or ErrSendUncertain if an answer was lost; or the error of a node, which did not
// take it. As soon as a node took it the others are not awaited, but sent to.
func (c *Chain) SendRaw(ctx context.Context, raw []byte) error {
	nodes, err := c.usable()
	if err != nil {
		return err
	}
	hash := tangle.Keccak256(raw)
	call := ask("eth_sendRawTransaction", func(result []byte) error {
		var got Word
		if err := fill(got[:], result); err != nil || got != hash {
			return errors.New("not the hash of the transaction")
		}
		return nil
	}, "0x"+hex.EncodeToString(raw))
	failed := make([]error, 0, len(nodes))
	for _, o := range gatherUntil(ctx, c, nodes, func(ctx context.Context, n *node) (struct{}, error) {
		// Once: a second answer would hide what came of the first.
		if _, err := c.rpc.Ask(ctx, n.Node, []rpc.Call{call}); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, nil
	}, 0) {
		if o.err == nil {
			return nil
		}
		failed = append(failed, o.err)
	}
	if ctx.Err() != nil {
		return &textError{ErrSendUncertain, context.Cause(ctx)}
	}
	return sendError(failed)
}

// sendError chooses the error to return if no node took a transaction.
func sendError(failed []error) error {
	var lost, refused error
	named := make(map[error]error)
	for _, err := range failed {
		var failure *rpc.Error
		switch {
		case !errors.As(err, &failure): // it had not answered yet
			lost = err
		case failure.RPC != nil && refusal(failure.RPC) != nil:
			named[refusal(failure.RPC)] = err
		case failure.Status == http.StatusRequestEntityTooLarge:
			named[ErrTxTooLarge] = err
		case failure.Unsent(), failure.Kind == rpc.ErrRPC && !uncertain(failure.RPC):
			refused = err
		default:
			lost = err
		}
	}
	for _, sentinel := range refusals {
		if err := named[sentinel]; err != nil {
			return &textError{sentinel, err}
		}
	}
	if lost != nil {
		return &textError{ErrSendUncertain, lost}
	}
	return refused
}

// uncertain reports whether a node may have taken a transaction although it answered with this
// error: an internal one, or a time-out of what is behind it.
func uncertain(e *rpc.RPCError) bool {
	return e.Code == -32603 || strings.Contains(strings.ToLower(e.Message), "timeout") ||
		strings.Contains(strings.ToLower(e.Message), "timed out")
}

// refusals are the reasons of nodes, the weightiest first.
var refusals = []error{
	ErrAlreadyKnown, ErrNonceTooLow, ErrUnderpriced, ErrFeeTooLow, ErrNoFunds, ErrGasLimit, ErrTxTooLarge,
}

// reasons are the words of anvil, geth, reth, erigon, nethermind and besu. They have no codes for
// these. The first that is found counts.
var reasons = []struct {
	words    string
	sentinel error
}{
	{"already known", ErrAlreadyKnown}, {"already imported", ErrAlreadyKnown}, {"alreadyknown", ErrAlreadyKnown},
	{"known transaction", ErrAlreadyKnown}, {"existing tx with same hash", ErrAlreadyKnown},
	{"already in mempool", ErrAlreadyKnown}, {"already exists", ErrAlreadyKnown},
	{"nonce too low", ErrNonceTooLow}, {"nonce is too low", ErrNonceTooLow}, {"oldnonce", ErrNonceTooLow},
	{"nonce has already been used", ErrNonceTooLow}, {"ownnoncealreadyused", ErrNonceTooLow},
	{"underpriced", ErrUnderpriced}, {"replacementnotallowed", ErrUnderpriced}, {"not replaced", ErrUnderpriced},
	{"replaced by transaction with higher tip", ErrUnderpriced}, {"txpool is full", ErrUnderpriced},
	{"pool is full", ErrUnderpriced}, {"feetoolowtocompete", ErrUnderpriced}, {"gas price below", ErrUnderpriced},
	{"tip needed", ErrUnderpriced}, {"below configured minimum", ErrUnderpriced},
	{"less than block base fee", ErrFeeTooLow}, {"lower than the block base fee", ErrFeeTooLow},
	{"fee cap less than", ErrFeeTooLow}, {"below base fee", ErrFeeTooLow}, {"feetoolow", ErrFeeTooLow},
	{"fee too low", ErrFeeTooLow}, {"maxfeepergas too low", ErrFeeTooLow}, {"base fee exceeds", ErrFeeTooLow},
	{"insufficient funds", ErrNoFunds}, {"insufficientfunds", ErrNoFunds}, {"insufficient balance", ErrNoFunds},
	{"exceeds account balance", ErrNoFunds}, {"exceeds allowance", ErrGasLimit},
	{"intrinsic gas", ErrGasLimit}, {"gas limit too high", ErrGasLimit}, {"exceeds block gas limit", ErrGasLimit},
	{"gas limit exceeded", ErrGasLimit}, {"gaslimitexceeded", ErrGasLimit}, {"gas too low", ErrGasLimit},
	{"gas limit is too high", ErrGasLimit}, {"exceeds transaction gas cap", ErrGasLimit}, {"gas floor", ErrGasLimit},
	{"exceeds maximum allowed gas", ErrGasLimit}, {"floor data gas", ErrGasLimit}, {"out of gas", ErrGasLimit},
	{"oversized data", ErrTxTooLarge}, {"maxtxsizeexceeded", ErrTxTooLarge}, {"rlp too long", ErrTxTooLarge},
	{"transaction too large", ErrTxTooLarge}, {"tx too large", ErrTxTooLarge},
}

// refusal returns the sentinel for an error of a node, or nil if none fits.
func refusal(e *rpc.RPCError) error {
	if e.Code == 3 || e.Throttled() { // the contract's words, or none about the transaction
		return nil
	}
	message := strings.ToLower(e.Message)
	for _, reason := range reasons {
		if strings.Contains(message, reason.words) {
			return reason.sentinel
		}
	}
	return nil
}

// Receipt returns nil without an error if no node knows the transaction as mined.
func (c *Chain) Receipt(ctx context.Context, tx Word) (*Receipt, error) {
	var receipt *Receipt
	_, _, err := c.rpc.Do(ctx, []rpc.Call{ask("eth_getTransactionReceipt", func(result []byte) error {
		r, err := parseReceipt(result)
		if err == nil && r.Tx != tx {
			err = errors.New("the receipt of another transaction")
		}
		receipt = r
		return err
	}, tx.String())})
	if errors.Is(err, rpc.ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// Nonce returns the account's next nonce by mined transactions: the highest that a usable node
// says.
func (c *Chain) Nonce(ctx context.Context, account Address) (uint64, error) {
	nodes, err := c.usable()
	if err != nil {
		return 0, err
	}
	answers := gather(ctx, c, nodes, func(ctx context.Context, n *node) (nonce uint64, err error) {
		count := ask("eth_getTransactionCount", into(&nonce, parseNumber), account.String(), "latest")
		_, _, err = c.rpc.Do(ctx, []rpc.Call{count}, n.Node)
		return nonce, err
	})
	var highest uint64
	var failed joined
	for _, a := range answers {
		if a.err != nil {
			failed = append(failed, a.err)
		}
		highest = max(highest, a.value)
	}
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case len(failed) == 1 && len(nodes) == 1:
		return 0, failed[0]
	case len(failed) == len(nodes):
		return 0, fmt.Errorf("none of %d nodes gave an answer: %w", len(nodes), failed)
	}
	return highest, nil
}

// Balance returns what an account has, in wei.
func (c *Chain) Balance(ctx context.Context, account Address) (*big.Int, error) {
	var balance *big.Int
	_, _, err := c.rpc.Do(ctx, []rpc.Call{ask("eth_getBalance", into(&balance, parseAmount), account.String(), "latest")})
	return balance, err
}

// Fees returns what the chain asks. If a node suggests no tip, it is what its gas price is above
// the base fee.
func (c *Chain) Fees(ctx context.Context) (Fees, error) {
	var head Block
	var amounts [2]*big.Int
	calls := []rpc.Call{ask("eth_getBlockByNumber", into(&head, parseBlock), "latest", false)}
	for i, method := range []string{"eth_maxPriorityFeePerGas", "eth_gasPrice"} {
		calls = append(calls, rpc.Call{Method: method, Check: into(&amounts[i], parseAmount)})
	}
	answers, from, err := c.rpc.Do(ctx, calls)
	if err != nil {
		return Fees{}, err
	}
	f := Fees{BaseFee: head.BaseFee, Tip: amounts[0]}
	if f.BaseFee == nil {
		f.BaseFee = new(big.Int)
	}
	if answers[1].Err == nil {
		return f, nil
	}
	if answers[2].Err != nil {
		return Fees{}, from.RPCError(answers[1].Err, calls[1].Method)
	}
	if f.Tip = new(big.Int).Sub(amounts[1], f.BaseFee); f.Tip.Sign() < 0 {
		f.Tip.SetInt64(0)
	}
	return f, nil
}
