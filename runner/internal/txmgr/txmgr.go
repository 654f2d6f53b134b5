// Package txmgr sends the transactions of one account, one nonce after another, until each is
// mined as deep as wanted.
//
// One goroutine, that of Run, owns the nonces. Each nonce is an entry: open, mined, settled, taken
// by somebody else, or vacant, which means that what it was for is not wanted any more. A vacant
// nonce goes to the next request, or to a transfer of nothing from the account to itself, so that
// no gap holds up the nonces above it. Every version of a transaction is in the store before a node
// gets it, and stays there until it is too deep for a reorg.
package txmgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
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
	// MaxInFlight is how many requests may have a nonce that is not mined; 0: 16.
	MaxInFlight int
	Observe     func(Event)  // nil: none; called by one goroutine at a time, must return at once
	Logger      *slog.Logger // nil: none
}

// The kinds of events.
const (
	Sent      = "sent"
	SentAgain = "sent again" // the pool had lost it
	Bumped    = "bumped"     // sent with higher fees
	Mined     = "mined"      // as deep as wanted; once for each nonce, unless it was taken back
	TakenBack = "taken back" // by a reorg
	Replaced  = "replaced"   // another program used the nonce
	Filled    = "filled"     // the nonce was not wanted any more, and is used for a transfer of nothing
	Waiting   = "waiting"    // Err says what keeps transactions from being sent
	Resumed   = "resumed"    // nothing does any more
)

// Event tells of a transaction, or of all.
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
	// Still is asked before the transaction is sent, and whenever it is sent anew or with higher fees,
	// as long as the Manager lives. An error that wraps ErrObsolete drops it; its nonce is then used
	// by something else. After any other error it is asked again later. nil: always wanted.
	Still func(ctx context.Context) error
	// Resume is the hash of a transaction that was sent for this request before. If it is in flight,
	// with the same To and Data, it is adopted, even if ctx has ended already.
	Resume tangle.Word
	// Mined is called when the transaction is first seen mined, before it is as deep as wanted. May be
	// nil.
	Mined func(*chain.Receipt)
	// Sent is called before the transaction is first given to a node, with its hash. An error keeps it
	// from being sent. It is called again if the transaction gets another nonce. nil: none.
	Sent func(tangle.Word) error
}

var (
	// ErrObsolete means that the transaction is not wanted any more.
	ErrObsolete = errors.New("not wanted any more")
	// ErrReplaced means that another transaction of the account has taken the nonce: somebody else
	// uses the key.
	ErrReplaced = errors.New("the account's nonce was used elsewhere: another program uses this key")
	// ErrStopped means that Run has ended. What was sent stays in flight.
	ErrStopped = errors.New("the queue of transactions has stopped")
)

const (
	// keep is how deep a transaction is forgotten: no reorg goes that far.
	keep = 64
	// patience is how many polls what nodes do not agree on, or do not know, must stand to be
	// believed.
	patience = 10
	// signTime is how long a signer may take; it holds up all.
	signTime = 30 * time.Second
	// maxGas is what some chains allow one transaction.
	maxGas = 1 << 24
)

// Manager is the queue of one key. Safe for concurrent use.
type Manager struct {
	cfg     Config
	account tangle.Address
	slots   chan struct{}
	wake    chan struct{} // has room for one
	done    chan struct{} // closed when Run has ended
	running atomic.Bool
	sends   atomic.Int64
	// reserved are the transactions of an earlier process that are resumed; nil: not known yet.
	reserved atomic.Pointer[map[tangle.Word]bool]

	mu     sync.Mutex
	queue  []*request // in order; without those that have an entry
	status Status
	waited int // requests that have a nonce, of sends

	telling sync.Mutex

	owner // only of Run
}

// Status is a snapshot.
type Status struct {
	InFlight, Waiting int
	NextNonce         uint64
	Mined, Failed     uint64
	GasUsed           uint64
	Spent             *big.Int
	Foreign           uint64 // nonces that somebody else used
}

// request is a Request that waits for its end.
type request struct {
	Request
	gas     uint64
	asked   time.Time // when Still and the estimate were
	resume  bool      // looks for Resume only
	end     chan end
	gone    atomic.Bool // nobody waits any more
	release func()      // gives the slot back; may be called again
}

// end is how a request ends.
type end struct {
	receipt *chain.Receipt
	err     error
}

var (
	errAgain   = errors.New("another nonce is needed")
	errUnknown = errors.New("the transaction is not in flight")
)

// New loads what the store says is in flight. It asks no node: Run does the work.
func New(cfg Config) (*Manager, error) {
	if cfg.MaxFee == nil {
		cfg.MaxFee = big.NewInt(500e9)
	}
	if cfg.MaxTip == nil {
		cfg.MaxTip = big.NewInt(50e9)
	}
	if cfg.MaxGas == 0 {
		cfg.MaxGas = maxGas
	}
	if cfg.BumpAfter == 0 {
		cfg.BumpAfter = 30 * time.Second
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 16
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		cfg: cfg, account: cfg.Signer.Address(),
		slots: make(chan struct{}, cfg.MaxInFlight), wake: make(chan struct{}, 1), done: make(chan struct{}),
		status: Status{Spent: new(big.Int)},
	}
	m.entries = map[uint64]*entry{}
	for _, stored := range cfg.Store.Txs() {
		e, err := m.load(stored)
		if err != nil {
			return nil, fmt.Errorf("the stored transaction with nonce %d: %w", stored.Nonce, err)
		}
		m.entries[e.nonce] = e
		m.expect = max(m.expect, e.nonce+1)
	}
	return m, nil
}

// Run works until ctx ends, and returns its error. It leaves what is in flight to the next Manager.
// It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	if m.running.Swap(true) {
		return errors.New("the queue of transactions is running already")
	}
	defer close(m.done)
	for ctx.Err() == nil {
		var timer <-chan time.Time
		if wait := m.step(ctx); wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer:
		}
	}
	return ctx.Err()
}

// Send returns once the transaction is mined as deep as wanted, whether it succeeded or not (the
// receipt says). Otherwise it returns an error: *chain.Revert if the estimate reverts, ErrObsolete,
// chain.ErrGasLimit, chain.ErrTxTooLarge, what Still or Sent returned, or the nodes' error of the
// estimate, in all of which cases nothing is in a pool that was not cancelled; ErrReplaced;
// ErrStopped. Without funds it waits, and tells. If ctx ends, what was sent stays in flight.
func (m *Manager) Send(ctx context.Context, r Request) (*chain.Receipt, error) {
	m.sends.Add(1)
	defer m.sends.Add(-1)
	if !r.Resume.IsZero() {
		receipt, err := m.hand(ctx, &request{Request: r, resume: true, release: func() {}})
		if !errors.Is(err, errUnknown) && !errors.Is(err, errAgain) {
			return receipt, err
		}
	}
	for {
		receipt, err := m.try(ctx, r)
		if !errors.Is(err, errAgain) {
			return receipt, err
		}
	}
}

// Settled says which transactions of an earlier process are resumed: each is left alone until a
// Send does. The nonces of all others that are in flight are used for something else. Call it once,
// before the first Send.
func (m *Manager) Settled(wanted []tangle.Word) {
	reserved := map[tangle.Word]bool{}
	for _, hash := range wanted {
		reserved[hash] = true
	}
	m.reserved.Store(&reserved)
	m.rouse()
}

// Status is a snapshot.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Spent = new(big.Int).Set(s.Spent)
	s.Waiting = max(0, int(m.sends.Load())-m.waited)
	return s
}

// try sends a request with a nonce of its own.
func (m *Manager) try(ctx context.Context, r Request) (*chain.Receipt, error) {
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.done:
		return nil, ErrStopped
	}
	req := &request{Request: r, asked: time.Now(), release: sync.OnceFunc(func() { <-m.slots })}
	if r.Still != nil {
		if err := r.Still(ctx); err != nil {
			req.release()
			return nil, err
		}
	}
	var err error
	if req.gas, err = m.gas(ctx, r); err != nil {
		req.release()
		return nil, err
	}
	return m.hand(ctx, req)
}

// hand gives a request to the goroutine of Run and waits for its end.
func (m *Manager) hand(ctx context.Context, req *request) (*chain.Receipt, error) {
	req.end = make(chan end, 1)
	m.mu.Lock()
	m.queue = append(m.queue, req)
	m.mu.Unlock()
	m.rouse()
	select {
	case e := <-req.end:
		return e.receipt, e.err
	case <-ctx.Done():
		req.gone.Store(true)
		m.rouse() // so that it leaves the queue
		return nil, ctx.Err()
	case <-m.done:
		select {
		case e := <-req.end:
			return e.receipt, e.err
		default:
			return nil, ErrStopped
		}
	}
}

// gas returns the limit for a request. It waits while the account has no funds.
func (m *Manager) gas(ctx context.Context, r Request) (uint64, error) {
	told := false
	for {
		estimate, err := m.cfg.Chain.EstimateGas(ctx, chain.Call{From: m.account, To: r.To, Data: r.Data, Value: r.Value})
		if err == nil {
			return m.limit(estimate, r.ExtraGas)
		}
		if !errors.Is(err, chain.ErrNoFunds) {
			return 0, err
		}
		if !told {
			told = true
			m.tell(Event{Kind: Waiting, Label: r.Label, Err: err})
		}
		select {
		case <-time.After(m.cfg.BumpAfter / 3):
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-m.done:
			return 0, ErrStopped
		}
	}
}

// limit returns the gas limit for an estimate. The chain of a moment later may need more.
func (m *Manager) limit(estimate, extra uint64) (uint64, error) {
	if extra > m.cfg.MaxGas || estimate > m.cfg.MaxGas-extra {
		return 0, fmt.Errorf("%w: it needs %d, and %d for hooks, of at most %d",
			chain.ErrGasLimit, estimate, extra, m.cfg.MaxGas)
	}
	return min(estimate+estimate*3/10+1+extra, m.cfg.MaxGas), nil
}

func (m *Manager) rouse() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) tell(e Event) {
	m.telling.Lock()
	defer m.telling.Unlock()
	level := slog.LevelDebug
	if e.Kind == Waiting || e.Kind == Replaced || e.Kind == TakenBack {
		level = slog.LevelWarn
	}
	m.cfg.Logger.Log(context.Background(), level, "transaction "+e.Kind,
		"label", e.Label, "nonce", e.Nonce, "tx", e.Tx.String(), "error", e.Err)
	if m.cfg.Observe != nil {
		m.cfg.Observe(e)
	}
}
