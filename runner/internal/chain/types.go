// Package chain reads the Tangle contracts for a runner, through several nodes that it does not
// trust, and sends what a runner sends.
package chain

import (
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
	ChainID     uint64   // 0: that of the nodes, which must agree; nodes of another chain are never asked
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
	Time      uint64 // of the block in Unix seconds, if the node said it; 0: unknown
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

// The errors that callers act on, beside those of package rpc, *Revert and context errors.
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
