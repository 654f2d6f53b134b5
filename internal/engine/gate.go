package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// gate is the back-off that all calls to one provider share. When the provider throttles one call, every call waits: a thousand
// functions that back off one by one keep a provider throttled, and together they do not.
type gate struct {
	turn chan struct{} // held by the one caller that waits for its time

	mu    sync.Mutex
	next  time.Time     // no call goes out before
	delay time.Duration // between calls; 0 while the provider does not throttle
	// raised is when delay was last raised. Calls that were under way then tell of the same congestion, and do not raise it again.
	raised time.Time
}

// A throttled call lengthens the delay by a fifth and a good one shortens it by a thirtieth, so that about one call in seven is refused where the
// provider's rate is fixed, and the delay follows where it is not.
const (
	firstDelay  = 20 * time.Millisecond
	maxDelay    = 2 * time.Second
	maxAttempts = 100 // the context is what ends a wait; this only ends a provider that throttles for ever
)

func newGate() *gate { return &gate{turn: make(chan struct{}, 1)} }

// wait returns when the next call may go out, or with the context's error. Callers wait in single file, so that the delay that holds when a call goes out
// is the current one, not the one from when it came.
func (g *gate) wait(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		g.mu.Lock()
		now := time.Now()
		pause := g.next.Sub(now)
		if pause <= 0 {
			g.next = now.Add(g.delay)
			g.mu.Unlock()
			return ctx.Err()
		}
		g.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// again takes note of the outcome of a call that went out at sent, and reports whether it should be made again.
func (g *gate) again(err error, sent time.Time, attempt int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if faas.CodeOf(err) != faas.ErrThrottled {
		if err == nil && g.delay > 0 {
			if g.delay -= g.delay / 30; g.delay < firstDelay/2 {
				g.delay = 0
			}
		}
		return false
	}
	if attempt >= maxAttempts {
		return false
	}
	if sent.After(g.raised) {
		g.delay, g.raised = min(max(firstDelay, g.delay*6/5), maxDelay), time.Now()
	}
	// A spread of up to one delay keeps several programs that share a provider from knocking in step.
	pause := rand.N(max(g.delay, firstDelay))
	var fe *faas.Error
	if errors.As(err, &fe) && fe.RetryAfter > pause {
		pause = fe.RetryAfter
	}
	if next := time.Now().Add(pause); next.After(g.next) {
		g.next = next
	}
	return true
}
