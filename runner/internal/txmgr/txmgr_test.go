package txmgr_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// process is a Manager that runs.
type process struct {
	*txmgr.Manager
	stop func()

	mu     sync.Mutex
	events []txmgr.Event
}

// start runs a Manager until the test or stop ends it.
func start(t testing.TB, f *fake, s *store, change func(*txmgr.Config)) *process {
	t.Helper()
	f.store = s
	p := &process{}
	cfg := txmgr.Config{Chain: f, Store: s, Signer: theSigner, Observe: func(e txmgr.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.events = append(p.events, e)
	}}
	if change != nil {
		change(&cfg)
	}
	m, err := txmgr.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Manager = m
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	return p
}

// kinds returns what was told, without what is usual.
func (p *process) kinds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, e := range p.events {
		all = append(all, e.Kind)
	}
	return all
}

func (p *process) count(kind string) (n int) {
	for _, k := range p.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

// answer is what Send returned.
type answer struct {
	receipt *chain.Receipt
	err     error
}

// send sends in the background.
func (p *process) send(ctx context.Context, r txmgr.Request) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		receipt, err := p.Send(ctx, r)
		c <- answer{receipt, err}
	}()
	return c
}

// ended returns the answer if there is one after a while of the bubble's time.
func ended(t *testing.T, c <-chan answer, d time.Duration) (a answer, ok bool) {
	t.Helper()
	select {
	case a := <-c:
		return a, true
	case <-time.After(d):
		return answer{}, false
	}
}

func mustEnd(t *testing.T, c <-chan answer) answer {
	t.Helper()
	a, ok := ended(t, c, time.Hour)
	if !ok {
		t.Fatal("Send does not return")
	}
	return a
}

func mustSucceed(t *testing.T, c <-chan answer) *chain.Receipt {
	t.Helper()
	a := mustEnd(t, c)
	if a.err != nil || !a.receipt.Succeeded {
		t.Fatalf("Send = %+v, %v", a.receipt, a.err)
	}
	return a.receipt
}

func request(i int) txmgr.Request {
	return txmgr.Request{
		Label: fmt.Sprint("request ", i), To: tangle.Address{1},
		Data: binary.BigEndian.AppendUint64([]byte("data"), uint64(i)),
	}
}

// pass lets time pass, and waits until nothing happens any more: sleeping alone orders nothing.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, test func(t *testing.T, f *fake, s *store)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFake(t), newStore()) })
}

// slow is a pool that does not mine by itself, and looks for two blocks more.
func slow(cfg *txmgr.Config) { cfg.Depth = 2 }

func TestSendReturnsTheReceiptOnceItIsDeep(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, slow)
		defer p.stop()
		r := request(1)
		var told tangle.Word
		mined := make(chan *chain.Receipt, 9)
		r.Sent = func(h tangle.Word) error {
			f.with(func() {
				if len(f.pool) > 0 {
					t.Error("Sent is called after a node got the transaction")
				}
			})
			told = h
			return nil
		}
		r.Mined = func(r *chain.Receipt) { mined <- r }
		c := p.send(t.Context(), r)
		if a, ok := ended(t, c, time.Minute); ok {
			t.Fatalf("Send = %v before it is mined", a)
		}
		f.with(f.mine)
		if a, ok := ended(t, c, time.Minute); ok {
			t.Fatalf("Send = %v before it is deep", a)
		}
		if len(mined) != 1 {
			t.Errorf("Mined is called %d times", len(mined))
		}
		f.with(func() { f.mine(); f.mine() })
		receipt := mustSucceed(t, c)
		if receipt.Tx != told || receipt.Block != 1 || (<-mined).Tx != told {
			t.Errorf("receipt %+v; want that of %s in block 1", receipt, told)
		}
		got := f.blocks[1].txs[0]
		if got.Gas != 130_001 || got.Cap.Int64() != 2.1e9 || got.Tip.Int64() != 1e8 || string(got.Data) != string(r.Data) {
			t.Errorf("sent %+v; want 1.3 times the gas, and twice the base fee and the tip", got.Tx)
		}
		synctest.Wait()
		st := p.Status()
		if st.Mined != 1 || st.GasUsed != 50_000 || st.Spent.Int64() != 5e13 || st.InFlight != 0 || st.NextNonce != 1 {
			t.Errorf("Status = %+v", st)
		}
		if len(s.Txs()) != 1 {
			t.Errorf("%d transactions are stored; want it until no reorg can take it back", len(s.Txs()))
		}
		f.with(func() {
			for range 64 {
				f.mine()
			}
		})
		pass(time.Minute)
		if len(s.Txs()) != 0 {
			t.Error("a deep transaction stays in the store")
		}
	})
}

func TestALocalChainIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.automine = true
		p := start(t, f, s, nil)
		defer p.stop()
		begun := time.Now()
		for i := range 20 {
			mustSucceed(t, p.send(t.Context(), request(i)))
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("20 transactions took %v of waiting", d)
		}
	})
}

func TestManyAreInFlightAndTheRestWaits(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, func(cfg *txmgr.Config) { cfg.MaxInFlight, cfg.Depth = 4, 5 })
		defer p.stop()
		var all []<-chan answer
		for i := range 10 {
			all = append(all, p.send(t.Context(), request(i)))
		}
		pass(time.Minute)
		if st := p.Status(); st.InFlight != 4 || st.Waiting != 6 {
			t.Errorf("Status = %+v; want 4 in flight and 6 waiting", st)
		}
		f.with(f.mine)
		pass(5 * time.Second)
		if st := p.Status(); st.InFlight != 4 || st.Waiting != 2 { // those mined wait for depth only
			t.Errorf("Status = %+v; want 4 in flight and 2 waiting", st)
		}
		for range 9 {
			pass(5 * time.Second)
			f.with(f.mine)
		}
		for _, c := range all {
			mustSucceed(t, c)
		}
	})
}

func TestWhatIsRefusedUsesNoNonce(t *testing.T) {
	sentErr, stillErr := errors.New("sent says no"), fmt.Errorf("gone: %w", txmgr.ErrObsolete)
	for name, tt := range map[string]struct {
		change func(f *fake, s *store, r *txmgr.Request)
		is     func(error) bool
	}{
		"revert": {func(f *fake, _ *store, _ *txmgr.Request) {
			f.estimate = func(chain.Call) (uint64, error) { return 0, &chain.Revert{Selector: 7} }
		}, func(err error) bool {
			var r *chain.Revert
			return errors.As(err, &r) && r.Selector == 7
		}},
		"obsolete": {func(_ *fake, _ *store, r *txmgr.Request) {
			r.Still = func(context.Context) error { return stillErr }
		}, func(err error) bool { return errors.Is(err, txmgr.ErrObsolete) }},
		"sent": {func(_ *fake, _ *store, r *txmgr.Request) {
			r.Sent = func(tangle.Word) error { return sentErr }
		}, func(err error) bool { return errors.Is(err, sentErr) }},
		"store": {func(_ *fake, s *store, _ *txmgr.Request) { s.fail = errAway },
			func(err error) bool { return errors.Is(err, errAway) }},
		"too large": {func(_ *fake, _ *store, r *txmgr.Request) { r.Data = make([]byte, tx.MaxSize) },
			func(err error) bool { return errors.Is(err, chain.ErrTxTooLarge) }},
		"much gas": {func(f *fake, _ *store, _ *txmgr.Request) {
			f.estimate = func(chain.Call) (uint64, error) { return 1<<24 + 1, nil }
		}, func(err error) bool { return errors.Is(err, chain.ErrGasLimit) }},
		"much gas for hooks": {func(_ *fake, _ *store, r *txmgr.Request) { r.ExtraGas = 1 << 24 },
			func(err error) bool { return errors.Is(err, chain.ErrGasLimit) }},
		"a node says too much gas": {func(f *fake, _ *store, _ *txmgr.Request) {
			f.onSend = func(*tx.Tx) (error, bool) { return chain.ErrGasLimit, false }
		}, func(err error) bool { return errors.Is(err, chain.ErrGasLimit) }},
		"a node says too large": {func(f *fake, _ *store, _ *txmgr.Request) {
			f.onSend = func(*tx.Tx) (error, bool) { return chain.ErrTxTooLarge, false }
		}, func(err error) bool { return errors.Is(err, chain.ErrTxTooLarge) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *store) {
				f.automine = true
				p := start(t, f, s, nil)
				defer p.stop()
				mustSucceed(t, p.send(t.Context(), request(0)))
				r := request(1)
				tt.change(f, s, &r)
				if a := mustEnd(t, p.send(t.Context(), r)); !tt.is(a.err) {
					t.Fatalf("Send = %v, %v", a.receipt, a.err)
				}
				f.with(func() { f.estimate, f.onSend, s.fail = nil, nil, nil })
				mustSucceed(t, p.send(t.Context(), request(2)))
				if n := f.nonce(); n != 2 {
					t.Errorf("%d nonces are used, want 2", n)
				}
				if st := p.Status(); st.Foreign > 0 || st.InFlight > 0 || st.Waiting > 0 {
					t.Errorf("Status = %+v", st)
				}
			})
		})
	}
}

func TestGas(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.automine = true
		p := start(t, f, s, func(cfg *txmgr.Config) { cfg.MaxGas = 1_000_000 })
		defer p.stop()
		for i, tt := range []struct{ estimate, extra, want uint64 }{
			{100_000, 0, 130_001}, {100_000, 500_000, 630_001}, {900_000, 0, 1_000_000}, {500_000, 500_000, 1_000_000},
		} {
			f.with(func() { f.estimate = func(chain.Call) (uint64, error) { return tt.estimate, nil } })
			r := request(i)
			r.ExtraGas = tt.extra
			mustSucceed(t, p.send(t.Context(), r))
			if got := f.blocks[len(f.blocks)-1].txs[0].Gas; got != tt.want {
				t.Errorf("estimate %d and %d more: limit %d, want %d", tt.estimate, tt.extra, got, tt.want)
			}
		}
	})
}

func TestAFailedTransactionIsReturned(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.automine = true
		f.fails[tangle.Keccak256(request(1).Data)] = true
		p := start(t, f, s, nil)
		defer p.stop()
		if a := mustEnd(t, p.send(t.Context(), request(1))); a.err != nil || a.receipt.Succeeded {
			t.Errorf("Send = %+v, %v; want the receipt of a failed transaction", a.receipt, a.err)
		}
		if st := p.Status(); st.Failed != 1 || st.Mined != 1 {
			t.Errorf("Status = %+v", st)
		}
	})
}

// Fees are raised while blocks pass without it, up to the ceiling, which is told once.
func TestFeesAreRaisedUntilTheCeiling(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, func(cfg *txmgr.Config) { cfg.MaxFee, cfg.MaxTip = big.NewInt(5e9), big.NewInt(4e8) })
		defer p.stop()
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		first := f.pool[0]
		pass(10 * time.Minute)
		if f.pool[0].hash != first.hash {
			t.Error("fees are raised although there was no block")
		}
		f.with(func() { f.full = true })
		for range 20 {
			f.with(f.mine)
			pass(time.Minute)
		}
		last := f.pool[0]
		if last.Cap.Int64() < 4e9 || last.Cap.Int64() > 5e9 || last.Tip.Int64() > 4e8 {
			t.Errorf("the last version pays %v and %v", last.Cap, last.Tip)
		}
		if n := p.count(txmgr.Bumped); n < 2 {
			t.Errorf("told %v", p.kinds())
		}
		if n := p.count(txmgr.Waiting); n != 1 {
			t.Errorf("the ceiling is told %d times: %v", n, p.kinds())
		}
		if len(s.Txs()[0].Hashes) != p.count(txmgr.Bumped)+1 {
			t.Errorf("%d versions are stored after %v", len(s.Txs()[0].Hashes), p.kinds())
		}
		f.with(func() { f.full = false; f.pool[0] = first; f.mine() })
		if r := mustSucceed(t, c); r.Tx != first.hash { // an older version won
			t.Errorf("receipt of %s, want that of %s", r.Tx, first.hash)
		}
	})
}

// A pool that has something of another program at the nonce says only that it is not enough.
func TestFeesAreRaisedUntilTheyAreEnough(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.pool[0] = pooled{Tx: &tx.Tx{Tip: big.NewInt(1e9), Cap: big.NewInt(20e9)}, foreign: true}
		p := start(t, f, s, nil)
		defer p.stop()
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		if got := f.pool[0]; got.foreign || got.Cap.Int64() > 50e9 {
			t.Errorf("the pool has %+v", got)
		}
		f.with(f.mine)
		mustSucceed(t, c)
	})
}

func TestALostTransactionIsSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		a, b := p.send(t.Context(), request(1)), p.send(t.Context(), request(2))
		synctest.Wait()
		f.with(func() { clear(f.pool) })
		pass(15 * time.Second)
		f.with(func() {
			if len(f.pool) != 2 {
				t.Errorf("the pool has %d transactions again, want 2", len(f.pool))
			}
			f.mine()
		})
		mustSucceed(t, a)
		mustSucceed(t, b)
		if p.count(txmgr.SentAgain) != 2 {
			t.Errorf("told %v", p.kinds())
		}
	})
}

func TestAnUncertainSendIsASend(t *testing.T) {
	for _, in := range []bool{true, false} {
		bubble(t, func(t *testing.T, f *fake, s *store) {
			f.onSend = func(*tx.Tx) (error, bool) { return chain.ErrSendUncertain, in }
			p := start(t, f, s, nil)
			defer p.stop()
			c := p.send(t.Context(), request(1))
			synctest.Wait()
			f.with(func() { f.onSend = nil })
			pass(10 * time.Second)
			f.with(f.mine)
			mustSucceed(t, c)
			if f.nonce() != 1 || len(s.hashes) != 1 {
				t.Errorf("%d nonces and %d versions for one request", f.nonce(), len(s.hashes))
			}
		})
	}
}

func TestItWaitsForFundsFeesAndNodes(t *testing.T) {
	for name, tt := range map[string]struct{ bad, good func(f *fake) }{
		"funds": {func(f *fake) { f.balance = big.NewInt(1) }, func(f *fake) { f.balance = big.NewInt(1e18) }},
		"funds for the estimate": {
			func(f *fake) { f.estimate = func(chain.Call) (uint64, error) { return 0, chain.ErrNoFunds } },
			func(f *fake) { f.estimate = nil },
		},
		"fees": {func(f *fake) { f.base = big.NewInt(501e9) }, func(f *fake) { f.base = big.NewInt(1e9) }},
		"nodes": {
			func(f *fake) { f.onSend = func(*tx.Tx) (error, bool) { return errAway, false } },
			func(f *fake) { f.onSend = nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *store) {
				tt.bad(f)
				p := start(t, f, s, nil)
				defer p.stop()
				c, d := p.send(t.Context(), request(1)), p.send(t.Context(), request(2))
				if a, ok := ended(t, c, 10*time.Minute); ok {
					t.Fatalf("Send = %+v", a)
				}
				if n := p.count(txmgr.Waiting); n == 0 || n > 2 {
					t.Errorf("told %v; want once what it waits for", p.kinds())
				}
				f.with(func() {
					if f.sends > 100 {
						t.Errorf("%d sends in ten minutes", f.sends)
					}
					tt.good(f)
				})
				pass(time.Minute)
				f.with(f.mine)
				mustSucceed(t, c)
				mustSucceed(t, d)
			})
		})
	}
}

func TestAForeignNonceIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, slow)
		defer p.stop()
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		f.with(f.steal)
		if a, ok := ended(t, c, time.Minute); ok { // a reorg may still give it back
			t.Fatalf("Send = %+v before the foreign transaction is deep", a)
		}
		f.with(func() { f.mine(); f.mine() })
		if a := mustEnd(t, c); !errors.Is(a.err, txmgr.ErrReplaced) {
			t.Fatalf("Send = %+v; want ErrReplaced", a)
		}
		if st := p.Status(); st.Foreign != 1 || p.count(txmgr.Replaced) != 1 {
			t.Errorf("Status = %+v, told %v", st, p.kinds())
		}
		f.with(func() { f.steal(); f.steal() }) // with nothing of ours at the nonces
		c = p.send(t.Context(), request(2))
		pass(time.Minute)
		f.with(func() { f.mine(); f.mine(); f.mine() })
		mustSucceed(t, c)
		if st := p.Status(); st.Foreign != 3 || st.NextNonce != 4 {
			t.Errorf("Status = %+v, want 3 foreign nonces", st)
		}
	})
}

// A node that lags behind gives an old nonce: nothing was in a pool, and the request gets another.
func TestANonceThatWasTooLowIsChangedSilently(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		c := p.send(t.Context(), request(0))
		synctest.Wait()
		f.with(f.mine)
		mustSucceed(t, c)
		f.onSend = func(x *tx.Tx) (error, bool) {
			if x.Nonce == 1 {
				f.steal()
				f.onSend = nil
			}
			return nil, false
		}
		c = p.send(t.Context(), request(1))
		pass(time.Minute)
		f.with(f.mine)
		mustSucceed(t, c)
		if got := f.blocks[len(f.blocks)-1].txs; len(got) != 1 || got[0].Nonce != 2 {
			t.Errorf("the last block has %+v", got)
		}
	})
}

// A reorg takes a transaction back that was already counted.
func TestAReorgTakesBack(t *testing.T) {
	for _, tt := range []struct {
		name         string
		pooled       bool // the nodes put it back into their pools
		still        error
		wantFiller   bool
		failedBefore bool
	}{
		{name: "still wanted, in the pool", pooled: true},
		{name: "still wanted, lost"},
		{name: "obsolete, in the pool", pooled: true, still: txmgr.ErrObsolete, wantFiller: true},
		{name: "obsolete, lost", still: txmgr.ErrObsolete, wantFiller: true},
		{name: "failed before", failedBefore: true, wantFiller: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *store) {
				p := start(t, f, s, nil)
				defer p.stop()
				var still error
				r := request(1)
				r.Still = func(context.Context) error { return still }
				f.fails[tangle.Keccak256(r.Data)] = tt.failedBefore
				c := p.send(t.Context(), r)
				synctest.Wait()
				f.with(f.mine)
				if a := mustEnd(t, c); a.err != nil {
					t.Fatal(a.err)
				}
				f.with(func() {
					still = tt.still
					f.drop(1, func() bool { return tt.pooled })
					f.push(nil)
				})
				pass(time.Minute)
				f.with(f.mine)
				got := f.blocks[len(f.blocks)-1].txs
				if len(got) != 1 || (len(got[0].Data) == 0) != tt.wantFiller {
					t.Fatalf("mined %v; want a filler: %v; told %v", got, tt.wantFiller, p.kinds())
				}
				if p.count(txmgr.TakenBack) != 1 {
					t.Errorf("told %v", p.kinds())
				}
				pass(time.Minute)
				if st := p.Status(); st.InFlight != 0 || st.NextNonce != 1 {
					t.Errorf("Status = %+v", st)
				}
			})
		})
	}
}

// A nonce whose transaction is obsolete goes to the next request. If the old transaction is mined
// nevertheless, the request gets another nonce.
func TestAVacantNonceGoesToTheNextRequest(t *testing.T) {
	for _, oldWins := range []bool{false, true} {
		bubble(t, func(t *testing.T, f *fake, s *store) {
			p := start(t, f, s, slow)
			defer p.stop()
			var obsolete error
			r := request(1)
			r.Still = func(context.Context) error { return obsolete }
			c := p.send(t.Context(), r)
			synctest.Wait()
			old := f.pool[0]
			f.with(func() {
				obsolete = txmgr.ErrObsolete
				f.base = big.NewInt(500e9 + 1) // so that the nonce is not filled at once
			})
			if a := mustEnd(t, c); !errors.Is(a.err, txmgr.ErrObsolete) {
				t.Fatalf("Send = %+v", a)
			}
			c = p.send(t.Context(), request(2))
			synctest.Wait()
			f.with(func() { f.base = big.NewInt(1e9) })
			pass(time.Minute)
			if got := f.pool[0]; string(got.Data) != string(request(2).Data) {
				t.Fatalf("nonce 0 is used for %q", got.Data)
			}
			if oldWins {
				f.with(func() { f.pool[0] = old })
			}
			for range 8 {
				f.with(f.mine)
				pass(time.Minute)
			}
			receipt := mustSucceed(t, c)
			if want := map[bool]uint64{false: 1, true: 2}[oldWins]; f.nonce() != want {
				t.Errorf("%d nonces are used, want %d (%+v)", f.nonce(), want, receipt)
			}
		})
	}
}

func TestAWaiterThatLeavesDoesNotStopItsTransaction(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		ctx, cancel := context.WithCancel(t.Context())
		r := request(1)
		r.Sent = func(h tangle.Word) error { r.Resume = h; return nil }
		c := p.send(ctx, r)
		synctest.Wait()
		cancel()
		if a := mustEnd(t, c); !errors.Is(a.err, context.Canceled) {
			t.Fatalf("Send = %+v", a)
		}
		d := p.send(t.Context(), r) // resumed
		synctest.Wait()
		f.with(f.mine)
		mustSucceed(t, d)
		if f.nonce() != 1 {
			t.Errorf("%d nonces are used", f.nonce())
		}
	})
}

// After a crash, what is resumed is waited for, and what is not is replaced.
func TestAfterACrash(t *testing.T) {
	for _, tt := range []struct {
		name    string
		between func(f *fake) // while no process runs
		resume  bool
		want    int // nonces, in the end
		filled  bool
	}{
		{name: "in the pool, resumed", resume: true, want: 2},
		{name: "lost, resumed", between: func(f *fake) { clear(f.pool) }, resume: true, want: 2},
		{name: "mined, resumed", between: func(f *fake) { f.mine() }, resume: true, want: 2},
		{name: "taken, resumed", between: func(f *fake) { f.steal() }, resume: true, want: 3},
		{name: "in the pool, not wanted", want: 2, filled: true},
		{name: "lost, not wanted", between: func(f *fake) { clear(f.pool) }, want: 2, filled: true},
		{name: "mined, not wanted", between: func(f *fake) { f.mine() }, want: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *store) {
				p := start(t, f, s, nil)
				var hashes []tangle.Word
				var all []<-chan answer
				for i := range 2 {
					r := request(i)
					r.Sent = func(h tangle.Word) error { hashes = append(hashes, h); return nil }
					all = append(all, p.send(t.Context(), r))
					synctest.Wait()
				}
				p.stop()
				for _, c := range all {
					if a := mustEnd(t, c); !errors.Is(a.err, txmgr.ErrStopped) {
						t.Fatalf("Send = %+v; want ErrStopped", a)
					}
				}
				if tt.between != nil {
					f.with(func() { tt.between(f) })
				}
				p = start(t, f, s, nil)
				defer p.stop()
				if !tt.resume {
					p.Settled(nil)
				} else {
					p.Settled(hashes)
					all = nil
					for i := range 2 {
						r := request(i)
						r.Resume = hashes[i]
						all = append(all, p.send(t.Context(), r))
					}
				}
				for range 5 {
					pass(time.Minute)
					f.with(f.mine)
				}
				taken := strings.HasPrefix(tt.name, "taken")
				if tt.resume {
					for i, c := range all {
						if a := mustEnd(t, c); i == 0 && taken {
							if !errors.Is(a.err, txmgr.ErrReplaced) {
								t.Errorf("Send = %+v; want ErrReplaced", a)
							}
						} else if a.err != nil || a.receipt.Tx != hashes[i] {
							t.Errorf("Send = %+v; want the receipt of what was sent before", a)
						}
					}
					tt.want = 2
				}
				if f.nonce() != uint64(tt.want) || tt.filled != (p.count(txmgr.Filled) == 2) {
					t.Errorf("%d nonces are used, want %d; told %v", f.nonce(), tt.want, p.kinds())
				}
				if st := p.Status(); st.InFlight > 0 {
					t.Errorf("Status = %+v", st)
				}
			})
		})
	}
}

// A chain that began anew has lower nonces than the store.
func TestAChainThatBeganAnew(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		for range 200 {
			f.steal()
		}
		p := start(t, f, s, nil)
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		p.stop()
		<-c
		f = newFake(t)
		f.automine = true
		p = start(t, f, s, nil)
		defer p.stop()
		p.Settled(nil)
		for i := range 3 {
			mustSucceed(t, p.send(t.Context(), request(i)))
		}
		if f.nonce() != 3 {
			t.Errorf("%d nonces are used, want 3", f.nonce())
		}
	})
}

func TestNewRefusesWhatIsNotTheAccounts(t *testing.T) {
	s := newStore()
	x := tx.Tx{ChainID: 1, Nonce: 3, Cap: big.NewInt(1), Value: new(big.Int)}
	raw, hash, err := x.Sign(t.Context(), theSigner)
	if err != nil {
		t.Fatal(err)
	}
	for _, raws := range [][][]byte{{raw}, {raw[1:]}, nil} {
		s.txs[3] = storedTx(3, raws, hash)
		if _, err := txmgr.New(txmgr.Config{Chain: newFake(t), Store: s, Signer: theSigner}); err == nil {
			t.Errorf("New accepts %x", raws)
		}
	}
}

func TestRunIsCalledOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		synctest.Wait()
		if err := p.Run(t.Context()); err == nil {
			t.Error("Run runs twice")
		}
		p.stop()
		if _, err := p.Send(t.Context(), request(1)); !errors.Is(err, txmgr.ErrStopped) {
			t.Errorf("Send after the end = %v", err)
		}
	})
}

// idle asks the chain nothing.
func TestNothingIsAskedWithoutWork(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		pass(time.Hour)
		if f.questions > 0 {
			t.Errorf("%d questions", f.questions)
		}
		if !slices.Equal(p.kinds(), nil) {
			t.Errorf("told %v", p.kinds())
		}
	})
}

// A reorg may lose what a pool had. It is offered again at once, if it is still wanted.
func TestAReorgIsAReasonToSendAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.mine()
		p := start(t, f, s, slow)
		defer p.stop()
		asked := 0
		r := request(1)
		r.Still = func(context.Context) error { asked++; return nil }
		c := p.send(t.Context(), r)
		pass(2 * time.Second)
		before := asked
		f.with(func() {
			clear(f.pool)
			f.drop(1, func() bool { return false })
			f.push(nil)
		})
		pass(2 * time.Second)
		f.with(func() {
			if len(f.pool) != 1 || asked != before+1 {
				t.Errorf("the pool has %d transactions, and it was asked %d times whether it is wanted",
					len(f.pool), asked-before)
			}
			f.mine()
			f.mine()
			f.mine()
		})
		mustSucceed(t, c)
	})
}

// After a reorg the chain may be shorter: a node that lags behind looks the same, but not for long.
func TestAShorterChainTakesBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		f.with(f.mine)
		mustSucceed(t, c)
		f.with(func() { f.drop(1, func() bool { return false }) })
		pass(5 * time.Second)
		if n := p.count(txmgr.TakenBack); n != 0 {
			t.Errorf("told %v after five seconds", p.kinds())
		}
		pass(time.Minute)
		f.with(f.mine)
		if n := p.count(txmgr.TakenBack); n != 1 || f.nonce() != 1 {
			t.Errorf("%d nonces are used, told %v", f.nonce(), p.kinds())
		}
	})
}

// On the other branch, somebody else has used the nonce.
func TestAReorgGivesTheNonceToAnother(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		c := p.send(t.Context(), request(1))
		synctest.Wait()
		f.with(f.mine)
		mustSucceed(t, c)
		f.with(func() {
			f.drop(1, func() bool { return false })
			f.steal()
		})
		pass(time.Minute)
		if p.count(txmgr.TakenBack) != 1 || p.count(txmgr.Replaced) != 1 {
			t.Errorf("told %v", p.kinds())
		}
		if st := p.Status(); st.InFlight != 0 || st.Foreign != 1 || st.NextNonce != 1 {
			t.Errorf("Status = %+v", st)
		}
	})
}

// Only the first of those in flight can be what is stuck, unless the base fee is above its cap.
func TestOnlyWhatIsStuckIsRaised(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		defer p.stop()
		a, b := p.send(t.Context(), request(1)), p.send(t.Context(), request(2))
		synctest.Wait()
		first, second := f.pool[0], f.pool[1]
		f.full = true
		pass(time.Second)
		f.with(f.mine)
		pass(45 * time.Second)
		if f.pool[0].hash == first.hash || f.pool[1].hash != second.hash {
			t.Error("the second is raised, or the first is not")
		}
		f.with(func() { f.base = big.NewInt(5e9); f.mine() })
		pass(45 * time.Second)
		if f.pool[1].hash == second.hash {
			t.Error("the second is below the base fee, and not raised")
		}
		f.with(func() { f.full = false; f.mine() })
		mustSucceed(t, a)
		mustSucceed(t, b)
	})
}

func TestWhatHadToWaitIsAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		f.base = big.NewInt(501e9)
		p := start(t, f, s, nil)
		defer p.stop()
		var obsolete error
		r := request(1)
		r.Still = func(context.Context) error { return obsolete }
		c := p.send(t.Context(), r)
		pass(10 * time.Minute)
		f.with(func() { obsolete, f.base = txmgr.ErrObsolete, big.NewInt(1e9) })
		if a := mustEnd(t, c); !errors.Is(a.err, txmgr.ErrObsolete) || f.sends > 0 {
			t.Errorf("Send = %+v after %d sends", a, f.sends)
		}
	})
}

// What is resumed with other data, such as a batch that lost a member, is another transaction. The
// nonce of the old one is used for something else.
func TestOtherDataIsNotResumed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *store) {
		p := start(t, f, s, nil)
		var hash tangle.Word
		r := request(1)
		r.Sent = func(h tangle.Word) error { hash = h; return nil }
		c := p.send(t.Context(), r)
		synctest.Wait()
		p.stop()
		<-c
		p = start(t, f, s, nil)
		defer p.stop()
		p.Settled([]tangle.Word{hash})
		r = request(2)
		r.Resume = hash
		c = p.send(t.Context(), r)
		pass(time.Minute)
		f.with(f.mine)
		mustSucceed(t, c)
		pass(time.Minute)
		for _, b := range f.blocks {
			for _, x := range b.txs {
				if string(x.Data) == string(request(1).Data) {
					t.Error("the old transaction is mined")
				}
			}
		}
		if st := p.Status(); st.InFlight != 0 {
			t.Errorf("Status = %+v", st)
		}
	})
}
