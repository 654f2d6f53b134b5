package kit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Grace is how long [Change] waits for the answer to a request after its caller has given up.
const Grace = 10 * time.Second

// Change calls send, which sends one request that changes something. A request that was sent may
// take effect even if nobody waits for the answer, and even after an attempt to undo it. Therefore,
// when ctx ends, Change waits for the answer for the grace period. If none comes, the error is an
// *[Unanswered]. Change sends nothing if ctx has already ended.
func Change(ctx context.Context, grace time.Duration, send func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lasting, cancel := Outlast(ctx, grace)
	defer cancel()
	err := send(lasting)
	if err != nil && lasting.Err() != nil {
		return &Unanswered{Grace: grace, Ended: context.Cause(ctx), Err: err}
	}
	return err
}

// Unanswered is the error of a change that was sent and never answered. Whether the change takes
// effect is unknown.
type Unanswered struct {
	Grace time.Duration // after the caller's end
	Ended error         // the cause of that end; nil if the connection broke before
	Err   error         // of the request
}

// Error says what is unknown, and why.
func (u *Unanswered) Error() string {
	text := "it was sent, but its outcome is unknown"
	if u.Ended != nil {
		text += fmt.Sprintf(" %s after its caller had given up (%v)", u.Grace, u.Ended)
	}
	return text + ": " + u.Err.Error()
}

// Unwrap returns why the caller gave up and the error of the request.
func (u *Unanswered) Unwrap() []error {
	if u.Ended == nil {
		return []error{u.Err}
	}
	return []error{u.Ended, u.Err}
}

// IsUnanswered reports whether err says that a change was sent and never answered.
func IsUnanswered(err error) bool {
	var u *Unanswered
	return errors.As(err, &u)
}

// Outlast returns a context for a request that changes something. It ends one grace period after
// ctx does, and keeps the values of ctx. Calling cancel releases its resources.
func Outlast(ctx context.Context, grace time.Duration) (lasting context.Context, cancel context.CancelFunc) {
	lasting, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, func() { end(context.Cause(ctx)) })
		context.AfterFunc(lasting, func() { timer.Stop() })
	})
	return lasting, func() {
		stop()
		end(context.Canceled)
	}
}
