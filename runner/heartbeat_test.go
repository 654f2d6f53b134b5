package runner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// beating is a heart on a clock of its own, and what it did.
type beating struct {
	*heart
	sent   []string // when, status code and metrics
	events []Event
	config chain.HeartbeatConfig
	down   bool  // no node answers
	stuck  bool  // no transaction is mined
	fails  error // of the next sends
	state  Status
}

func newBeating(t *testing.T) *beating {
	b := &beating{config: chain.HeartbeatConfig{Interval: 120}, state: well()}
	judge(&b.state)
	start := time.Now()
	b.heart = &heart{
		chain: b, registry: chain.Address{1}, service: 7, blueprint: 3, operator: chain.Address{2},
		send: func(ctx context.Context, r txmgr.Request) (*chain.Receipt, error) {
			if r.To != b.registry {
				t.Errorf("sent to %s", r.To)
			}
			if r.Still != nil {
				if err := r.Still(ctx); err != nil {
					t.Errorf("a new heartbeat is not wanted: %v", err)
				}
			}
			when := time.Since(start).String()
			switch selector := binary.BigEndian.Uint32(r.Data); selector {
			case 0x5cce98a6:
				status, size := r.Data[4+3*32-1], binary.BigEndian.Uint64(r.Data[4+5*32-8:])
				if service, blueprint := r.Data[35], r.Data[67]; service != 7 || blueprint != 3 {
					t.Errorf("a heartbeat for service %d of blueprint %d", service, blueprint)
				}
				when += " " + string('0'+rune(status))
				if size > 0 {
					when += " with metrics"
				}
			case 0xc5d960bb:
				when += " offline"
			default:
				t.Errorf("sent %08x", selector)
			}
			b.sent = append(b.sent, when)
			if b.fails != nil {
				return nil, b.fails
			}
			if r.Sent != nil {
				if err := r.Sent(chain.Word{}); err != nil {
					t.Error(err)
				}
			}
			if b.stuck {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return &chain.Receipt{Succeeded: true, GasUsed: 75_000, Block: 9}, nil
		},
		status: func() Status { return b.state },
		emit:   func(e Event) { b.events = append(b.events, e) },
		jitter: func(most time.Duration) time.Duration { return most / 2 },
	}
	return b
}

// HeartbeatConfig is the registry's.
func (b *beating) HeartbeatConfig(_ context.Context, registry chain.Address, service uint64) (chain.HeartbeatConfig,
	error) {
	if registry != b.registry || service != 7 {
		return chain.HeartbeatConfig{}, fmt.Errorf("asked %s of service %d", registry, service)
	}
	if b.down {
		return chain.HeartbeatConfig{}, errors.New("no node")
	}
	return b.config, nil
}

// beatFor lets the heart beat for a while.
func (b *beating) beatFor(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	b.run(ctx)
}

func TestHeartbeatsComeBeforeTheIntervalIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		b.beatFor(5 * time.Minute)
		if err := b.offline(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"0s 0", "1m54s 0", "3m48s 0", "5m0s offline"}, b.sent); diff != "" {
			t.Error(diff)
		}
		if len(b.events) != 3 || b.events[0].Kind != EventHeartbeat || b.events[0].Err != nil ||
			b.events[0].GasUsed != 75_000 {
			t.Errorf("events: %+v", b.events)
		}
		if err := b.offline(t.Context()); err != nil || len(b.sent) != 4 {
			t.Errorf("offline again: %v, %v", err, b.sent)
		}
	})
}

func TestTheFirstHeartbeatWaitsUntilTheRunnerHasCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		b.state.Ready = false
		b.beatFor(59 * time.Second)
		if len(b.sent) != 0 {
			t.Errorf("sent %v", b.sent)
		}
		b.beatFor(61 * time.Second) // degraded or not, silence is worse
		if len(b.sent) != 1 {
			t.Errorf("sent %v", b.sent)
		}
	})
}

func TestAHeartbeatThatIsOnItsWayIsFollowedByOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		b.stuck = true
		b.beatFor(time.Second)
		b.stuck = false
		if err := b.offline(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"0s 0", "1s offline"}, b.sent); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTheIntervalIsTheRegistrysWithinReason(t *testing.T) {
	for seconds, want := range map[uint64]time.Duration{
		0: 5 * time.Minute, 1: time.Minute, 60: time.Minute, 120: 2 * time.Minute,
		1 << 40: 24 * time.Hour, 1<<64 - 1: 24 * time.Hour,
	} {
		if got := interval(chain.HeartbeatConfig{Interval: seconds}); got != want {
			t.Errorf("%d s: got %v, want %v", seconds, got, want)
		}
	}
}

func TestAHeartbeatTellsHowTheOperatorIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		b.config = chain.HeartbeatConfig{Interval: 60, CustomMetrics: true}
		b.state.Healthy = false
		b.beatFor(time.Second)
		b.state.Paused = true
		b.beatFor(time.Second)
		b.state.Paused, b.state.Over = false, "terminated"
		b.beatFor(time.Second)
		if diff := cmp.Diff([]string{"0s 1 with metrics"}, b.sent); diff != "" {
			t.Error(diff)
		}
		if err := b.offline(t.Context()); err != nil || len(b.sent) != 1 { // the registry would refuse it
			t.Errorf("offline: %v, %v", err, b.sent)
		}
	})
}

func TestTroubleDoesNotEndTheHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		b.fails = &chain.Revert{Selector: 0x3fa1eaf0}
		b.beatFor(time.Second)
		if err := b.offline(t.Context()); err != nil || len(b.sent) != 1 {
			t.Errorf("one that never beat goes offline: %v, %v", err, b.sent)
		}
		b.fails, b.down = nil, true
		b.beatFor(90 * time.Second)
		b.down = false
		b.beatFor(time.Second)
		if len(b.sent) != 2 {
			t.Errorf("sent %v", b.sent)
		}
		var failed int
		for _, e := range b.events {
			if e.Err != nil {
				failed++
			}
		}
		if failed != 3 { // the revert, and two questions to a node that is gone
			t.Errorf("%d failures were told: %+v", failed, b.events)
		}
	})
}

// A heartbeat that waits in the queue longer than its interval is of no use.
func TestAnOldHeartbeatIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeating(t)
		var still func(context.Context) error
		b.send = func(ctx context.Context, r txmgr.Request) (*chain.Receipt, error) {
			still = r.Still
			<-ctx.Done()
			return nil, ctx.Err()
		}
		start := time.Now()
		if err := b.beat(t.Context(), chain.HeartbeatConfig{Interval: 60}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it waited for %v", took)
		}
		time.Sleep(time.Second)
		if err := still(t.Context()); !errors.Is(err, txmgr.ErrObsolete) {
			t.Errorf("later: %v", err)
		}
	})
}

func TestMetricsAreEncodedAsTheRegistryReadsThem(t *testing.T) {
	long := strings.Repeat("n", 33)
	got := encodeMetrics(map[string]uint64{long: 5, "": 6, "a": 1<<64 - 1})
	// (string,uint256)[] by hand: offset, length, three offsets, then each tuple.
	word := func(n uint64) string { return string(appendWord(nil, n)) }
	padded := func(s string, words int) string { return s + strings.Repeat("\x00", 32*words-len(s)) }
	want := word(32) + word(3) + word(96) + word(96+96) + word(96+96+128) +
		word(64) + word(6) + word(0) +
		word(64) + word(1<<64-1) + word(1) + padded("a", 1) +
		word(64) + word(5) + word(33) + padded(long, 2)
	if string(got) != want {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if got, want := encodeMetrics(nil), word(32)+word(0); string(got) != want {
		t.Errorf("no metrics: %x", got)
	}
}
