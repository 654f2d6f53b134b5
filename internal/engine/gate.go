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
	firstDelay = 20 * time.Millisecond
	maxDelay   = 2 * time.Second
)

// maxRetryAfter is the longest pause that a provider may ask for. A call that would have to wait longer fails,
// and its error says for how long.
const maxRetryAfter = 5 * time.Minute

// limit bounds how often a call is made that the provider throttles every time. The third and every
// later repetition waits twice as long as the one before, from 1 s to longest.
type limit struct {
	attempts int
	longest  time.Duration
}

// A write can have done real work before it is throttled, such as a whole build, and is given up after two
// minutes or so. A read costs nothing, and is given up after four.
var (
	writes = limit{attempts: 10, longest: time.Minute}
	reads  = limit{attempts: 30, longest: 10 * time.Second}
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
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep pauses for d, or returns ctx's error when it ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// again takes note of the outcome of a call that went out at sent, and reports whether it should be made again because it was throttled, and when.
func (g *gate) again(err error, sent time.Time, attempt int, l limit) (pause time.Duration, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if faas.CodeOf(err) != faas.ErrThrottled {
		if err == nil && g.delay > 0 {
			if g.delay -= g.delay / 30; g.delay < firstDelay/2 {
				g.delay = 0
			}
		}
		return 0, false
	}
	now := time.Now()
	if sent.After(g.raised) {
		g.delay, g.raised = min(max(firstDelay, g.delay*6/5), maxDelay), now
	}
	// A spread of up to one delay keeps several programs that share a provider from knocking in step.
	hold := rand.N(max(g.delay, firstDelay))
	var fe *faas.Error
	if errors.As(err, &fe) {
		if fe.RetryAfter > maxRetryAfter {
			return 0, false
		}
		hold = max(hold, fe.RetryAfter)
	}
	if attempt >= l.attempts {
		return 0, false
	}
	if next := now.Add(hold); next.After(g.next) {
		g.next = next
	}
	pause = hold
	if attempt > 2 {
		pause = max(pause, min(time.Second<<min(attempt-3, 16), l.longest))
	}
	return pause, true
}
