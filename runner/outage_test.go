package runner_test

import (
	"context"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// outage returns a chain with open calls, a hundred in a block, whose inputs have so many bytes.
func outage(t testing.TB, calls, inputs int) *devchain.Chain {
	t.Helper()
	c := devchain.New(devchain.Config{Manual: true})
	t.Cleanup(c.Close)
	for i := range calls {
		if _, err := c.Submit(0, 0, fmt.Appendf(nil, "%0*d", inputs, i)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			c.Mine(1)
		}
	}
	c.Mine(1)
	c.Automine(true)
	return c
}

// completed waits until all calls are.
func completed(t testing.TB, c *devchain.Chain) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		all, done := c.Calls(0)
		if done == all {
			return
		}
		if time.Since(start) > 5*time.Minute {
			t.Fatalf("%d of %d calls are completed", done, all)
		}
	}
}

// TestManyCallsAfterAnOutage starts a runner that has lost its data directory. RUNNER_CALLS says
// how many calls are open.
func TestManyCallsAfterAnOutage(t *testing.T) { // not parallel: it measures the heap
	calls := 1000
	if n, err := strconv.Atoi(os.Getenv("RUNNER_CALLS")); err == nil {
		calls = n
	}
	const inputs = 1000
	c := outage(t, calls, inputs)
	n := c.Node()
	release, running := make(chan struct{}), make(chan struct{}, calls)
	s := start(t, config(t, listen(t, n)), runner.WithHandlers(
		job.Handlers{0: func(context.Context, []byte) ([]byte, error) {
			running <- struct{}{}
			<-release
			return []byte("ok"), nil
		}}))
	runtime.GC()
	var before, queued runtime.MemStats
	runtime.ReadMemStats(&before)
	for st := s.Status(); st.Queued+st.Running < calls; st = s.Status() {
		time.Sleep(10 * time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&queued)
	// What is read of the chain may be in memory once, and the calls' inputs.
	if got, most := int64(queued.HeapAlloc)-int64(before.HeapAlloc), int64(8<<20+calls*(inputs+2000)); got > most {
		t.Errorf("%d calls that wait take %d bytes, more than %d", calls, got, most)
	}
	close(release)
	completed(t, c)
	s.end(t)
	_, methods := n.Requests()
	for method, most := range map[string]int{
		"eth_call":               2*calls + 1000, // is it open, and would a result be taken
		"eth_estimateGas":        calls + calls/5 + 1000,
		"eth_sendRawTransaction": calls / 5,
	} {
		if methods[method] > most {
			t.Errorf("%d times %s, more than %d", methods[method], method, most)
		}
	}
}

// BenchmarkJob has the time of a job from many that are open. Its floor is a loop that makes only
// the requests without which there is no result: it asks whether the result would be taken, then
// for the gas, sends the transaction and asks for the receipt.
func BenchmarkJob(b *testing.B) {
	b.Run("runner", func(b *testing.B) {
		c := outage(b, b.N, 64)
		cfg := config(b, listen(b, c.Node()))
		b.ResetTimer()
		s := start(b, cfg, runner.WithHandlers(job.Handlers{0: answer}))
		completed(b, c)
		b.StopTimer()
		s.end(b)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
	b.Run("floor", func(b *testing.B) {
		c := outage(b, b.N, 64)
		cfg := config(b, listen(b, c.Node()))
		b.ResetTimer()
		if err := floor(b.Context(), cfg); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		completed(b, c)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

func floor(ctx context.Context, cfg runner.Config) error {
	node, err := chain.Open(ctx, chain.Config{URLs: []string{cfg.RPC}, Contract: &devchain.Contract})
	if err != nil {
		return err
	}
	defer node.Close()
	head, err := node.Head(ctx)
	if err != nil {
		return err
	}
	logs, err := node.Logs(ctx, chain.LogQuery{Topics: [][]chain.Word{{chain.TopicJobSubmitted}}}, 0, head.Number,
		chain.Word{})
	if err != nil {
		return err
	}
	for i, l := range logs {
		submitted, err := chain.ParseSubmitted(l)
		if err != nil {
			return err
		}
		call := chain.Call{From: cfg.Signer.Address(), To: node.Contract(),
			Data: chain.SubmitResult(0, submitted.Call, nil)}
		if _, err := node.Call(ctx, call); err != nil {
			return err
		}
		output, err := answer(ctx, submitted.Inputs)
		if err != nil {
			return err
		}
		call.Data = chain.SubmitResult(0, submitted.Call, output)
		gas, err := node.EstimateGas(ctx, call)
		if err != nil {
			return err
		}
		t := tx.Tx{ChainID: node.ID(), Nonce: uint64(i), Tip: big.NewInt(1e9), Cap: big.NewInt(100e9), Gas: gas * 13 / 10,
			To: node.Contract(), Data: call.Data}
		raw, hash, err := t.Sign(ctx, cfg.Signer)
		if err != nil {
			return err
		}
		if err := node.SendRaw(ctx, raw); err != nil {
			return err
		}
		if r, err := node.Receipt(ctx, hash); err != nil || r == nil || !r.Succeeded {
			return fmt.Errorf("call %d: receipt %+v, %w", submitted.Call, r, err)
		}
	}
	return nil
}
