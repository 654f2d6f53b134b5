package kit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Grace is how long the answer to a change that was sent is awaited after its caller has given up.
const Grace = 10 * time.Second

// Change calls send, which sends one request that changes something. A request that was sent takes
// effect whether or not its sender waits for the answer, and after whatever is done next to undo
// it: so once ctx ends, the answer is awaited for the grace. If there is none by then, the error is
// an *[Unanswered]. Nothing is sent under a ctx that has ended.
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

// Unanswered is the error of a change that was sent and never answered: whether it takes effect is
// not known.
type Unanswered struct {
	Grace time.Duration // after the caller's end
	Ended error         // the cause of that end; nil if the connection broke before
	Err   error         // of the request
}

// Error says what is not known, and why.
func (u *Unanswered) Error() string {
	text := "it was sent, and what became of it is not known"
	if u.Ended != nil {
		text += fmt.Sprintf(" %s after its caller had given up (%v)", u.Grace, u.Ended)
	}
	return text + ": " + u.Err.Error()
}

// Unwrap returns the caller's end and the error of the request.
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

// Outlast returns a context for a request that changes something. It ends the grace after ctx does.
// The values of ctx are kept. cancel releases what the context holds.
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
