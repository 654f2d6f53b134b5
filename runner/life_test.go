package runner

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// register is a contract with one service.
type register struct {
	mu       sync.Mutex
	service  chain.Service
	absent   bool // the operator
	paused   bool
	time     uint64
	err      error
	requests int
	holds    []string // and + or - before
	events   []EventKind
}

func (r *register) Head(context.Context) (chain.Block, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	return chain.Block{Time: r.time}, r.err
}

func (r *register) Service(context.Context, uint64) (chain.Service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	return r.service, r.err
}

func (r *register) IsServiceOperator(_ context.Context, _ uint64, operator chain.Address) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	return operator == me && !r.absent, r.err
}

func (r *register) Paused(context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	return r.paused, r.err
}

func (r *register) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// pass lets time pass, and waits until all that happens by then has happened. What the test did
// before has happened by then, too.
func (r *register) pass(d time.Duration) {
	r.set(func() {})
	time.Sleep(d)
	synctest.Wait()
}

func (r *register) life(confirmations uint64) *life {
	note := func(sign string) func(string) {
		return func(reason string) { r.set(func() { r.holds = append(r.holds, sign+reason) }) }
	}
	return &life{chain: r, service: service, operator: me, poll: defaultPoll, confirmations: confirmations,
		tell: func(e Event) { r.set(func() { r.events = append(r.events, e.Kind) }) }, hold: note("+"), release: note("-")}
}

// living runs a test with an active service.
func living(t *testing.T, confirmations uint64, test func(t *testing.T, r *register, l *life, ended <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &register{service: chain.Service{CreatedAt: 1000, Status: 1}, time: 2000}
		l := r.life(confirmations)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() { ended <- l.run(ctx) })
		test(t, r, l, ended)
		cancel()
		wg.Wait()
	})
}

func TestARunnerEndsWithItsService(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(r *register)
		want   error
		words  string
	}{
		{"terminated", func(r *register) { r.service.Status = 2 }, ErrServiceOver, "service 7 was terminated"},
		{"terminated by time", func(r *register) { r.service.Terminated = 1500 }, ErrServiceOver, "was terminated"},
		{"ttl", func(r *register) { r.service.TTL, r.time = 3600, 4601 }, ErrServiceOver,
			"the 1h0m0s of service 7 have passed"},
		{"the last second of the ttl", func(r *register) { r.service.TTL, r.time = 3600, 4600 }, nil, ""},
		{"no ttl", func(r *register) { r.time = 1 << 60 }, nil, ""},
		{"a ttl without an end", func(r *register) { r.service.TTL = 1<<64 - 1 }, nil, ""},
		{"a clock behind", func(r *register) { r.service.TTL, r.time = 3600, 5 }, nil, ""},
		{"left", func(r *register) { r.absent = true }, ErrOperatorLeft, me.String() + " is no operator of service 7"},
		{"over while paused", func(r *register) { r.paused, r.service.Status = true, 2 }, ErrServiceOver, ""},
		{"pending, and not in it yet", func(r *register) { r.absent, r.service.Status = true, 0 }, nil, ""},
		{"no node", func(r *register) { r.service.Status, r.err = 2, errNode }, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			living(t, 2, func(t *testing.T, r *register, l *life, ended <-chan error) {
				if err := l.await(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.set(func() { tt.change(r) })
				r.pass(time.Hour)
				select {
				case err := <-ended:
					if tt.want == nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
						t.Errorf("it ended with %v", err)
					}
					if !slices.Contains(r.events, EventServiceOver) {
						t.Errorf("told %v", r.events)
					}
				default:
					if tt.want != nil {
						t.Error("it goes on")
					}
				}
			})
		})
	}
}

func TestAnEndIsSeenMoreThanOnce(t *testing.T) {
	t.Parallel()
	living(t, 12, func(t *testing.T, r *register, l *life, ended <-chan error) {
		// A reorg takes the end back, or a node that is behind says it: no end.
		for range 3 {
			r.set(func() { r.service.Status = 2 })
			l.look()
			r.pass(10 * defaultPoll)
			r.set(func() { r.service.Status = 1 })
			r.pass(10 * defaultPoll)
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended with %v", err)
		default:
		}
		r.set(func() { r.service.Status = 2 })
		l.look()
		r.pass(16 * defaultPoll)
		select {
		case <-ended:
		default:
			t.Error("it goes on")
		}
	})
}

func TestAPauseHoldsTheCalls(t *testing.T) {
	t.Parallel()
	living(t, 0, func(t *testing.T, r *register, l *life, ended <-chan error) {
		r.pass(time.Second)
		r.set(func() { r.paused = true })
		l.look()
		r.pass(time.Second)
		if want := []string{"+" + pausedReason}; !slices.Equal(r.holds, want) {
			t.Errorf("%q at once", r.holds)
		}
		r.pass(time.Hour)
		r.set(func() { r.paused = false })
		r.pass(5 * defaultPoll) // more often than usual
		if want := []string{"+" + pausedReason, "-" + pausedReason}; !slices.Equal(r.holds, want) {
			t.Errorf("%q", r.holds)
		}
		if want := []EventKind{EventPaused, EventResumed}; !slices.Equal(r.events, want) {
			t.Errorf("told %v", r.events)
		}
	})
}

func TestAServiceThatIsPendingIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, before := range []chain.Service{{}, {CreatedAt: 5, Status: 0}} {
		synctest.Test(t, func(t *testing.T) {
			r := &register{service: before, absent: true}
			l := r.life(0)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = l.run(ctx) })
			active := make(chan error, 1)
			wg.Go(func() { active <- l.await(ctx) })
			r.pass(time.Hour)
			select {
			case <-active:
				t.Fatal("a service that is pending counts as active")
			default:
			}
			r.set(func() { r.service, r.absent = chain.Service{CreatedAt: 5, Status: 1}, false })
			if err := <-active; err != nil {
				t.Error(err)
			}
			if want := []string{"+" + pendingReason, "-" + pendingReason}; !slices.Equal(r.holds, want) {
				t.Errorf("%q", r.holds)
			}
			cancel()
			wg.Wait()
			if err := l.await(t.Context()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestALookIsCheap(t *testing.T) {
	t.Parallel()
	living(t, 0, func(t *testing.T, r *register, l *life, ended <-chan error) {
		r.pass(time.Hour)
		if most := 3 * (int(time.Hour/(15*defaultPoll)) + 1); r.requests > most {
			t.Errorf("%d requests in an hour, more than %d", r.requests, most)
		}
	})
}
