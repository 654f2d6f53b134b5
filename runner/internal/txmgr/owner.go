package txmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

const (
	// maxFill is how many nonces in a row that nothing is known of are filled, so that others above
	// them can be mined. More are missing if the chain began anew.
	maxFill = 64
	// maxVersions is how many versions a transaction may have.
	maxVersions = 64
	// parallel is how many questions are asked at a time.
	parallel = 8
)

// owner is the state that only the goroutine of Run touches.
type owner struct {
	entries map[uint64]*entry
	expect  uint64 // the nonce after the last that we used, or that was told to be used by others

	known  bool // the chain was asked once
	polled time.Time
	failed error // of the last poll
	head   chain.Block
	recent map[uint64]tangle.Word // heads
	nonce  uint64                 // the account's, on chain

	fees    *chain.Fees // nil: to be asked for
	learned time.Time   // when

	// Of one step.
	held  error    // why nothing new is sent
	fresh []*entry // sent

	waitingFor string // what was told
	fillGas    uint64 // of a filler; 0: not known yet
}

// step does what can be done now, and returns when to go on, or 0 if nothing is in flight.
func (m *Manager) step(ctx context.Context) time.Duration {
	m.held, m.fresh = nil, nil
	m.mu.Lock()
	idle := len(m.queue) == 0 && len(m.entries) == 0
	m.mu.Unlock()
	if idle {
		return 0
	}
	wait := m.cfg.Poll
	if time.Since(m.polled) >= m.cfg.Poll/4 { // else a request comes right after another
		m.polled = time.Now()
		m.failed = m.poll(ctx)
	}
	if m.held = m.failed; m.held == nil && ctx.Err() == nil {
		m.care(ctx)
		m.admit(ctx)
		m.fill(ctx)
		m.glance(ctx)
		m.forget()
		if m.polled.IsZero() { // a nonce was too low
			wait /= 4
		}
	}
	m.report(ctx)
	if len(m.entries) == 0 && m.held == nil && m.queued() == 0 {
		return 0
	}
	return wait
}

func (m *Manager) queued() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}

// quiet reports whether all that is left is to watch for a reorg.
func (m *Manager) quiet() bool {
	for _, e := range m.entries {
		if !e.settled || !e.missing.IsZero() {
			return false
		}
	}
	return m.known && m.failed == nil && m.queued() == 0
}

// sorted returns the entries by nonce.
func (m *Manager) sorted() []*entry {
	return slices.SortedFunc(maps.Values(m.entries), func(a, b *entry) int {
		if a.nonce < b.nonce {
			return -1
		}
		return 1
	})
}

// report tells what keeps transactions from being sent, and takes the snapshot.
func (m *Manager) report(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	held, label, open, waited := m.held, "", 0, 0
	for _, e := range m.sorted() {
		if e.open() {
			open++
			if held == nil && e.problem != nil {
				held, label = e.problem, e.work.label
			}
		}
		if e.work.waited() {
			waited++
		}
	}
	reason := ""
	if held != nil {
		reason = held.Error()
	}
	if reason != m.waitingFor {
		m.waitingFor = reason
		if held != nil {
			m.tell(Event{Kind: Waiting, Label: label, Err: held})
		} else {
			m.tell(Event{Kind: Resumed})
		}
	}
	next := m.free()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.InFlight, m.status.NextNonce, m.waited = open, next, waited
}

// free returns the lowest nonce that can be given away.
func (m *Manager) free() uint64 {
	n := m.nonce
	for {
		if e := m.entries[n]; e == nil || e.vacant() {
			return n
		}
		n++
	}
}

// poll asks the chain where it is, and which transactions were mined.
func (m *Manager) poll(ctx context.Context) error {
	head, err := m.cfg.Chain.Head(ctx)
	if err != nil || head.Hash == m.head.Hash && m.quiet() {
		return err
	}
	forked, err := m.forked(ctx, head)
	if err != nil {
		return err
	}
	nonce, err := m.cfg.Chain.Nonce(ctx, m.account)
	if err != nil {
		return err
	}
	now, begun := time.Now(), m.known
	m.known, m.nonce = true, nonce
	m.note(head, forked)
	if nonce > m.expect {
		if m.expect > 0 || begun {
			m.foreign(nonce-m.expect, Event{Nonce: m.expect})
		}
		m.expect = nonce
	}
	var look []*entry
	for _, e := range m.sorted() {
		used := e.nonce < nonce
		switch {
		case e.mined != nil:
			if forked || !begun || !used || !e.settled && m.deep(e.mined.Block) {
				look = append(look, e)
			}
		case e.foreign > 0:
			if !used && m.missing(e, now) {
				e.foreign, e.missing = 0, time.Time{}
				m.tell(Event{Kind: TakenBack, Nonce: e.nonce})
			} else if used {
				e.missing = time.Time{}
			}
		case used || e.spent:
			look = append(look, e)
		default:
			e.missing = time.Time{}
			if forked {
				e.resend = now // if it is still wanted: the jobs of a reorg may be others
			}
		}
	}
	return m.look(ctx, look, now)
}

// forked reports whether blocks that were seen are not on the chain any more. It may be wrong then.
func (m *Manager) forked(ctx context.Context, head chain.Block) (bool, error) {
	if !m.known || head.Hash == m.head.Hash {
		return false, nil
	}
	if hash, ok := m.recent[head.Number]; ok {
		return hash != head.Hash, nil
	}
	if hash, ok := m.recent[head.Number-1]; ok {
		return hash != head.Parent, nil
	}
	if head.Number < m.head.Number {
		return true, nil
	}
	b, err := m.cfg.Chain.BlockAt(ctx, m.head.Number)
	if errors.Is(err, chain.ErrNoBlock) {
		return true, nil
	}
	return b.Hash != m.head.Hash, err
}

// note remembers a head.
func (m *Manager) note(head chain.Block, forked bool) {
	if m.recent == nil || forked {
		m.recent = map[uint64]tangle.Word{}
	}
	m.recent[head.Number] = head.Hash
	for n := range m.recent {
		if n+keep < head.Number {
			delete(m.recent, n)
		}
	}
	m.head = head
}

// deep reports whether a block is as deep as wanted.
func (m *Manager) deep(block uint64) bool { return m.head.Number >= block+m.cfg.Depth }

// missing reports whether what is missing has been missing for long.
func (m *Manager) missing(e *entry, now time.Time) bool {
	if e.missing.IsZero() {
		e.missing, e.missingAt = now, m.head.Number
	}
	return now.Sub(e.missing) >= patience*m.cfg.Poll
}

// foreign counts and tells nonces that somebody else used.
func (m *Manager) foreign(n uint64, e Event) {
	m.mu.Lock()
	m.status.Foreign += n
	m.mu.Unlock()
	e.Kind, e.Err = Replaced, ErrReplaced
	if n > 1 {
		e.Err = fmt.Errorf("%w, %d times", ErrReplaced, n)
	}
	m.tell(e)
}

// sight is what the chain says of an entry.
type sight struct {
	receipt *chain.Receipt // nil: no version is mined
	gone    bool           // the block of the receipt that it had is not on the chain any more
	err     error
}

// look asks for the receipts of entries. It returns an error if one is not known.
func (m *Manager) look(ctx context.Context, entries []*entry, now time.Time) error {
	var failed error
	for i, s := range m.sights(ctx, entries) {
		e := entries[i]
		switch {
		case s.err != nil:
			failed = s.err
		case s.receipt != nil:
			m.seen(e, s.receipt)
		case e.mined != nil:
			if s.gone || m.missing(e, now) {
				m.takenBack(e, now)
			}
		case e.nonce >= m.nonce: // one node says that it is used, but the others do not know by what
		case !e.inPool, m.missing(e, now) && m.deep(e.missingAt):
			m.replaced(e)
		}
	}
	return failed
}

func (m *Manager) sights(ctx context.Context, entries []*entry) []sight {
	all := make([]sight, len(entries))
	var (
		wg   sync.WaitGroup
		room = make(chan struct{}, parallel)
	)
	for i, e := range entries {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			all[i] = m.sight(ctx, e)
		})
	}
	wg.Wait()
	return all
}

func (m *Manager) sight(ctx context.Context, e *entry) sight {
	for _, v := range slices.Backward(e.versions) {
		if r, err := m.cfg.Chain.Receipt(ctx, v.hash); err != nil || r != nil {
			return sight{receipt: r, err: err}
		}
	}
	if e.mined == nil {
		return sight{}
	}
	b, err := m.cfg.Chain.BlockAt(ctx, e.mined.Block)
	if errors.Is(err, chain.ErrNoBlock) { // not any more, or the node is behind
		return sight{}
	}
	return sight{gone: b.Hash != e.mined.BlockHash, err: err}
}

// seen notes that a version was mined.
func (m *Manager) seen(e *entry, r *chain.Receipt) {
	e.missing = time.Time{}
	i := slices.IndexFunc(e.versions, func(v version) bool { return v.hash == r.Tx })
	if i < 0 {
		return
	}
	again := e.mined != nil && e.by == e.versions[i].work
	e.mined, e.by, e.problem = r, e.versions[i].work, nil
	if req := e.by.req; !again && req != nil {
		req.release()
		if req.Mined != nil && e.by.waited() {
			req.Mined(r)
		}
	}
	if e.settled || !m.deep(r.Block) && m.cfg.Depth > 0 {
		return
	}
	e.settled = true
	if e.work != e.by {
		e.work.finish(nil, errAgain) // what the nonce was last used for lost to what it was used for before
		e.work = e.by
	}
	if e.by.ours || e.by.filler { // else an earlier process has told it, perhaps
		m.count(e)
	}
	if !r.Succeeded {
		e.by.over = true // whoever wanted it knows, and tries again if it makes sense
	}
	e.by.finish(r, nil)
}

// count counts and tells a nonce that is used for good.
func (m *Manager) count(e *entry) {
	r := e.mined
	e.counted = true
	cost := new(big.Int)
	if r.GasPrice != nil {
		cost.Mul(r.GasPrice, new(big.Int).SetUint64(r.GasUsed))
	}
	m.mu.Lock()
	m.status.Mined++
	if !r.Succeeded {
		m.status.Failed++
	}
	m.status.GasUsed += r.GasUsed
	m.status.Spent = new(big.Int).Add(m.status.Spent, cost)
	m.mu.Unlock()
	m.tell(Event{Kind: Mined, Label: e.by.label, Nonce: e.nonce, Tx: r.Tx, GasUsed: r.GasUsed, Cost: cost})
}

// takenBack notes that a reorg took a mined transaction back.
func (m *Manager) takenBack(e *entry, now time.Time) {
	m.tell(Event{Kind: TakenBack, Label: e.by.label, Nonce: e.nonce, Tx: e.mined.Tx})
	e.mined, e.by, e.settled, e.counted, e.missing, e.spent = nil, nil, false, false, time.Time{}, false
	e.accepted, e.resend, e.priced, e.pricedAt = true, now, now, m.head.Number
}

// replaced notes that somebody else used the nonce.
func (m *Manager) replaced(e *entry) {
	label, hash := "", tangle.Word{}
	if v := e.last(); v != nil {
		label, hash = v.work.label, v.hash
	}
	e.foreign, e.missing = max(m.head.Number, 1), time.Time{}
	if e.inPool {
		e.work.finish(nil, ErrReplaced)
	} else {
		e.work.finish(nil, errAgain)
	}
	e.work = nil
	m.foreign(1, Event{Label: label, Nonce: e.nonce, Tx: hash})
}

// forget drops what is too deep for a reorg.
func (m *Manager) forget() {
	for _, e := range m.sorted() {
		block := e.foreign
		if e.settled {
			block = e.mined.Block
		}
		if block > 0 && m.head.Number >= block+max(keep, m.cfg.Depth) && (e.work == nil || e.work.ours || !m.awaited(e)) {
			m.drop(e)
		}
	}
}

// drop removes an entry, also from the store. If the store fails, it is tried again.
func (m *Manager) drop(e *entry) {
	if err := m.cfg.Store.DropTx(e.nonce); err != nil {
		m.held = err
		return
	}
	delete(m.entries, e.nonce)
}

// awaited reports whether a request may resume what an earlier process sent.
func (m *Manager) awaited(e *entry) bool {
	reserved := m.reserved.Load()
	return reserved == nil || e.isOneOf(*reserved)
}

// care sends what is in flight again, and raises fees.
func (m *Manager) care(ctx context.Context) {
	first := true
	for _, e := range m.sorted() {
		if !e.open() || e.nonce < m.nonce {
			continue
		}
		leads := first
		first = false
		if e.unclaimed() {
			// Nobody knows whether it is wanted. It may be mined from a pool, but is not sent again.
			if !m.awaited(e) {
				m.vacate(e, nil)
			}
			continue
		}
		now := time.Now()
		if leads && !e.first {
			e.first = true
			e.priced, e.pricedAt = now, m.head.Number
		}
		stuck := e.accepted && !e.capped && now.Sub(e.priced) >= m.cfg.BumpAfter && m.head.Number > e.pricedAt &&
			(leads || m.head.BaseFee != nil && e.last().cap.Cmp(m.head.BaseFee) < 0)
		if !stuck && now.Before(e.resend) || !m.wanted(ctx, e) {
			continue
		}
		if stuck && m.ask(ctx) {
			if err := m.reprice(ctx, e, 1); errors.Is(err, errCeiling) {
				e.capped = true
				m.tell(Event{Kind: Waiting, Label: e.work.label, Nonce: e.nonce, Tx: e.last().hash, Err: err})
			} else if err != nil {
				e.problem = err
				continue
			}
		}
		m.broadcast(ctx, e)
	}
}

// wanted asks whether what a nonce is used for is still wanted. If not, the nonce is vacant.
func (m *Manager) wanted(ctx context.Context, e *entry) bool {
	w := e.work
	if w.over {
		m.vacate(e, nil)
		return false
	}
	if w.filler || w.req == nil || w.req.Still == nil {
		return true
	}
	err := w.req.Still(ctx)
	if errors.Is(err, ErrObsolete) {
		m.vacate(e, err)
		return false
	}
	if err != nil {
		e.resend = time.Now().Add(m.cfg.Poll)
	}
	return err == nil
}

// vacate makes an open nonce vacant.
func (m *Manager) vacate(e *entry, err error) {
	e.work.finish(nil, err)
	e.work, e.problem = nil, nil
	if e.inPool {
		return
	}
	m.drop(e)
	if e.nonce+1 == m.expect {
		m.expect = e.nonce
	}
}

// ask learns the fees of the moment. It returns false if they are not known.
func (m *Manager) ask(ctx context.Context) bool {
	if m.fees != nil && time.Since(m.learned) < m.cfg.Poll/4 {
		return true
	}
	m.fees = nil
	fees, err := m.cfg.Chain.Fees(ctx)
	if err != nil {
		m.held = err
		return false
	}
	m.fees, m.learned = &fees, time.Now()
	return true
}

// admits reports whether a transaction for a new nonce can be sent.
func (m *Manager) admits(ctx context.Context) bool {
	if m.held != nil || !m.ask(ctx) {
		return false
	}
	if m.fees.BaseFee != nil && m.fees.BaseFee.Cmp(m.cfg.MaxFee) > 0 {
		m.held = errBaseFee
		return false
	}
	return true
}

// admit takes requests from the queue.
func (m *Manager) admit(ctx context.Context) {
	m.mu.Lock()
	pending := m.queue
	m.queue = nil
	m.mu.Unlock()
	var rest []*request
	for _, req := range pending {
		switch {
		case req.resume:
			m.adopt(ctx, req)
		case req.gone.Load():
			req.release()
		case !m.admits(ctx) || m.blocked():
			rest = append(rest, req)
		case time.Since(req.asked) > m.cfg.BumpAfter: // what was asked before it had to wait is old
			req.end <- end{err: errAgain}
			req.release()
		default:
			m.place(ctx, m.free(), &work{
				label: req.Label, to: req.To, data: req.Data, value: req.Value, gas: req.gas, ours: true, req: req,
			})
		}
	}
	m.mu.Lock()
	m.queue = append(rest, m.queue...)
	m.mu.Unlock()
}

// blocked reports whether no node has taken a transaction yet: those above it would wait for it.
// Also, that the nonces which are known may be old.
func (m *Manager) blocked() bool {
	for _, e := range m.entries {
		if e.open() && (!e.accepted || e.spent) && e.nonce >= m.nonce {
			return true
		}
	}
	return false
}

// adopt lets a request wait for a transaction that was sent for it before.
func (m *Manager) adopt(ctx context.Context, req *request) {
	for _, e := range m.entries {
		i := slices.IndexFunc(e.versions, func(v version) bool { return v.hash == req.Resume })
		if i < 0 {
			continue
		}
		w := e.versions[i].work
		if w != e.work || w.waited() || w.to != req.To || !bytes.Equal(w.data, req.Data) {
			if e.unclaimed() { // it was reserved for this request
				m.vacate(e, nil)
			}
			break
		}
		if w.req != nil {
			w.req.release()
		}
		w.req, w.ours, w.label = req, true, req.Label
		e.resend = time.Now()
		switch {
		case e.mined == nil:
			if m.wanted(ctx, e) && e.nonce >= m.nonce {
				m.broadcast(ctx, e)
			}
		case e.settled:
			if !e.counted {
				m.count(e)
			}
			w.finish(e.mined, nil)
		case req.Mined != nil:
			req.Mined(e.mined)
		}
		return
	}
	req.end <- end{err: errUnknown}
}

// place uses a nonce, which is unused or vacant.
func (m *Manager) place(ctx context.Context, nonce uint64, w *work) {
	e := m.entries[nonce]
	if e == nil {
		e = &entry{nonce: nonce}
	}
	if err := m.sign(ctx, e, w, 1); err != nil {
		if ctx.Err() != nil {
			err = ErrStopped
		}
		w.finish(nil, err)
		if w.filler {
			m.held = err
		}
		return
	}
	e.work, e.accepted, e.capped, e.spent = w, false, false, false
	m.entries[nonce] = e
	m.expect = max(m.expect, nonce+1)
	m.broadcast(ctx, e)
}

// reprice makes a version with higher fees. It returns errCeiling if they cannot be raised.
func (m *Manager) reprice(ctx context.Context, e *entry, eighths int64) error {
	if _, _, ok := m.price(*m.fees, e.last(), e.work.gas, eighths); !ok || len(e.versions) >= maxVersions {
		return errCeiling
	}
	return m.sign(ctx, e, e.work, eighths)
}

// sign makes a version of an entry and stores it. If it is the first of its work, it is told before
// any node gets it.
func (m *Manager) sign(ctx context.Context, e *entry, w *work, eighths int64) error {
	tip, limit, _ := m.price(*m.fees, e.last(), w.gas, eighths)
	t := tx.Tx{
		ChainID: m.cfg.Chain.ID(), Nonce: e.nonce, Tip: tip, Cap: limit, Gas: w.gas,
		To: w.to, Value: w.value, Data: w.data,
	}
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	raw, hash, err := t.Sign(ctx, m.cfg.Signer)
	if err != nil {
		return err
	}
	if len(raw) > tx.MaxSize {
		return fmt.Errorf("%w: %d bytes, and nodes take %d", chain.ErrTxTooLarge, len(raw), tx.MaxSize)
	}
	before := e.versions
	next := *e
	next.versions = append(slices.Clip(before), version{work: w, raw: raw, hash: hash, tip: tip, cap: limit})
	if err := m.cfg.Store.PutTx(next.stored()); err != nil {
		return err
	}
	if w.req != nil && w.req.Sent != nil && w != e.work {
		if err := w.req.Sent(hash); err != nil {
			// Without this, the version would only stand in the store, as one that nobody claims.
			if len(before) == 0 {
				return errors.Join(err, m.cfg.Store.DropTx(e.nonce))
			}
			return errors.Join(err, m.cfg.Store.PutTx(e.stored()))
		}
	}
	e.versions = next.versions
	e.priced, e.pricedAt = time.Now(), m.head.Number
	return nil
}

// broadcast sends the last version of an entry, and further ones with higher fees, until a node
// takes one or it is known why none does.
func (m *Manager) broadcast(ctx context.Context, e *entry) {
	for eighths := int64(1); ; eighths = min(2*eighths, 8) {
		if e.last().work != e.work { // a reorg took back what had won against the last version
			if !m.ask(ctx) {
				return
			}
			if err := m.sign(ctx, e, e.work, 1); err != nil {
				e.accepted, e.problem = false, err
				return
			}
		}
		err := m.cfg.Chain.SendRaw(ctx, e.last().raw)
		e.resend = time.Now().Add(m.cfg.BumpAfter / 3)
		switch {
		case err == nil, errors.Is(err, chain.ErrAlreadyKnown):
			m.sent(e, err == nil)
			return
		case errors.Is(err, chain.ErrSendUncertain):
			e.resend = time.Now().Add(m.cfg.Poll)
			m.sent(e, false)
			return
		case errors.Is(err, chain.ErrNonceTooLow):
			e.accepted, e.problem, e.spent = true, nil, true
			m.polled = time.Time{} // the next poll finds out by what
			return
		case errors.Is(err, chain.ErrUnderpriced), errors.Is(err, chain.ErrFeeTooLow):
			if errors.Is(err, chain.ErrFeeTooLow) {
				m.fees = nil // they have just changed
			}
			if m.ask(ctx) {
				if err = m.reprice(ctx, e, eighths); err == nil {
					continue
				}
			}
		case (errors.Is(err, chain.ErrTxTooLarge) || errors.Is(err, chain.ErrGasLimit)) && !e.inPool:
			m.vacate(e, err)
			return
		}
		e.accepted, e.problem = false, err
		return
	}
}

// sent notes that the last version of an entry is in a pool, or may be.
func (m *Manager) sent(e *entry, lost bool) {
	v := e.last()
	kind := SentAgain
	if !v.told {
		kind, v.told = Sent, true
		if n := len(e.versions); n > 1 && e.versions[n-2].work == v.work {
			kind = Bumped
		} else if v.work.filler {
			kind = Filled
		}
		m.fresh = append(m.fresh, e)
	}
	e.inPool, e.accepted, e.problem, e.spent = true, true, nil, false
	if kind != SentAgain || lost {
		m.tell(Event{Kind: kind, Label: v.work.label, Nonce: e.nonce, Tx: v.hash})
	}
}

// glance looks for what was just sent, if no further block is waited for: a local chain may have
// mined it at once.
func (m *Manager) glance(ctx context.Context) {
	if m.cfg.Depth > 0 {
		return
	}
	for i, s := range m.sights(ctx, m.fresh) {
		if s.receipt != nil && s.err == nil {
			m.seen(m.fresh[i], s.receipt)
		}
	}
}

// fill uses vacant nonces for transfers of nothing, if others wait for them, or if what they were
// for may be in a pool, and is not wanted any more.
func (m *Manager) fill(ctx context.Context) {
	top, gaps := m.gaps()
	if gaps > maxFill {
		m.strand()
		top, _ = m.gaps()
	}
	for n := m.nonce; m.held == nil; n++ {
		e := m.entries[n]
		switch {
		case e == nil && n >= top:
			return
		case e != nil && !e.vacant():
			continue
		case !m.admits(ctx) || !m.knowsFillGas(ctx):
			return
		}
		m.place(ctx, n, &work{label: "nothing", to: m.account, value: new(big.Int), gas: m.fillGas, filler: true})
	}
}

// gaps returns the nonce after the highest that is open, and how many below it are unknown.
func (m *Manager) gaps() (top, gaps uint64) {
	known := uint64(0)
	for n, e := range m.entries {
		if e.open() && n >= m.nonce {
			top = max(top, n+1)
		}
	}
	for n := range m.entries {
		if n >= m.nonce && n < top {
			known++
		}
	}
	if top == 0 {
		return 0, 0
	}
	return top, top - m.nonce - known
}

// strand gives up what is too far above the chain's nonce to be mined: the chain began anew.
func (m *Manager) strand() {
	absent := m.nonce
	for m.entries[absent] != nil {
		absent++
	}
	for n, e := range m.entries {
		if n > absent && e.open() {
			e.work.finish(nil, errAgain)
			e.work = nil
		}
	}
}

// knowsFillGas learns what a transfer of nothing needs.
func (m *Manager) knowsFillGas(ctx context.Context) bool {
	if m.fillGas > 0 {
		return true
	}
	estimate, err := m.cfg.Chain.EstimateGas(ctx, chain.Call{From: m.account, To: m.account})
	if err == nil {
		m.fillGas, err = m.limit(estimate, 0)
	}
	if err != nil {
		m.held = err
	}
	return err == nil
}
