// Package devchain is a development chain in memory, for tests and examples: blocks, a pool of
// transactions, receipts, logs, reorganizations, and a model of the Tangle contracts, written by
// hand after recordings of the genuine ones. Nodes serve it over HTTP as JSON-RPC, as strictly as
// real ones, with the faults that a test wants.
package devchain

import (
	"errors"
	"fmt"
	"math/big"
	"sort"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The contracts beside the Tangle contract, where they are on the recorded chain.
var (
	Registry = mustAddress("0x2bdcc0de6be1f7d2ee689a0342d76f52e8efaba3") // OperatorStatusRegistry
	Staking  = mustAddress("0xdc64a140aa3e981100a9beca4e685f962f0cf6c9")
	Metrics  = mustAddress("0xf4b146fba71f41e0592668ffbf264f1d186b2ca8")
	manager  = mustAddress("0xd6b040736e948621c5b6e0a494473c47a6113ea8")
)

// Contract is where the Tangle contract is unless the configuration says otherwise.
var Contract = mustAddress("0x0165878a594ca255338adfa4d48449f69242eb8f")

func mustAddress(s string) Address {
	a, err := tangle.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// Config says how a chain is. The zero value is the chain that development nodes start: id 31337,
// a block for every transaction.
type Config struct {
	ID        uint64  // 0: 31337
	Contract  Address // zero: Contract
	OldLayout bool    // getJobCall answers as contracts up to 0.18 do
	// Manual stops the mining of a block for every transaction: Mine mines.
	Manual bool
	// Every mines a block in this interval, until Close. It implies Manual.
	Every time.Duration
	// Empty leaves out blueprint 0 and service 0.
	Empty bool
	// MaxGas is the most that a transaction may ask for; 0: 16,777,216.
	MaxGas uint64
	// BLS verifies aggregates; nil: every aggregate of enough signers is taken.
	BLS *BLS
	// Now is the clock of blocks; nil: time.Now.
	Now func() time.Time
}

const (
	blockGas   = 100_000_000
	defaultGas = 1 << 24 // of a transaction at most
	gwei       = 1_000_000_000
	maxTxBytes = 128 << 10
	genesisFee = gwei
)

// Log is an event of a contract.
type Log struct {
	Address Address
	Topics  []Word
	Data    []byte
}

type block struct {
	number, time uint64
	hash, parent Word
	baseFee      *big.Int
	gasUsed      uint64
	receipts     []*receipt
}

type receipt struct {
	tx         *transaction
	block      *block
	index      int
	firstLog   int // index in the block of the first log
	succeeded  bool
	used       uint64
	cumulative uint64
	price      *big.Int
	logs       []Log
}

// Chain is a chain with its pool. It is safe for concurrent use.
type Chain struct {
	id        uint64
	contract  Address
	oldLayout bool
	maxGas    uint64
	bls       *BLS
	now       func() time.Time

	mu       sync.Mutex
	state    *store
	blocks   []*block
	byHash   map[Word]*block
	receipts map[Word]*receipt
	pool     map[Address]map[uint64]*transaction
	pooled   map[Word]*transaction
	arrivals uint64
	forks    uint64
	ahead    time.Duration // how far the clock was advanced
	auto     bool
	fixedFee *big.Int
	nodes    []*Node

	stop    chan struct{}
	stopped sync.WaitGroup
}

// New returns a chain. Close ends what it started.
func New(cfg Config) *Chain {
	c := &Chain{
		id: cfg.ID, contract: cfg.Contract, oldLayout: cfg.OldLayout, maxGas: cfg.MaxGas, bls: cfg.BLS, now: cfg.Now,
		state: newStore(), byHash: map[Word]*block{}, receipts: map[Word]*receipt{},
		pool: map[Address]map[uint64]*transaction{}, pooled: map[Word]*transaction{},
		auto: !cfg.Manual && cfg.Every == 0, stop: make(chan struct{}),
	}
	if c.id == 0 {
		c.id = 31337
	}
	if c.contract.IsZero() {
		c.contract = Contract
	}
	if c.maxGas == 0 {
		c.maxGas = defaultGas
	}
	if c.now == nil {
		c.now = time.Now
	}
	for i := range devKeys {
		const ether = 10_000
		balance := new(big.Int).Mul(big.NewInt(ether), big.NewInt(gwei))
		c.state.put(key{kind: kindBalance, address: Account(i)}, 0, balance.Mul(balance, big.NewInt(gwei)))
	}
	c.addBlock(&block{time: c.clock(), baseFee: big.NewInt(genesisFee)})
	for _, operator := range []int{1, 2, 4} {
		c.Stake(Account(operator), true)
	}
	if !cfg.Empty {
		c.AddBlueprint(Blueprint{Definition: tangle.Definition{Jobs: make([]tangle.Job, 8)}})
		c.AddService(Service{})
	}
	if cfg.Every > 0 {
		c.stopped.Go(func() { c.mineEvery(cfg.Every) })
	}
	return c
}

func (c *Chain) mineEvery(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.Mine(1)
		case <-c.stop:
			return
		}
	}
}

// Close stops mining and all listeners. It must be called once.
func (c *Chain) Close() {
	close(c.stop)
	c.stopped.Wait()
	c.mu.Lock()
	nodes := c.nodes
	c.mu.Unlock()
	for _, n := range nodes {
		n.close()
	}
}

func (c *Chain) clock() uint64 { return uint64(c.now().Add(c.ahead).Unix()) }

func (c *Chain) head() *block { return c.blocks[len(c.blocks)-1] }

// addBlock gives a block its number and hash, and makes it the head.
func (c *Chain) addBlock(b *block) {
	b.number = uint64(len(c.blocks))
	if b.number > 0 {
		b.parent = c.head().hash
	}
	head := encoding{}.uint(c.id).uint(b.number).uint(b.time).uint(c.forks).word(b.parent).big(b.baseFee)
	for _, r := range b.receipts {
		head = head.word(r.tx.hash).bool(r.succeeded)
	}
	b.hash = tangle.Keccak256(head)
	c.blocks = append(c.blocks, b)
	c.byHash[b.hash] = b
}

// nextBaseFee follows EIP-1559: half of the gas is the target.
func (c *Chain) nextBaseFee() *big.Int {
	if c.fixedFee != nil {
		return c.fixedFee
	}
	const target, slowness = blockGas / 2, 8
	parent := c.head()
	delta := new(big.Int).SetInt64(int64(parent.gasUsed) - target)
	delta.Mul(delta, parent.baseFee)
	delta.Quo(delta, big.NewInt(target*slowness))
	return delta.Add(delta, parent.baseFee)
}

// frame begins an execution on the state after block at, in the block number.
func (c *Chain) frame(at, number, time uint64, from Address, value *big.Int, gas uint64) *frame {
	return &frame{c: c, at: at, number: number, time: time, from: from, value: value, gas: gas}
}

func (f *frame) balance(a Address) *big.Int { return f.amount(key{kind: kindBalance, address: a}) }

// run runs a message: what a transaction does, or a call. The gas that every transaction needs is
// charged first.
func (f *frame) run(to *Address, data []byte) (result []byte, err error) {
	start, _ := intrinsic(data, to == nil)
	if err := f.charge(start); err != nil {
		return nil, err
	}
	if to == nil {
		return nil, errors.New("contracts cannot be created on this chain")
	}
	f.to = *to
	table, isContract := f.c.methodsAt(*to)
	if !isContract || len(data) == 0 && *to == f.c.contract {
		return nil, f.transfer()
	}
	if len(data) < 4 {
		return nil, &revert{}
	}
	a := &arguments{data: data[4:]}
	id := uint32(data[0])<<24 | uint32(data[1])<<16 | uint32(data[2])<<8 | uint32(data[3])
	m, known := table[id]
	switch {
	case !known && *to == f.c.contract:
		var w Word
		copy(w[:], data[:4])
		return nil, reverts("UnknownSelector(bytes4)", w)
	case !known, f.value.Sign() != 0 && !m.payable:
		return nil, &revert{}
	}
	if result, err = m.run(f, a); err == nil && a.bad {
		err = errArguments
	}
	if err != nil {
		return nil, err
	}
	return result, f.transfer()
}

func (f *frame) transfer() error {
	if f.value.Sign() == 0 {
		return nil
	}
	if f.balance(f.from).Cmp(f.value) < 0 {
		return errors.New("insufficient balance for transfer")
	}
	f.add(key{kind: kindBalance, address: f.from}, new(big.Int).Neg(f.value))
	f.add(key{kind: kindBalance, address: f.to}, f.value)
	return nil
}

func (c *Chain) methodsAt(a Address) (map[uint32]method, bool) {
	switch a {
	case c.contract:
		return tangleMethods, true
	case Registry:
		return registryMethods, true
	case Staking:
		return stakingMethods, true
	case manager:
		return managerMethods, true
	}
	return nil, false
}

// mineBlock mines a block of what the pool has ready, best paid first.
func (c *Chain) mineBlock(empty bool) {
	b := &block{number: uint64(len(c.blocks)), time: max(c.clock(), c.head().time), baseFee: c.nextBaseFee()}
	blocked := map[Address]bool{}
	for !empty {
		tx := c.best(b, blocked)
		if tx == nil {
			break
		}
		c.execute(b, tx)
	}
	c.addBlock(b)
	for _, r := range b.receipts {
		r.block = b
	}
}

// tipAt returns what a transaction pays beyond a base fee, nil if it does not pay the base fee.
func (tx *transaction) tipAt(baseFee *big.Int) *big.Int {
	left := new(big.Int).Sub(tx.cap, baseFee)
	if left.Sign() < 0 {
		return nil
	}
	if left.Cmp(tx.tip) > 0 {
		return tx.tip
	}
	return left
}

func (c *Chain) best(b *block, blocked map[Address]bool) (best *transaction) {
	var bestTip *big.Int
	for from, queue := range c.pool {
		tx := queue[c.nonceAt(from, b.number)]
		if tx == nil || blocked[from] {
			continue
		}
		tip := tx.tipAt(b.baseFee)
		cost := new(big.Int).Mul(tx.cap, new(big.Int).SetUint64(tx.gas))
		balance, _ := c.state.at(key{kind: kindBalance, address: from}, b.number).(*big.Int)
		if tip == nil || b.gasUsed+tx.gas > blockGas || balance == nil || balance.Cmp(cost.Add(cost, tx.value)) < 0 {
			blocked[from] = true
			continue
		}
		if order := compareTips(tip, bestTip); best == nil || order > 0 || order == 0 && tx.arrival < best.arrival {
			best, bestTip = tx, tip
		}
	}
	return best
}

func compareTips(a, b *big.Int) int {
	if b == nil {
		return 1
	}
	return a.Cmp(b)
}

func (c *Chain) nonceAt(a Address, block uint64) uint64 {
	n, _ := c.state.at(key{kind: kindNonce, address: a}, block).(uint64)
	return n
}

// execute executes a transaction of the pool in a block.
func (c *Chain) execute(b *block, tx *transaction) {
	c.unpool(tx)
	f := c.frame(b.number, b.number, b.time, tx.from, tx.value, tx.gas)
	_, err := f.run(tx.to, tx.data)
	_, floor := intrinsic(tx.data, tx.to == nil)
	r := &receipt{tx: tx, block: b, index: len(b.receipts), succeeded: err == nil, logs: f.logs,
		used: max(f.charged+f.hooks, floor)}
	if errors.Is(err, errOutOfGas) {
		r.used = tx.gas
	}
	if err != nil {
		r.logs, f.changes, f.order = nil, nil, nil
	}
	r.used = min(r.used, tx.gas)
	r.price = new(big.Int).Add(b.baseFee, tx.tipAt(b.baseFee))
	f.set(key{kind: kindNonce, address: tx.from}, tx.nonce+1)
	fee := new(big.Int).Mul(r.price, new(big.Int).SetUint64(r.used))
	f.add(key{kind: kindBalance, address: tx.from}, fee.Neg(fee))
	for _, k := range f.order {
		c.state.put(k, b.number, f.changes[k])
	}
	if n := len(b.receipts); n > 0 {
		last := b.receipts[n-1]
		r.firstLog = last.firstLog + len(last.logs)
	}
	b.gasUsed += r.used
	r.cumulative = b.gasUsed
	b.receipts = append(b.receipts, r)
	c.receipts[tx.hash] = r
}

func (c *Chain) unpool(tx *transaction) {
	delete(c.pooled, tx.hash)
	if delete(c.pool[tx.from], tx.nonce); len(c.pool[tx.from]) == 0 {
		delete(c.pool, tx.from)
	}
}

func (c *Chain) enpool(tx *transaction) {
	if c.pool[tx.from] == nil {
		c.pool[tx.from] = map[uint64]*transaction{}
	}
	if old := c.pool[tx.from][tx.nonce]; old != nil {
		delete(c.pooled, old.hash)
	}
	c.arrivals++
	tx.arrival = c.arrivals
	c.pool[tx.from][tx.nonce] = tx
	c.pooled[tx.hash] = tx
}

// pendingNonce is the next nonce after the pool's transactions that follow the account's own
// without a gap.
func (c *Chain) pendingNonce(a Address) uint64 {
	n := c.nonceAt(a, c.head().number)
	for c.pool[a][n] != nil {
		n++
	}
	return n
}

// refusal is why a node refuses a transaction.
type refusal string

// The refusals, as texts of go-ethereum. See Node for how they are told.
const (
	refusedKnown       refusal = "already known"
	refusedNonce       refusal = "nonce too low"
	refusedUnderpriced refusal = "replacement transaction underpriced"
	refusedFee         refusal = "max fee per gas less than block base fee"
	refusedTip         refusal = "max priority fee per gas higher than max fee per gas"
	refusedFunds       refusal = "insufficient funds for gas * price + value"
	refusedIntrinsic   refusal = "intrinsic gas too low"
	refusedFloor       refusal = "insufficient gas for floor data gas cost"
	refusedLimit       refusal = "exceeds block gas limit"
	refusedCap         refusal = "transaction gas limit too high"
	refusedSize        refusal = "oversized data"
	refusedChain       refusal = "invalid chain id for signer"
	refusedCheap       refusal = "transaction underpriced"
)

func (r refusal) Error() string { return string(r) }

// add verifies a transaction and puts it into the pool. keepsCheap says that the node keeps
// transactions that do not pay the base fee.
func (c *Chain) add(tx *transaction, keepsCheap bool) error {
	head := c.head().number
	start, floor := intrinsic(tx.data, tx.to == nil)
	balance, _ := c.state.at(key{kind: kindBalance, address: tx.from}, head).(*big.Int)
	cost := new(big.Int).Mul(tx.cap, new(big.Int).SetUint64(tx.gas))
	switch {
	case c.pooled[tx.hash] != nil:
		return refusedKnown
	case len(tx.raw) > maxTxBytes:
		return refusedSize
	case tx.chain != c.id:
		return refusedChain
	case tx.gas > blockGas:
		return refusedLimit
	case tx.gas > c.maxGas:
		return refusedCap
	case tx.nonce < c.nonceAt(tx.from, head):
		return refusedNonce
	case !keepsCheap && tx.cap.Cmp(c.nextBaseFee()) < 0:
		return refusedFee
	case tx.tip.Cmp(tx.cap) > 0:
		return refusedTip
	case tx.gas < start:
		return refusedIntrinsic
	case tx.gas < floor:
		return refusedFloor
	case keepsCheap && tx.tip.Sign() == 0:
		return refusedCheap
	case balance == nil || balance.Cmp(cost.Add(cost, tx.value)) < 0:
		return refusedFunds
	}
	if old := c.pool[tx.from][tx.nonce]; old != nil && (!raised(old.tip, tx.tip) || !raised(old.cap, tx.cap)) {
		return refusedUnderpriced
	}
	c.enpool(tx)
	if c.auto {
		c.mineReady()
	}
	return nil
}

// raised reports whether a fee is at least 10 % above the old one.
func raised(old, now *big.Int) bool {
	least := new(big.Int).Mul(old, big.NewInt(110))
	return new(big.Int).Mul(now, big.NewInt(100)).Cmp(least) >= 0
}

// mineReady mines blocks until the pool has nothing that can be mined.
func (c *Chain) mineReady() {
	for {
		b := &block{number: uint64(len(c.blocks)), baseFee: c.nextBaseFee()}
		if c.best(b, map[Address]bool{}) == nil {
			return
		}
		c.mineBlock(false)
	}
}

// Mine mines n blocks of what is in the pool.
func (c *Chain) Mine(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		c.mineBlock(false)
	}
}

// Automine switches between a block for every transaction and mining by Mine.
func (c *Chain) Automine(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.auto = on; on {
		c.mineReady()
	}
}

// Advance moves the clock of the blocks that follow. A service's ttl passes by it.
func (c *Chain) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
}

// SetBaseFee fixes the base fee of the blocks that follow; nil lets the chain find it again.
func (c *Chain) SetBaseFee(wei *big.Int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fixedFee = wei
}

// Reorg replaces the last depth blocks by as many empty ones. Their transactions go back to the
// pool if keep says so, and vanish if not; a nil keep keeps all.
func (c *Chain) Reorg(depth int, keep func(Transaction) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := c.head().number
	depth = min(depth, int(head))
	last := head - uint64(depth)
	var back []*transaction
	for _, b := range c.blocks[last+1:] {
		delete(c.byHash, b.hash)
		for _, r := range b.receipts {
			delete(c.receipts, r.tx.hash)
			if keep == nil || keep(r.public()) {
				back = append(back, r.tx)
			}
		}
	}
	c.state.cut(last, head)
	c.blocks = c.blocks[:last+1]
	c.forks++
	for _, tx := range back {
		if c.pool[tx.from][tx.nonce] == nil {
			c.enpool(tx)
		}
	}
	for range depth {
		c.mineBlock(true)
	}
	if c.auto {
		c.mineReady()
	}
}

// Evict throws transactions out of the pool, as a node does that is full or was restarted. A nil
// choice throws out all. It returns how many.
func (c *Chain) Evict(choice func(Transaction) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tx := range c.pooled {
		if choice == nil || choice(tx.public()) {
			c.unpool(tx)
			n++
		}
	}
	return n
}

// Transaction is a transaction in the pool or in a block.
type Transaction struct {
	Hash      Word
	From      Address
	To        Address // zero: creates a contract
	Nonce     uint64
	Gas       uint64 // limit
	Tip, Cap  *big.Int
	Data      []byte
	Block     uint64 // 0: in the pool
	Succeeded bool
	GasUsed   uint64
}

func (tx *transaction) public() Transaction {
	t := Transaction{Hash: tx.hash, From: tx.from, Nonce: tx.nonce, Gas: tx.gas, Tip: tx.tip, Cap: tx.cap, Data: tx.data}
	if tx.to != nil {
		t.To = *tx.to
	}
	return t
}

func (r *receipt) public() Transaction {
	t := r.tx.public()
	t.Block, t.Succeeded, t.GasUsed = r.block.number, r.succeeded, r.used
	return t
}

// Mined returns the transactions in the blocks of the chain, in order: those of one account, or of
// all if no account is named.
func (c *Chain) Mined(of ...Address) (list []Transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.blocks {
		for _, r := range b.receipts {
			if len(of) == 0 || contains(of, r.tx.from) {
				list = append(list, r.public())
			}
		}
	}
	return list
}

// Pooled returns the transactions in the pool, by account and nonce.
func (c *Chain) Pooled() (list []Transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tx := range c.pooled {
		list = append(list, tx.public())
	}
	sort.Slice(list, func(i, j int) bool {
		if a, b := list[i].From.String(), list[j].From.String(); a != b {
			return a < b
		}
		return list[i].Nonce < list[j].Nonce
	})
	return list
}

func contains(list []Address, a Address) bool {
	for _, each := range list {
		if each == a {
			return true
		}
	}
	return false
}

// Nonce returns an account's next nonce by the blocks, and by the pool too.
func (c *Chain) Nonce(a Address) (latest, pending uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nonceAt(a, c.head().number), c.pendingNonce(a)
}

// Head returns the number and the hash of the latest block.
func (c *Chain) Head() (uint64, Word) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head().number, c.head().hash
}

// latest reads the state at the head.
func (c *Chain) latest() *frame {
	head := c.head()
	return c.frame(head.number, head.number, head.time, Address{}, new(big.Int), blockGas)
}

// change changes the state as if it had been so since the latest block.
func (c *Chain) change(by func(f *frame)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.latest()
	by(f)
	for _, k := range f.order {
		c.state.put(k, f.at, f.changes[k])
	}
}

// send signs a transaction of a development account with its next nonce and puts it into the pool.
func (c *Chain) send(account int, to Address, value *big.Int, data []byte) (*transaction, error) {
	from := Account(account)
	fee := new(big.Int).Mul(c.nextBaseFee(), big.NewInt(4))
	const gas = 8_000_000
	tx := &transaction{chain: c.id, nonce: c.pendingNonce(from), gas: gas, tip: big.NewInt(gwei),
		cap: fee.Add(fee, big.NewInt(gwei)), to: &to, value: value, data: data}
	tx.sign(account)
	head := c.head()
	f := c.frame(head.number, head.number+1, max(c.clock(), head.time), from, value, gas)
	if _, err := f.run(&to, data); err != nil {
		return nil, fmt.Errorf("account %d: %w%s", account, err, revertText(err))
	}
	return tx, c.add(tx, true)
}

func revertText(err error) string {
	var r *revert
	if errors.As(err, &r) && len(r.data) >= 4 {
		return fmt.Sprintf(": selector 0x%x", r.data[:4])
	}
	return ""
}
