package serverless_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// callTime is how long every call of the slow provider takes.
const callTime = 50 * time.Millisecond

// slow is an executor whose calls take callTime.
type slow struct{ faas.Executor }

func (s slow) Observe(ctx context.Context, id string) (faas.State, error) {
	time.Sleep(callTime)
	return s.Executor.Observe(ctx, id)
}

func (s slow) Converge(ctx context.Context, u faas.Unit, prior *faas.State, report func(faas.Progress)) (faas.State,
	error) {
	time.Sleep(callTime)
	return s.Executor.Converge(ctx, u, prior, report)
}

func (s slow) Remove(ctx context.Context, id string) error {
	time.Sleep(callTime)
	return s.Executor.Remove(ctx, id)
}

// hundred deploys 100 functions to a slow provider, again and again.
type hundred struct {
	cloud *faastest.Cloud
	spec  serverless.ServiceSpec
	state string
	cfg   serverless.ServerlessConfig
}

func newHundred(t testing.TB) *hundred {
	return &hundred{cloud: faastest.NewMemory(), spec: spec(t), state: t.TempDir(),
		cfg: policy(true, false).Serverless.Config()}
}

const hundredJobs = 100

// ideal is how long so many calls to the provider take at its limit.
func (h *hundred) ideal(calls int) time.Duration {
	info, _ := faas.Provider(h.cfg.Provider.Provider)
	return time.Duration((calls+info.MaxParallel-1)/info.MaxParallel) * callTime
}

func (h *hundred) deploy(ctx context.Context, t testing.TB) (took time.Duration, reads, writes int) {
	t.Helper()
	jobs := make([]uint32, hundredJobs)
	for i := range jobs {
		jobs[i] = uint32(i)
	}
	writesSoFar := func() int {
		return h.cloud.Calls(faastest.OpConverge) + h.cloud.Calls(faastest.OpRestore) + h.cloud.Calls(faastest.OpRemove)
	}
	reads, writes = -h.cloud.Calls(faastest.OpObserve), -writesSoFar()
	start := time.Now()
	svc, err := serverless.DeployServerless(ctx, h.spec, jobs, h.cfg,
		serverless.WithExecutor(slow{h.cloud.Executor(h.spec.Name)}), serverless.WithStateDir(h.state),
		serverless.WithoutRunner())
	took = time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return took, reads + h.cloud.Calls(faastest.OpObserve), writes + writesSoFar()
}

// The clock moves only while every goroutine waits, so that a deployment takes exactly the time of
// the calls that it waits for.
func TestAHundredFunctionsTakeNoMoreCallsAndTimeThanTheyMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHundred(t)
		check := func(what string, wantWrites int, atMost time.Duration) {
			t.Helper()
			took, reads, writes := h.deploy(t.Context(), t)
			if reads != hundredJobs || writes != wantWrites {
				t.Errorf("%s: %d reads and %d writes, want %d and %d", what, reads, writes, hundredJobs, wantWrites)
			}
			if took > atMost {
				t.Errorf("%s: %v, want at most %v", what, took, atMost)
			}
		}
		observing, changing := h.ideal(hundredJobs), h.ideal(hundredJobs)
		check("create", hundredJobs, (observing+changing)*115/100)
		check("unchanged", 0, observing*115/100)
		h.cfg.Jobs = map[uint32]serverless.JobNeeds{7: {MemoryMB: 1024}}
		check("one job needs more", 1, (observing+callTime)*115/100)
		h.cfg.Jobs[7] = serverless.JobNeeds{MemoryMB: 1024, TimeoutSecs: 299}
		h.cfg.DefaultTimeoutSecs = 200
		check("all jobs may take less but one", hundredJobs, (observing+changing)*115/100)
	})
}

// BenchmarkDeployHundredFunctions reports how many times longer a deployment takes in real time
// than the calls that it waits for. The rest is packaging, the ledger with its syncs, and the
// engine.
func BenchmarkDeployHundredFunctions(b *testing.B) {
	measure := func(b *testing.B, ideal func(*hundred) time.Duration, prepare func(*hundred, int)) {
		var took, best time.Duration
		h := newHundred(b)
		for i := range b.N {
			b.StopTimer()
			prepare(h, i)
			b.StartTimer()
			d, _, _ := h.deploy(b.Context(), b)
			took += d
			best += ideal(h)
		}
		b.ReportMetric(float64(took)/float64(best), "x-ideal")
	}
	b.Run("create", func(b *testing.B) {
		measure(b, func(h *hundred) time.Duration { return 2 * h.ideal(hundredJobs) },
			func(h *hundred, i int) { h.spec.Name = fmt.Sprintf("svc%d", i) })
	})
	b.Run("unchanged", func(b *testing.B) {
		measure(b, func(h *hundred) time.Duration { return h.ideal(hundredJobs) }, func(h *hundred, i int) {
			if i == 0 {
				h.deploy(b.Context(), b)
			}
		})
	})
	b.Run("new code", func(b *testing.B) {
		measure(b, func(h *hundred) time.Duration { return 2 * h.ideal(hundredJobs) }, func(h *hundred, i int) {
			if i == 0 {
				h.deploy(b.Context(), b)
			}
			if err := os.WriteFile(h.spec.BinaryPath, fmt.Appendf(nil, "#!/bin/sh\n# %d\n", i), 0o755); err != nil {
				b.Fatal(err)
			}
		})
	})
}
