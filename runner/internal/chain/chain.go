// Package chain reads the Tangle contracts for a runner, through several nodes that it does not
// trust, and sends what a runner sends.
package chain

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

type (
	Address = tangle.Address
	Word    = tangle.Word
)

// Config says which nodes and which contract.
type Config struct {
	URLs        []string
	Contract    *Address // nil: the known one of the chain
	ChainID     uint64   // 0: the first node's; nodes of another chain are never asked
	HTTP        *http.Client
	Timeout     time.Duration // of one answer; 0: ten seconds
	MaxLogRange uint64        // blocks; 0: 2000, and then what the nodes allow
	Logger      *slog.Logger  // nil: none
}

// Block is the head of a block.
type Block struct {
	Number       uint64
	Hash, Parent Word
	Time         uint64   // Unix seconds
	BaseFee      *big.Int // nil before EIP-1559
}

// Log is a log, as decoded from an answer and checked against the query.
type Log struct {
	Address   Address
	Topics    []Word
	Data      []byte
	Block     uint64
	BlockHash Word
	Tx        Word
	Index     uint32 // in the block
}

// LogQuery selects logs of the contract. Topics[i] are the alternatives of topic i; empty: any.
type LogQuery struct {
	Topics [][]Word
}

// Call is a transaction that is not sent.
type Call struct {
	From, To Address
	Data     []byte
	Value    *big.Int
	Gas      uint64 // 0: the node's choice
}

// Receipt is a mined transaction's.
type Receipt struct {
	Tx        Word
	Block     uint64
	BlockHash Word
	Succeeded bool
	GasUsed   uint64
	GasPrice  *big.Int // effective
	Logs      []Log
}

// Fees are what the chain asks at the head.
type Fees struct {
	BaseFee *big.Int
	Tip     *big.Int // what the node suggests
}

// NodeStatus says how a node is.
type NodeStatus struct {
	Node    string // scheme and host
	Head    uint64
	Usable  bool
	Errors  uint64
	Problem string // why it is not usable, or its last error; without secrets
}

// The errors that callers act on, beside tangle's kinds and context errors.
var (
	ErrNoBlock       = errors.New("no node has this block")              // yet, or not any more
	ErrAlreadyKnown  = errors.New("transaction already known")           // not a failure
	ErrNonceTooLow   = errors.New("nonce too low")                       //
	ErrUnderpriced   = errors.New("replacement transaction underpriced") // or the pool's minimum
	ErrFeeTooLow     = errors.New("fee cap below the base fee")
	ErrNoFunds       = errors.New("insufficient funds")
	ErrTxTooLarge    = errors.New("transaction too large")
	ErrGasLimit      = errors.New("gas limit above what the chain allows, or below what is needed")
	ErrSendUncertain = errors.New("no answer to the sent transaction") // it may be in the pool
)

// Revert is an error of the contract: Selector is zero if it reverted without data.
type Revert struct {
	Selector uint32
	Data     []byte
}

func (r *Revert) Error() string { panic("by the helper: names the known errors") }

// Chain is safe for concurrent use.
type Chain struct{}

// Open asks the nodes for the chain's id and looks for the contract. It fails if no node answers
// (a kind of tangle's), if they are of different chains, or if there is no contract.
func Open(ctx context.Context, cfg Config) (*Chain, error) { panic("unwritten") }

func (c *Chain) ID() uint64          { panic("unwritten") }
func (c *Chain) Contract() Address   { panic("unwritten") }
func (c *Chain) Nodes() []NodeStatus { panic("unwritten") }
func (c *Chain) Close()              { panic("unwritten") }

// Head returns the latest block that a usable node knows. A node that is far behind the others is
// not usable. The head may go back: after a reorg, and when only a node that is behind answers.
func (c *Chain) Head(ctx context.Context) (Block, error) { panic("unwritten") }

// BlockAt returns the block of a number, ErrNoBlock if no node has it.
func (c *Chain) BlockAt(ctx context.Context, number uint64) (Block, error) { panic("unwritten") }

// Logs returns the logs of the blocks from..to, in order. It verifies, on the node that answered,
// that the node has block `to` with the hash `toHash` (zero: not checked); if not: ErrNoBlock. It
// adapts the width of its queries to what the nodes allow, and returns only what is complete.
func (c *Chain) Logs(ctx context.Context, q LogQuery, from, to uint64, toHash Word) ([]Log, error) {
	panic("unwritten")
}

// LogsOfBlock returns the logs of exactly this block, ErrNoBlock if no node has it.
func (c *Chain) LogsOfBlock(ctx context.Context, q LogQuery, hash Word) ([]Log, error) {
	panic("unwritten")
}

// Call returns the result of eth_call at the latest block, or *Revert.
func (c *Chain) Call(ctx context.Context, call Call) ([]byte, error) { panic("unwritten") }

// EstimateGas returns the node's estimate, or *Revert.
func (c *Chain) EstimateGas(ctx context.Context, call Call) (uint64, error) { panic("unwritten") }

// SendRaw sends a signed transaction to all usable nodes. It returns nil if one took it, or one of
// the errors above.
func (c *Chain) SendRaw(ctx context.Context, raw []byte) error { panic("unwritten") }

// Receipt returns nil without an error if no node knows the transaction as mined.
func (c *Chain) Receipt(ctx context.Context, tx Word) (*Receipt, error) { panic("unwritten") }

// Nonce returns the account's next nonce by mined transactions: the highest that a usable node says.
func (c *Chain) Nonce(ctx context.Context, account Address) (uint64, error)     { panic("unwritten") }
func (c *Chain) Balance(ctx context.Context, account Address) (*big.Int, error) { panic("unwritten") }
func (c *Chain) Fees(ctx context.Context) (Fees, error)                         { panic("unwritten") }

// JobCall is what getJobCall returns; CreatedAt is zero if there is no such call.
type JobCall struct {
	Job         uint8
	Caller      Address
	CreatedAt   uint64
	ResultCount uint32
	Completed   bool
	RFQ         bool
	Payment     *big.Int
}

// JobCall handles both orders of words: the generation of the contract is found out once and again
// when an answer contradicts it.
func (c *Chain) JobCall(ctx context.Context, service, call uint64) (JobCall, error) {
	panic("unwritten")
}

// Service is what getService returns.
type Service struct {
	Blueprint  uint64
	Owner      Address
	CreatedAt  uint64
	TTL        uint64 // seconds; 0: none
	Terminated uint64
	Operators  uint32
	Pricing    uint8
	Status     uint8 // 0 pending, 1 active, 2 terminated
}

func (c *Chain) Service(ctx context.Context, service uint64) (Service, error) { panic("unwritten") }
func (c *Chain) IsServiceOperator(ctx context.Context, service uint64, operator Address) (bool, error) {
	panic("unwritten")
}
func (c *Chain) ServiceOperators(ctx context.Context, service uint64) ([]Address, error) {
	panic("unwritten")
}
func (c *Chain) QuotedOperators(ctx context.Context, service, call uint64) ([]Address, error) {
	panic("unwritten")
}
func (c *Chain) IsOperatorRegistered(ctx context.Context, blueprint uint64, operator Address) (bool, error) {
	panic("unwritten")
}
func (c *Chain) Paused(ctx context.Context) (bool, error) { panic("unwritten") }
func (c *Chain) PendingRewards(ctx context.Context, account Address) (*big.Int, error) {
	panic("unwritten")
}
func (c *Chain) StatusRegistry(ctx context.Context) (Address, error) { panic("unwritten") } // operatorStatusRegistry()
func (c *Chain) HookGasLimit(ctx context.Context) (uint64, error)    { panic("unwritten") } // managerHookGasLimit(), 500k if it has none
