// Package txmgr sends the transactions of one account, one nonce after another, until each is
// mined as deep as wanted.
package txmgr

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// Chain is what a Manager needs of *chain.Chain.
type Chain interface {
	ID() uint64
	Head(ctx context.Context) (chain.Block, error)
	BlockAt(ctx context.Context, number uint64) (chain.Block, error)
	SendRaw(ctx context.Context, raw []byte) error
	Receipt(ctx context.Context, tx chain.Word) (*chain.Receipt, error)
	Nonce(ctx context.Context, account chain.Address) (uint64, error)
	Balance(ctx context.Context, account chain.Address) (*big.Int, error)
	Fees(ctx context.Context) (chain.Fees, error)
	EstimateGas(ctx context.Context, call chain.Call) (uint64, error)
}

// Store is what a Manager needs of *journal.Journal.
type Store interface {
	PutTx(journal.Tx) error
	DropTx(nonce uint64) error
	Txs() []journal.Tx
}

// Config configures a Manager.
type Config struct {
	Chain  Chain
	Store  Store
	Signer tx.Signer
	// Depth is how many blocks must be on top of a transaction's before it counts.
	Depth uint64
	// MaxFee and MaxTip bound what a unit of gas may cost, in wei; nil: 500 gwei, and 50 gwei.
	MaxFee, MaxTip *big.Int
	// MaxGas bounds one transaction; 0: 16,777,216.
	MaxGas uint64
	// BumpAfter is how long a transaction may wait in the pool before its fees are raised; 0: 30 s.
	BumpAfter time.Duration
	// Poll is how often the chain is asked while something is in flight; 0: 1 s.
	Poll time.Duration
	// MaxInFlight is how many nonces may be open at a time; 0: 16.
	MaxInFlight int
	Observe     func(Event)  // nil: none; called from the Manager's goroutine, must return at once
	Logger      *slog.Logger // nil: none
}

// Event tells of a transaction: sent, bumped, sent again, mined, taken back by a reorg, replaced
// by a foreign transaction of the same account.
type Event struct {
	Kind    string
	Label   string
	Nonce   uint64
	Tx      tangle.Word
	GasUsed uint64
	Cost    *big.Int // wei; once mined
	Err     error
}

// Request is one transaction that is wanted.
type Request struct {
	Label string
	To    tangle.Address
	Data  []byte
	Value *big.Int
	// ExtraGas is added to 1.3 times the estimate: what hooks may use that an estimate does not see.
	ExtraGas uint64
	// Still is asked before the transaction is sent, and again before it is sent anew after a reorg or
	// a crash (then by the caller who sends the request again). An error that wraps ErrObsolete drops
	// it; its nonce is then used by something else. nil: always.
	Still func(ctx context.Context) error
	// Resume is the hash of a transaction that was sent for this request before. If it is in flight,
	// with the same To and Data, it is adopted.
	Resume tangle.Word
	// Mined is called when the transaction is first seen mined, before it is as deep as wanted. May be
	// nil.
	Mined func(*chain.Receipt)
	// Sent is called before the transaction is first given to a node, with its hash. An error keeps it
	// from being sent.
	Sent func(tangle.Word) error
}

var (
	// ErrObsolete means that the transaction is not wanted any more.
	ErrObsolete = errors.New("not wanted any more")
	// ErrReplaced means that another transaction of the account has taken the nonce: somebody else
	// uses the key.
	ErrReplaced = errors.New("the account's nonce was used elsewhere: another program uses this key")
)

// Manager is the queue of one key. Safe for concurrent use.
type Manager struct{}

// New loads what the store says is in flight and takes care of it: what is mined is dropped, what
// is not is sent again, so that no nonce is left open. Run does the work.
func New(ctx context.Context, cfg Config) (*Manager, error) { panic("unwritten") }

// Run works until ctx ends. It leaves what is in flight to the next run.
func (m *Manager) Run(ctx context.Context) error { panic("unwritten") }

// Send returns once the transaction is mined as deep as wanted, whether it succeeded or not (the
// receipt says), or with an error: *chain.Revert if the estimate reverts (nothing was sent),
// ErrObsolete, ErrReplaced, chain.ErrNoFunds (it waits for funds until ctx ends, and tells).
// If ctx ends, what was sent stays in flight.
func (m *Manager) Send(ctx context.Context, r Request) (*chain.Receipt, error) { panic("unwritten") }

// Settled says that every request of an earlier process has been sent again, with Resume. The nonces
// of other transactions that are in flight are used for something else.
func (m *Manager) Settled() { panic("unwritten") }

// Status is a snapshot.
type Status struct {
	InFlight, Waiting int
	NextNonce         uint64
	Mined, Failed     uint64
	GasUsed           uint64
	Spent             *big.Int
	Foreign           uint64 // nonces that somebody else used
}

func (m *Manager) Status() Status { panic("unwritten") }
