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

// looking is a wait by looks, which fail for a while without ending it.
func (e *Executor) looking(limit time.Duration, what string, args ...any) kit.Wait {
	return kit.Wait{What: fmt.Sprintf(what, args...), First: e.pace.first, Longest: e.pace.longest, Limit: limit,
		Judge: refusalOf}
}

// repeating is a wait that tries until it is not told kit.NotYet any more.
func (e *Executor) repeating(limit time.Duration, what string, args ...any) kit.Wait {
	w := e.looking(limit, what, args...)
	w.Patience = func(error, kit.Refusal) time.Duration { return 0 }
	return w
}

// change calls f, which changes a function, again while Lambda answers that another change of it is in progress. Every f is safe to repeat.
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

// changeOther calls f, which changes something outside Lambda, again while IAM or S3 answers that
// another change of it is under way. The SDK itself repeats what else is safe to repeat.
func (e *Executor) changeOther(ctx context.Context, f func(context.Context) error) error {
	return e.repeating(e.pace.settle, "another change goes on").Until(ctx, func(ctx context.Context) error {
		err := e.finish(ctx, f)
		if code := apiCode(err); code == "ConcurrentModification" || code == "OperationAborted" {
			return kit.NotYet(0, "%w", err)
		}
		return err
	})
}

// finish calls f, which sends one change, and waits for its answer for a while though ctx has
// ended.
func (e *Executor) finish(ctx context.Context, f func(context.Context) error) error {
	return kit.Change(ctx, e.pace.grace, f)
}

// unsure are the functions that may come into being yet: their creation was sent and never answered.
type unsure struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// sent takes the outcome of a creation, and reports whether it is unknown. A refusal tells nothing of one that was sent before.
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

// left is how long the function may still come into being; after limit it will not.
func (u *unsure) left(name string, limit time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	since, ok := u.since[name]
	if !ok {
		return 0
	}
	return limit - time.Since(since)
}

// appears waits for a function that may come into being yet, and returns an ErrNotFound where it does not.
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
