package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// throttle is the back-off that all calls to one provider share. When the provider throttles one
// call, every call waits. A thousand functions that back off one by one would keep the provider
// throttled.
type throttle struct {
	turn chan struct{} // held by the one caller that waits for next

	mu    sync.Mutex
	next  time.Time     // when the next call may start
	delay time.Duration // between calls; 0 if the provider does not throttle
	// raised is when delay was last raised. Calls that were under way then met the same congestion,
	// and do not raise it again.
	raised time.Time
}

// A throttled call lengthens the delay by a fifth, and a successful one shortens it by a thirtieth.
// If the provider's rate is fixed, about one call in seven is throttled; if it changes, the delay
// follows.
const (
	firstDelay = 20 * time.Millisecond
	maxDelay   = 2 * time.Second
)

// maxRetryAfter is the longest pause that a provider may ask for. A call that would have to wait
// longer fails, and its error says how long.
const maxRetryAfter = 5 * time.Minute

// limit bounds how often a call is made if the provider throttles it every time. The third and
// every later repetition waits twice as long as the one before, from 1 s to longest.
type limit struct {
	attempts int
	longest  time.Duration
}

// A write may do real work before it is throttled, such as a whole build, and is given up after
// about two minutes. A read costs nothing, and is given up after about four.
var (
	writes = limit{attempts: 10, longest: time.Minute}
	reads  = limit{attempts: 30, longest: 10 * time.Second}
)

func newThrottle() *throttle { return &throttle{turn: make(chan struct{}, 1)} }

// wait returns when the next call may start, or with ctx's error. Callers wait in single file, so
// that the delay before a call is the current one, and not the one from when it arrived.
func (t *throttle) wait(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		t.mu.Lock()
		now := time.Now()
		pause := t.next.Sub(now)
		if pause <= 0 {
			t.next = now.Add(t.delay)
			t.mu.Unlock()
			return ctx.Err()
		}
		t.mu.Unlock()
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep pauses for d. If ctx ends before, it returns ctx's error.
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

// again records the outcome of a call that started at sent. It reports whether to make the call
// again because it was throttled, and after which pause.
func (t *throttle) again(err error, sent time.Time, attempt int, l limit) (pause time.Duration, again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if faas.CodeOf(err) != faas.ErrThrottled {
		if err == nil && t.delay > 0 {
			if t.delay -= t.delay / 30; t.delay < firstDelay/2 {
				t.delay = 0
			}
		}
		return 0, false
	}
	now := time.Now()
	if sent.After(t.raised) {
		t.delay, t.raised = min(max(firstDelay, t.delay*6/5), maxDelay), now
	}
	// A random part of up to one delay keeps several programs that share a provider out of step.
	hold := rand.N(max(t.delay, firstDelay))
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
	if next := now.Add(hold); next.After(t.next) {
		t.next = next
	}
	pause = hold
	if attempt > 2 {
		pause = max(pause, min(time.Second<<min(attempt-3, 16), l.longest))
	}
	return pause, true
}
