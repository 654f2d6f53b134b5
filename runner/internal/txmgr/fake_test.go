package txmgr_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

var errAway = errors.New("no node answers")

// signer is the key of the tests.
type signer struct{ key *secp256k1.PrivateKey }

var theSigner = signer{secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))}

func (s signer) Address() [20]byte {
	return tx.AddressOf([65]byte(s.key.PubKey().SerializeUncompressed()))
}

func (s signer) Sign(_ context.Context, digest [32]byte) (sig [65]byte, err error) {
	compact := ecdsa.SignCompact(s.key, digest[:], false)
	copy(sig[:], compact[1:])
	sig[64] = compact[0] - 27
	return sig, nil
}

// store is a journal in memory that outlives a Manager.
type store struct {
	mu     sync.Mutex
	txs    map[uint64]journal.Tx
	hashes map[tangle.Word]bool // all that ever were in it
	fail   error
}

func newStore() *store { return &store{txs: map[uint64]journal.Tx{}, hashes: map[tangle.Word]bool{}} }

func (s *store) PutTx(t journal.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.txs[t.Nonce] = t
	for _, h := range t.Hashes {
		s.hashes[h] = true
	}
	return nil
}

func (s *store) DropTx(nonce uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.txs, nonce)
	return nil
}

func (s *store) Txs() []journal.Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []journal.Tx
	for _, n := range slices.Sorted(maps.Keys(s.txs)) {
		all = append(all, s.txs[n])
	}
	return all
}

func (s *store) knows(h tangle.Word) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hashes[h]
}

// pooled is a transaction of the account, ours or of another program.
type pooled struct {
	*tx.Tx
	hash    tangle.Word
	foreign bool
}

type block struct {
	chain.Block
	txs []pooled
}

// fake is a chain with the transactions of one account, and a pool.
type fake struct {
	t        testing.TB
	mu       sync.Mutex
	blocks   []block // the first has number 0
	pool     map[uint64]pooled
	base     *big.Int
	tip      *big.Int
	balance  *big.Int
	automine bool
	full     bool   // blocks have no room for the account
	made     uint64 // blocks, of all branches

	store     *store                              // if not nil: what is sent must be in it
	fails     map[tangle.Word]bool                // to these data's hashes, transactions fail
	estimate  func(chain.Call) (uint64, error)    // nil: 100,000
	before    func(ctx context.Context) error     // of every question
	onSend    func(t *tx.Tx) (err error, in bool) // instead of what a pool does: err, and whether it is in the pool
	sends     int
	questions int
}

func newFake(t testing.TB) *fake {
	f := &fake{
		t: t, pool: map[uint64]pooled{}, base: big.NewInt(1e9), tip: big.NewInt(1e8),
		balance: new(big.Int).Exp(big.NewInt(10), big.NewInt(24), nil), fails: map[tangle.Word]bool{},
	}
	f.mine()
	return f
}

func (f *fake) ID() uint64 { return 31337 }

// ask is the beginning of every question. The caller unlocks.
func (f *fake) ask(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		f.mu.Lock()
		return err
	}
	f.mu.Lock()
	f.questions++
	if f.before != nil {
		return f.before(ctx)
	}
	return nil
}

func (f *fake) Head(ctx context.Context) (chain.Block, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	return f.blocks[len(f.blocks)-1].Block, err
}

func (f *fake) BlockAt(ctx context.Context, number uint64) (chain.Block, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	if err == nil && number >= uint64(len(f.blocks)) {
		err = chain.ErrNoBlock
	}
	if err != nil {
		return chain.Block{}, err
	}
	return f.blocks[number].Block, nil
}

func (f *fake) Nonce(ctx context.Context, _ chain.Address) (uint64, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	return f.nonce(), err
}

func (f *fake) nonce() (n uint64) {
	for _, b := range f.blocks {
		n += uint64(len(b.txs))
	}
	return n
}

func (f *fake) Fees(ctx context.Context) (chain.Fees, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	return chain.Fees{BaseFee: f.base, Tip: f.tip}, err
}

func (f *fake) EstimateGas(ctx context.Context, call chain.Call) (uint64, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if f.estimate != nil {
		return f.estimate(call)
	}
	return 100_000, nil
}

func (f *fake) Receipt(ctx context.Context, hash chain.Word) (*chain.Receipt, error) {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, b := range f.blocks {
		for _, p := range b.txs {
			if p.hash == hash && !p.foreign {
				return &chain.Receipt{
					Tx: hash, Block: b.Number, BlockHash: b.Hash, GasUsed: 50_000, GasPrice: b.BaseFee,
					Succeeded: !f.fails[tangle.Keccak256(p.Data)],
				}, nil
			}
		}
	}
	return nil, nil
}

func (f *fake) SendRaw(ctx context.Context, raw []byte) error {
	err := f.ask(ctx)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	f.sends++
	t, sender, hash, err := tx.Parse(raw)
	if err != nil || sender != tangle.Address(theSigner.Address()) || t.ChainID != f.ID() {
		f.t.Errorf("a node got %x: %v", raw, err)
		return err
	}
	if f.store != nil && !f.store.knows(hash) {
		f.t.Errorf("a node got nonce %d before it was stored", t.Nonce)
	}
	if f.onSend != nil {
		if err, in := f.onSend(t); err != nil {
			if in {
				_ = f.add(pooled{Tx: t, hash: hash})
			}
			return err
		}
	}
	return f.add(pooled{Tx: t, hash: hash})
}

// add does what a pool does.
func (f *fake) add(p pooled) error {
	cost := new(big.Int).Mul(p.Cap, new(big.Int).SetUint64(p.Gas))
	old, replaces := f.pool[p.Nonce]
	switch {
	case p.Nonce < f.nonce():
		return chain.ErrNonceTooLow
	case replaces && old.hash == p.hash:
		return chain.ErrAlreadyKnown
	case cost.Cmp(f.balance) > 0:
		return chain.ErrNoFunds
	case p.Cap.Cmp(f.base) < 0:
		return chain.ErrFeeTooLow
	case replaces && (!tenth(p.Tip, old.Tip) || !tenth(p.Cap, old.Cap)):
		return chain.ErrUnderpriced
	}
	f.pool[p.Nonce] = p
	if f.automine {
		f.mine()
	}
	return nil
}

// tenth reports whether a is more than b by a tenth at least.
func tenth(a, b *big.Int) bool {
	return new(big.Int).Mul(a, big.NewInt(10)).Cmp(new(big.Int).Mul(b, big.NewInt(11))) >= 0
}

// mine makes a block of what the pool has. The caller holds mu, or is alone.
func (f *fake) mine() {
	var txs []pooled
	for n := f.nonce(); ; n++ {
		p, ok := f.pool[n]
		if !ok || f.full || p.Cap.Cmp(f.base) < 0 {
			break
		}
		txs = append(txs, p)
		delete(f.pool, n)
	}
	f.push(txs)
}

func (f *fake) push(txs []pooled) {
	f.made++
	b := block{txs: txs, Block: chain.Block{Number: uint64(len(f.blocks)), BaseFee: new(big.Int).Set(f.base)}}
	binary.BigEndian.PutUint64(b.Hash[:], f.made)
	b.Hash = sha256.Sum256(b.Hash[:])
	if len(f.blocks) > 0 {
		b.Parent = f.blocks[len(f.blocks)-1].Hash
	}
	f.blocks = append(f.blocks, b)
}

// drop takes the last blocks away. What was in them comes back into the pool if keep says so.
func (f *fake) drop(depth int, keep func() bool) {
	depth = min(depth, len(f.blocks)-1)
	gone := f.blocks[len(f.blocks)-depth:]
	f.blocks = f.blocks[:len(f.blocks)-depth]
	for _, b := range gone {
		for _, p := range b.txs {
			if old, ok := f.pool[p.Nonce]; keep() && (!ok || old.Tip.Cmp(p.Tip) < 0) {
				f.pool[p.Nonce] = p
			}
		}
	}
}

// steal uses the account's next nonce, as another program would.
func (f *fake) steal() {
	n := f.nonce()
	delete(f.pool, n)
	f.made++
	p := pooled{Tx: &tx.Tx{Nonce: n, Tip: f.tip, Cap: f.base}, foreign: true}
	binary.BigEndian.PutUint64(p.hash[:], f.made)
	f.push([]pooled{p})
}

// with calls do while nobody else looks.
func (f *fake) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func storedTx(nonce uint64, raw [][]byte, hash tangle.Word) journal.Tx {
	return journal.Tx{Nonce: nonce, Raw: raw, Hashes: []tangle.Word{hash}}
}
