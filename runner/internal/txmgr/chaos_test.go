package txmgr_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

var errDead = errors.New("the process was killed")

// life is what a process reaches of the world. Once it was killed, that is nothing: what it wanted
// to do at that moment has happened or not.
type life struct {
	*fake
	store *store
	mu    sync.Mutex
	left  int // operations until the end; negative: endless
	dead  chan struct{}
}

// use counts an operation. It returns an error if the process ends before it, and after it is
// called once the operation was done.
func (l *life) use() (after func() error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.dead:
		return nil, errDead
	default:
	}
	if l.left--; l.left == 0 {
		if rand.N(2) == 0 {
			close(l.dead)
			return nil, errDead
		}
		return func() error { close(l.dead); return errDead }, nil
	}
	return func() error { return nil }, nil
}

func (l *life) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.dead:
	default:
		close(l.dead)
	}
}

func (l *life) SendRaw(ctx context.Context, raw []byte) error {
	after, err := l.use()
	if err != nil {
		return err
	}
	err = l.fake.SendRaw(ctx, raw)
	return errors.Join(after(), err)
}

func (l *life) PutTx(t journal.Tx) error {
	after, err := l.use()
	if err != nil {
		return err
	}
	err = l.store.PutTx(t)
	return errors.Join(after(), err)
}

func (l *life) DropTx(nonce uint64) error {
	after, err := l.use()
	if err != nil {
		return err
	}
	err = l.store.DropTx(nonce)
	return errors.Join(after(), err)
}

func (l *life) Txs() []journal.Tx { return l.store.Txs() }

// wish is a request that outlives processes, as a runner's answered call does.
type wish struct {
	request  txmgr.Request
	obsolete bool
	sent     tangle.Word // in a runner's journal
	ended    bool
	receipt  *chain.Receipt
	hidden   bool // a failure that the test's own runner did not expect
	why      error
}

// pursue sends a wish with one process until it has an end, or the process has.
func (w *wish) pursue(ctx context.Context, l *life, m *txmgr.Manager) {
	r := w.request
	r.Resume = w.sent
	r.Still = func(context.Context) error {
		obsolete := false
		l.with(func() { obsolete = w.obsolete })
		if obsolete {
			return txmgr.ErrObsolete
		}
		return nil
	}
	r.Sent = func(h tangle.Word) error {
		after, err := l.use()
		if err != nil {
			return err
		}
		w.sent = h
		return after()
	}
	for {
		receipt, err := m.Send(ctx, r)
		select {
		case <-l.dead:
			return // nobody has heard it
		default:
		}
		switch {
		case err == nil, errors.Is(err, txmgr.ErrObsolete):
			w.ended, w.receipt, w.why = true, receipt, err
			return
		case errors.Is(err, txmgr.ErrReplaced):
			w.sent, r.Resume = tangle.Word{}, tangle.Word{}
		case errors.Is(err, errAway):
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				return
			}
		case ctx.Err() != nil, errors.Is(err, txmgr.ErrStopped):
			return
		default:
			w.ended, w.hidden, w.why = true, true, err
			return
		}
	}
}

// dice are thrown by the test and by the nodes.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) IntN(n int) int { return int(d.Int64N(int64(n))) }

func (d *dice) Int64N(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Int64N(n)
}

// The promises, after any history of crashes, reorgs, lost transactions, foreign ones and faults of
// the nodes: every wish has an end; one that succeeded was mined exactly once, and no other more
// than once; no nonce is open; whatever used a nonce was stored before, or is foreign; and what is
// foreign was not ours. RUNNER_HISTORIES says how many histories are played.
func TestAfterAnyHistoryEveryWishIsMinedOnce(t *testing.T) {
	n := 20
	if more, err := strconv.Atoi(os.Getenv("RUNNER_HISTORIES")); err == nil {
		n = more
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *store) {
				history(t, f, s, &dice{rng: rand.New(rand.NewPCG(uint64(seed), 16))})
			})
		})
	}
}

func history(t *testing.T, f *fake, s *store, rng *dice) {
	const depth = 2
	f.store = s
	wishes := make([]*wish, 12)
	for i := range wishes {
		wishes[i] = &wish{request: request(i)}
	}
	var (
		wg       sync.WaitGroup
		stop     = func() {}
		l        *life
		m        *txmgr.Manager
		calm     bool
		stolen   bool
		replaced int
		highest  int // number of a block
	)
	begin := func() {
		l = &life{fake: f, store: s, left: -1, dead: make(chan struct{})}
		if rng.IntN(2) == 0 && !calm {
			l.left = 1 + rng.IntN(60)
		}
		var err error
		m, err = txmgr.New(txmgr.Config{
			Chain: l, Store: l, Signer: theSigner, Depth: depth, MaxInFlight: 4, MaxFee: big.NewInt(100e9),
			Observe: func(e txmgr.Event) {
				if e.Kind == txmgr.Replaced {
					replaced++
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var wanted []tangle.Word
		for _, w := range wishes {
			if !w.ended && !w.sent.IsZero() {
				wanted = append(wanted, w.sent)
			}
		}
		m.Settled(wanted)
		ctx, cancel := context.WithCancel(context.Background())
		mine, current := l, m
		wg.Go(func() { _ = current.Run(ctx) })
		wg.Go(func() {
			select {
			case <-mine.dead:
				cancel()
			case <-ctx.Done():
			}
		})
		for _, w := range wishes {
			if !w.ended {
				wg.Go(func() { w.pursue(ctx, mine, current) })
			}
		}
		stop = func() {
			if rng.IntN(2) == 0 && !calm {
				mine.kill() // rather than an orderly end
			}
			cancel()
			wg.Wait()
			mine.kill()
		}
	}
	f.onSend = func(*tx.Tx) (error, bool) {
		if calm {
			return nil, false
		}
		switch rng.IntN(12) {
		case 0:
			return chain.ErrSendUncertain, true
		case 1:
			return chain.ErrSendUncertain, false
		case 2:
			return errAway, false
		}
		return nil, false
	}
	away := false
	f.before = func(context.Context) error {
		if away || !calm && rng.IntN(50) == 0 {
			return errAway
		}
		return nil
	}
	begin()
	for range 150 {
		time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
		synctest.Wait()
		select {
		case <-l.dead:
			stop()
			begin()
			continue
		default:
		}
		f.mu.Lock()
		highest = max(highest, len(f.blocks)-1)
		switch k := rng.IntN(100); {
		case k < 50:
			f.mine()
		case k < 60:
			// No block goes that was ever as deep as wanted.
			d := min(1+rng.IntN(depth), len(f.blocks)-1+depth-highest)
			share := rng.IntN(3)
			f.drop(d, func() bool { return rng.IntN(3) <= share })
			for range d - 1 + rng.IntN(2) { // the other branch may be shorter for a moment
				f.mine()
			}
		case k < 65:
			stolen = true
			f.steal()
		case k < 70:
			for n := range f.pool {
				if rng.IntN(2) == 0 {
					delete(f.pool, n)
				}
			}
		case k < 75:
			f.full = !f.full
		case k < 80:
			f.base = big.NewInt(1 + rng.Int64N(120e9))
		case k < 84:
			away = !away
		case k < 88:
			f.balance = big.NewInt(rng.Int64N(2e16))
		case k < 92:
			wishes[rng.IntN(len(wishes))].obsolete = true
		case k < 95:
			time.Sleep(0)
			f.mu.Unlock()
			stop()
			f.mu.Lock()
			f.mine()
			f.mu.Unlock()
			begin()
			f.mu.Lock()
		default:
			f.mu.Unlock()
			time.Sleep(time.Duration(rng.IntN(90)) * time.Second)
			f.mu.Lock()
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	calm, away, f.full, f.base = true, false, false, big.NewInt(1e9)
	f.balance = new(big.Int).Exp(big.NewInt(10), big.NewInt(24), nil)
	f.mu.Unlock()
	stop()
	begin()
	open := func() bool {
		for _, w := range wishes {
			if !w.ended {
				return true
			}
		}
		return m.Status().InFlight > 0
	}
	for i := 0; i < 30 || open() && i < 500; i++ {
		time.Sleep(2 * time.Second)
		f.with(f.mine)
		synctest.Wait()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if st := m.Status(); open() || st.Waiting > 0 {
		t.Errorf("in the end, Status = %+v", st)
	}
	stop()

	count := map[string]int{}
	nonce := uint64(0)
	foreign := 0
	for _, b := range f.blocks {
		for _, p := range b.txs {
			if p.Nonce != nonce {
				t.Errorf("nonce %d where %d belongs", p.Nonce, nonce)
			}
			nonce++
			if p.foreign {
				foreign++
				continue
			}
			if !s.hashes[p.hash] {
				t.Errorf("nonce %d was used by what was not stored", p.Nonce)
			}
			count[string(p.Data)]++
		}
	}
	for i, w := range wishes {
		n := count[string(w.request.Data)]
		switch {
		case !w.ended || w.hidden:
			t.Errorf("wish %d: ended %v, %v", i, w.ended, w.why)
		case w.receipt != nil && n != 1 || n > 1:
			t.Errorf("wish %d was mined %d times, receipt %v, %v", i, n, w.receipt, w.why)
		}
	}
	for n, p := range f.pool {
		if n >= nonce && !p.foreign {
			t.Errorf("the pool still has nonce %d of %d: %q", n, nonce, p.Data)
		}
	}
	if !stolen && replaced > 0 {
		t.Errorf("foreign nonces are told, and there were none")
	}
}
