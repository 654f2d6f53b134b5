package txmgr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// nodes are HTTP servers without a network, so that a bubble's clock can wait for them.
type nodes map[string]http.Handler

func (n nodes) RoundTrip(r *http.Request) (res *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil { // the server cut the connection
			res, err = nil, io.ErrUnexpectedEOF
		}
	}()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	n[r.URL.Host].ServeHTTP(w, r)
	return w.Result(), nil
}

// The real journal, the real client of nodes and a simulated chain of blocks every two seconds,
// with two nodes that fail, reorgs, evictions and restarts: each call gets one result of the
// operator.
func TestOnASimulatedChain(t *testing.T) {
	for seed := range 6 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { onASimulatedChain(t, dir, rand.New(rand.NewPCG(uint64(seed), 1))) })
		})
	}
}

func onASimulatedChain(t *testing.T, dir string, rng *rand.Rand) {
	const calls, depth = 24, 2
	d := devchain.New(devchain.Config{Manual: true})
	defer d.Close()
	one, two := d.GethNode(), d.Node()
	client := &http.Client{Transport: nodes{"one.invalid": one, "two.invalid": two}}
	key := signer{secp256k1.PrivKeyFromBytes(devchain.Key(1))}
	for i := range calls {
		if _, err := d.Submit(0, 0, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	d.Mine(3)
	base, _ := d.Head()

	c, err := chain.Open(t.Context(), chain.Config{
		URLs: []string{"http://one.invalid", "http://two.invalid"}, HTTP: client, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var (
		mu   sync.Mutex
		sent = map[int]tangle.Word{}
		done = map[int]error{}
		stop func()
		told []txmgr.Event
	)
	begin := func() {
		j, err := journal.Open(dir, journal.Key{ChainID: c.ID(), Contract: c.Contract(), Operator: key.Address()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := txmgr.New(txmgr.Config{Chain: c, Store: j, Signer: key, Depth: depth, Observe: func(e txmgr.Event) {
			told = append(told, e)
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wanted []tangle.Word
		for _, hash := range sent {
			wanted = append(wanted, hash)
		}
		m.Settled(wanted)
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		for i := range calls {
			mu.Lock()
			_, ended := done[i]
			before := sent[i]
			mu.Unlock()
			if ended {
				continue
			}
			r := txmgr.Request{
				Label: fmt.Sprint("call ", i), To: c.Contract(), Data: chain.SubmitResult(0, uint64(i), []byte{1}), Resume: before,
				Sent: func(h tangle.Word) error {
					mu.Lock()
					defer mu.Unlock()
					sent[i] = h
					return nil
				},
			}
			delay := time.Duration(rng.IntN(60)) * time.Second
			wg.Go(func() {
				select {
				case <-time.After(delay):
				case <-ctx.Done():
				}
				for ctx.Err() == nil {
					receipt, err := m.Send(ctx, r)
					var revert *chain.Revert
					if err == nil && receipt.Succeeded || errors.As(err, &revert) {
						mu.Lock()
						defer mu.Unlock()
						done[i] = err
						return
					}
					r.Resume = tangle.Word{}
					select {
					case <-time.After(5 * time.Second):
					case <-ctx.Done():
					}
				}
			})
		}
		stop = func() {
			cancel()
			wg.Wait()
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	begin()
	for _, n := range []*devchain.Node{one, two} {
		n.Set(func(f *devchain.Faults) { f.Random, f.Seed = 0.05, rng.Uint64() })
	}
	for range 60 {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		switch k := rng.IntN(20); {
		case k < 3:
			if head, _ := d.Head(); head >= base+depth {
				d.Reorg(1+rng.IntN(depth), func(devchain.Transaction) bool { return rng.IntN(2) == 0 })
			}
		case k < 5:
			d.Evict(func(devchain.Transaction) bool { return rng.IntN(2) == 0 })
		case k < 7:
			one.Set(func(f *devchain.Faults) { f.LoseSent += rng.IntN(2) })
			two.Set(func(f *devchain.Faults) { f.DropSent += rng.IntN(3) })
		case k < 8:
			stop()
			begin()
		case k < 10:
			two.Set(func(f *devchain.Faults) { f.Lag = uint64(rng.IntN(3)) })
		case k < 11:
			d.SetBaseFee(big.NewInt(1e9 + rng.Int64N(40e9)))
		}
		d.Mine(1)
	}
	for _, n := range []*devchain.Node{one, two} {
		n.Set(func(f *devchain.Faults) { *f = devchain.Faults{} })
	}
	d.SetBaseFee(nil)
	stop()
	begin()
	for range 200 {
		time.Sleep(2 * time.Second)
		d.Mine(1)
		synctest.Wait()
	}
	stop()

	if len(done) != calls {
		t.Errorf("%d of %d calls have an end; the last events: %v", len(done), calls, told[max(0, len(told)-5):])
	}
	results := d.AllResults(0)
	for i := range uint64(calls) {
		if n := len(results[i]); n != 1 {
			t.Errorf("call %d has %d results", i, n)
		}
	}
	failed := 0
	for i, x := range d.Mined(key.Address()) {
		if x.Nonce != uint64(i) {
			t.Errorf("nonce %d where %d belongs", x.Nonce, i)
		}
		if !x.Succeeded {
			failed++
		}
	}
	if n := len(d.Pooled()); n > 0 {
		t.Errorf("the pool still has %d transactions", n)
	}
	if failed > 0 {
		t.Errorf("%d transactions failed: they were sent twice", failed)
	}
	for _, e := range told {
		if e.Kind == txmgr.Replaced {
			t.Errorf("%+v is told, and nobody else uses the key", e)
		}
	}
}
