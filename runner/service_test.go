package runner_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// operator is the development account whose runner is tested.
const operator = 1

func signer(t testing.TB, account int) runner.Signer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(devchain.Key(account))), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := runner.OpenKeystore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listen(t testing.TB, n *devchain.Node) string {
	t.Helper()
	url, err := n.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// started is a runner that runs until the test ends, or end is called.
type started struct {
	*runner.Runner
	events chan runner.Event
	ended  chan error
	stop   context.CancelFunc
}

func start(t testing.TB, cfg runner.Config, opts ...runner.Option) *started {
	t.Helper()
	s := &started{events: make(chan runner.Event, 100_000), ended: make(chan error, 1)}
	opts = append(opts, runner.WithEvents(func(e runner.Event) { s.events <- e }), runner.WithPoll(20*time.Millisecond))
	var err error
	if s.Runner, err = runner.New(cfg, opts...); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { s.ended <- s.Run(ctx); close(s.ended) }()
	t.Cleanup(func() {
		s.stop()
		for range s.ended {
		}
	})
	return s
}

// end stops the runner.
func (s *started) end(t testing.TB) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// await returns the next event that fits.
func (s *started) await(t testing.TB, fits func(runner.Event) bool) runner.Event {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case e := <-s.events:
			if fits(e) {
				return e
			}
		case err := <-s.ended:
			t.Fatalf("Run ended: %v", err)
		case <-timeout:
			t.Fatalf("nothing happened; status %+v", s.Status())
		}
	}
}

func finished(call uint64) func(runner.Event) bool {
	return func(e runner.Event) bool { return e.Kind == runner.EventFinished && e.Call == call }
}

func config(t testing.TB, url string) runner.Config {
	return runner.Config{RPC: url, ServiceID: 0, BlueprintID: 0, DataDir: t.TempDir(), Signer: signer(t, operator),
		Contract: devchain.Contract.String()}
}

func answer(_ context.Context, args []byte) ([]byte, error) {
	return append([]byte("re: "), args...), nil
}

// TestTheLifeOfAService runs a service from its first call to its end.
func TestTheLifeOfAService(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	submit := func(job uint8, inputs string) uint64 {
		t.Helper()
		call, err := c.Submit(0, job, []byte(inputs))
		if err != nil {
			t.Fatal(err)
		}
		return call
	}
	early := submit(0, "early")
	cfg := config(t, listen(t, c.Node()))
	opts := []runner.Option{runner.WithHandlers(job.Handlers{0: answer, 1: answer,
		2: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no luck") }})}
	s := start(t, cfg, opts...)
	if e := s.await(t, finished(early)); e.Outcome != runner.Done {
		t.Errorf("a call from before the first start: %+v", e)
	}
	for i := range 10 {
		call := submit(uint8(i%2), fmt.Sprint(i))
		if e := s.await(t, finished(call)); e.Outcome != runner.Done || e.GasUsed == 0 || e.Tx == "" {
			t.Errorf("call %d: %+v", call, e)
		}
	}
	failed := submit(2, "")
	if e := s.await(t, finished(failed)); e.Outcome != runner.JobFailed || e.Reason != "no luck" {
		t.Errorf("a job that fails: %+v", e)
	}
	foreign := submit(5, "")
	if e := s.await(t, finished(foreign)); e.Outcome != runner.JobFailed {
		t.Errorf("a job that nothing runs: %+v", e)
	}
	s.end(t)
	// While it is away, one call is answered by the other operator, and another by nobody.
	lost, open := submit(0, "lost"), submit(0, "open")
	if err := c.Answer(2, 0, lost, []byte("by another")); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg, opts...)
	if e := s.await(t, finished(open)); e.Outcome != runner.Done {
		t.Errorf("a call from the outage: %+v", e)
	}
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	s.await(t, func(e runner.Event) bool { return e.Kind == runner.EventPaused })
	if err := c.Unpause(); err != nil {
		t.Fatal(err)
	}
	s.await(t, func(e runner.Event) bool { return e.Kind == runner.EventResumed })
	last := submit(1, "last")
	if e := s.await(t, finished(last)); e.Outcome != runner.Done {
		t.Errorf("a call after the pause: %+v", e)
	}
	for call, results := range c.AllResults(0) {
		if len(results) != 1 {
			t.Errorf("call %d has %d results", call, len(results))
		}
	}
	if got := string(c.Results(0, last)[0].Output); got != "re: last" {
		t.Errorf("result %q", got)
	}
	if err := c.Terminate(0); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; !errors.Is(err, runner.ErrServiceOver) {
		t.Errorf("Run after the service was terminated: %v", err)
	}
	if latest, pending := c.Nonce(devchain.Account(operator)); latest != pending {
		t.Errorf("nonce %d, and %d with the pool", latest, pending)
	}
}
