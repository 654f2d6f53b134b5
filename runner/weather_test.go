package runner_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// TestBadWeather runs a runner against two nodes of which one or the other is behind, leaves logs
// out, is down, loses or forgets transactions. The pool is thrown away, and the base fee jumps.
// Blocks stay: every call gets one result, and no transaction is paid for nothing.
func TestBadWeather(t *testing.T) {
	t.Parallel()
	const calls = 150
	c := devchain.New(devchain.Config{Every: 30 * time.Millisecond})
	t.Cleanup(c.Close)
	nodes := []*devchain.Node{c.Node(), c.GethNode()}
	cfg := config(t, listen(t, nodes[0])+","+listen(t, nodes[1]))
	s := start(t, cfg, runner.WithHandlers(job.Handlers{0: answer}))
	random := rand.New(rand.NewPCG(rand.Uint64(), 2))
	weather := []func(f *devchain.Faults){
		func(f *devchain.Faults) { f.Lag = 1 + random.Uint64N(5) },
		func(f *devchain.Faults) { f.LogLag = 1 + random.Uint64N(3) },
		func(f *devchain.Faults) { f.Down = true },
		func(f *devchain.Faults) { f.LoseSent = 3 },
		func(f *devchain.Faults) { f.DropSent = 3 },
		func(f *devchain.Faults) { f.TooMany, f.Throttled = 3, 3 },
		func(f *devchain.Faults) { f.LogBlocks, f.LogLimit = 2, devchain.LogLimit(random.IntN(8)) },
		func(f *devchain.Faults) { f.Garbage, f.Broken = 2, 2 },
	}
	for call := range uint64(calls) {
		if _, err := c.Submit(0, 0, fmt.Append(nil, call)); err != nil {
			t.Fatal(err)
		}
		if call%5 == 0 { // one node at a time
			bad := random.IntN(2)
			nodes[1-bad].Set(func(f *devchain.Faults) { *f = devchain.Faults{} })
			nodes[bad].Set(func(f *devchain.Faults) { *f = devchain.Faults{}; weather[random.IntN(len(weather))](f) })
		}
		switch call {
		case 40, 90:
			c.Evict(func(tx devchain.Transaction) bool { return tx.From == devchain.Account(operator) })
		case 50:
			c.SetBaseFee(big.NewInt(20_000_000_000))
		case 80:
			c.SetBaseFee(nil)
		}
		time.Sleep(rand.N(40 * time.Millisecond))
	}
	for _, n := range nodes {
		n.Set(func(f *devchain.Faults) { *f = devchain.Faults{} })
	}
	for done := map[uint64]bool{}; len(done) < calls; {
		e := s.await(t, func(e runner.Event) bool { return e.Kind == runner.EventFinished })
		if e.Outcome != runner.Done || done[e.Call] {
			t.Fatalf("call %d: %s, %s", e.Call, e.Outcome, e.Reason)
		}
		done[e.Call] = true
	}
	s.end(t)
	for call, results := range c.AllResults(0) {
		if len(results) != 1 || string(results[0].Output) != fmt.Sprint("re: ", call) {
			t.Errorf("call %d has the results %+v", call, results)
		}
	}
	for _, tx := range c.Mined(devchain.Account(operator)) {
		if !tx.Succeeded {
			t.Errorf("transaction %v with nonce %d was paid for nothing", tx.Hash, tx.Nonce)
		}
	}
	if latest, pending := c.Nonce(devchain.Account(operator)); latest != pending || len(c.Pooled()) > 0 {
		t.Errorf("nonce %d, pending %d, %d in the pool", latest, pending, len(c.Pooled()))
	}
}
