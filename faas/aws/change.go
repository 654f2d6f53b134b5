//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// looking returns a wait that reads a state repeatedly. Reads that fail for a while do not end it.
func (e *Executor) looking(limit time.Duration, what string, args ...any) kit.Wait {
	return kit.Wait{What: fmt.Sprintf(what, args...), First: e.pace.first, Longest: e.pace.longest, Limit: limit,
		Judge: refusalOf}
}

// repeating returns a wait that tries again for as long as it gets kit.NotYet.
func (e *Executor) repeating(limit time.Duration, what string, args ...any) kit.Wait {
	w := e.looking(limit, what, args...)
	w.Patience = func(error, kit.Refusal) time.Duration { return 0 }
	return w
}

// change calls f, which changes a function, again as long as Lambda answers that another change of
// the function is in progress. Every f is safe to repeat.
func (e *Executor) change(ctx context.Context, name string, f func(context.Context) error) error {
	return e.repeating(e.pace.state, "function %s stays busy", name).Until(ctx, func(ctx context.Context) error {
		err := e.finish(ctx, f)
		if !isBusy(err) {
			return err
		}
		if _, serr := e.settled(ctx, "wait", faas.NoJob, name, "", nil); serr != nil && ctx.Err() == nil {
			return serr
		}
		return kit.NotYet(0, "%w", err)
	})
}

// changeOther calls f, which changes something outside Lambda, again as long as IAM or S3 answers
// that another change of it is in progress. The SDK repeats whatever else is safe to repeat.
func (e *Executor) changeOther(ctx context.Context, f func(context.Context) error) error {
	return e.repeating(e.pace.settle, "another change goes on").Until(ctx, func(ctx context.Context) error {
		err := e.finish(ctx, f)
		if code := apiCode(err); code == "ConcurrentModification" || code == "OperationAborted" {
			return kit.NotYet(0, "%w", err)
		}
		return err
	})
}

// finish calls f, which sends one change, and waits a while for its answer even if ctx has ended.
func (e *Executor) finish(ctx context.Context, f func(context.Context) error) error {
	return kit.Change(ctx, e.pace.grace, f)
}

// unsure holds the functions that may still come into being: a request to create them was sent and
// never answered.
type unsure struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// sent takes the outcome of a creation and reports whether it is unknown. A refusal says nothing
// about an earlier request.
func (u *unsure) sent(name string, err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch code := codeOf(err); {
	case err == nil, isBusy(err): // it exists
		delete(u.since, name)
		return false
	case code != faas.ErrTimeout && code != faas.ErrUnavailable && code != faas.ErrInternal, notStarted(err, code):
		return false
	}
	if u.since == nil {
		u.since = map[string]time.Time{}
	}
	u.since[name] = time.Now()
	return true
}

// left returns how long the function may still come into being. After limit it no longer can.
func (u *unsure) left(name string, limit time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	since, ok := u.since[name]
	if !ok {
		return 0
	}
	return limit - time.Since(since)
}

// appears waits for a function that may still come into being. If it does not, the error is an
// ErrNotFound.
func (e *Executor) appears(ctx context.Context, name string, missing error) error {
	left := e.unsure.left(name, e.pace.late)
	if left <= 0 {
		return missing
	}
	wait := e.looking(left, "waiting whether function %s comes into being", name)
	wait.Absent = left
	err := wait.Until(ctx, func(ctx context.Context) error {
		_, err := e.get(ctx, name, "")
		return err
	})
	if ctx.Err() == nil && isNotFound(err) {
		e.unsure.sent(name, nil)
		return missing
	}
	return err
}
