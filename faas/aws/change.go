//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// change calls f, which changes a function, again while Lambda answers that another change of it is in progress. Every f is safe to repeat.
func (e *Executor) change(ctx context.Context, name string, f func(context.Context) error) error {
	wait := e.pace.within(e.pace.state)
	for {
		err := e.finish(ctx, f)
		if err == nil || !inProgress(err) {
			return wait.ended(ctx, err)
		}
		if err := wait.again(ctx, err); err != nil {
			return err
		}
		if _, serr := e.settled(ctx, "wait", faas.NoJob, name, "", nil); serr != nil {
			if ctx.Err() != nil {
				return &interrupted{ctx.Err(), err}
			}
			return serr
		}
	}
}

// changeOther calls f, which changes something outside Lambda, again while IAM or S3 answers that
// another change of it is under way. The SDK itself repeats what else is safe to repeat.
func (e *Executor) changeOther(ctx context.Context, f func(context.Context) error) error {
	wait := e.pace.within(e.pace.settle)
	for {
		err := e.finish(ctx, f)
		if code := apiCode(err); code != "ConcurrentModification" && code != "OperationAborted" {
			return wait.ended(ctx, err)
		}
		if err := wait.again(ctx, err); err != nil {
			return err
		}
	}
}

// finish calls f, which sends one change. A request that is under way takes effect at AWS whether or not somebody waits for the answer, and after
// whatever is done next to undo it. So when ctx is done, finish still waits for the answer, for pace.grace. Without one, it says that nobody knows
// whether the change was made.
func (e *Executor) finish(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		grace := time.AfterFunc(e.pace.grace, cancel)
		context.AfterFunc(lasting, func() { grace.Stop() })
	})
	defer stop()
	err := f(lasting)
	if err != nil && lasting.Err() != nil {
		unknown := faas.Errorf(faas.ErrTimeout, "change", faas.AWSLambda,
			"the request was not answered within %s after its caller's context had ended (%w), so that its outcome is unknown: %w", e.pace.grace, ctx.Err(), err)
		unknown.Unsettled = true
		return unknown
	}
	return err
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
	case err == nil, isConflict(err): // it exists
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
	wait := e.pace.within(left)
	for {
		if err := wait.again(ctx, missing); err != nil {
			if ctx.Err() == nil {
				e.unsure.sent(name, nil)
			}
			return err
		}
		if _, err := e.get(ctx, name, ""); err == nil || (ctx.Err() == nil && !isNotFound(err) && !transient(err)) {
			return err
		}
	}
}
