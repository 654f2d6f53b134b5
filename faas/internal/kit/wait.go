package kit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Wait describes a wait for a state. It looks until the state is reached, cannot be reached any
// more, or the time is over. A look that fails ends the wait only if the failure lasts.
type Wait struct {
	// What completes the error of a wait that ended in vain, such as "the function does not answer".
	What string
	// First is the pause after the first look. Each pause is half as long again as the one before, up
	// to Longest. A longer pause that the provider asks for is kept, up to [MaxAsked].
	First, Longest time.Duration
	// Limit bounds the whole wait; 0 means that only the context does.
	Limit time.Duration
	// Absent is how long looks in a row may find nothing. If it is 0, the first such look is believed.
	Absent time.Duration
	// Judge returns the meaning of a look's error. If it is nil, [RefusalOf] does.
	Judge func(error) Refusal
	// Patience returns how long looks in a row may fail with such an error, in place of Wait's own
	// choice. If it is nil or returns less than 0, Wait chooses.
	Patience func(error, Refusal) time.Duration
}

// MaxAsked is the longest pause between two looks that a provider may ask for. Something that
// answers in the provider's place, such as a proxy, may ask for hours.
const MaxAsked = time.Minute

// maxDenied is how many looks in a row may be denied for their credential.
const maxDenied = 3

// ErrNotYet is wrapped by the error of a look that worked but did not see the state.
var ErrNotYet = errors.New("not yet")

// NotYet returns an error that wraps [ErrNotYet]. Looks in a row may return it for as long as
// within, or, if that is 0, for the whole wait.
func NotYet(within time.Duration, format string, args ...any) error {
	return &notYet{error: fmt.Errorf(format, args...), within: within}
}

// NotYetAfter returns an error that wraps [ErrNotYet] after a look at a provider that asked for a
// pause. If it did not, asked is 0.
func NotYetAfter(asked time.Duration, format string, args ...any) error {
	return &notYet{error: fmt.Errorf(format, args...), asked: asked}
}

type notYet struct {
	error
	within, asked time.Duration
}

func (n *notYet) Unwrap() []error { return []error{ErrNotYet, n.error} }

// Until calls look until it returns nil, and then returns nil. An error of look that is permanent
// is returned as it is. If the wait ends first, the error is a *[WaitError].
func (w Wait) Until(ctx context.Context, look func(context.Context) error) error {
	var (
		start  = time.Now()
		pause  = w.First
		last   error
		way    way       // in which the last look failed
		since  time.Time // when the first of the looks was that failed in a row in this way
		denied int
	)
	vain := func(ended error) error {
		return &WaitError{What: w.What, Limit: w.Limit, Ended: ended, Last: last}
	}
	for {
		if ctx.Err() != nil {
			return vain(context.Cause(ctx))
		}
		err := look(ctx)
		var inner *WaitError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &inner): // it has waited, and says for what
			if last != nil && !errors.Is(last, ErrNotYet) && !errors.Is(err, last) {
				return fmt.Errorf("%w; before that: %w", err, last)
			}
			return err
		case ctx.Err() != nil:
			if last == nil || !httputil.IsEnded(err) || IsUnanswered(err) {
				last = err
			}
			return vain(context.Cause(ctx))
		}
		means := w.judge(err)
		if denied++; means.Class != Denied {
			denied = 0
		}
		var seen *notYet
		if errors.As(err, &seen) {
			means.RetryAfter = seen.asked
		}
		if now := wayOf(means, seen); now != way || since.IsZero() {
			way, since = now, time.Now()
		}
		last = err
		if patience := w.patience(err, means, seen, denied); patience >= 0 && time.Since(since) >= patience {
			if seen != nil {
				return vain(nil)
			}
			return err
		}
		next := max(pause, min(means.RetryAfter, MaxAsked))
		if w.Limit > 0 {
			left := w.Limit - time.Since(start)
			if left <= 0 {
				return vain(nil)
			}
			next = min(next, left)
		}
		httputil.Sleep(ctx, next)
		pause = min(pause*3/2, w.Longest)
	}
}

// way is one of the ways in which a look does not see the state.
type way struct {
	class  Class
	seen   bool
	within time.Duration
}

func wayOf(means Refusal, seen *notYet) way {
	if seen != nil {
		return way{seen: true, within: seen.within}
	}
	return way{class: means.Class}
}

func (w Wait) judge(err error) Refusal {
	switch {
	case errors.Is(err, ErrNotYet):
		return Refusal{}
	case w.Judge != nil:
		return w.Judge(err)
	}
	return RefusalOf(err)
}

// patience returns how long looks in a row may fail in that way; less than 0 means for the whole
// wait.
func (w Wait) patience(err error, means Refusal, seen *notYet, denied int) time.Duration {
	const always = -1
	if seen != nil {
		if seen.within > 0 {
			return seen.within
		}
		return always
	}
	if w.Patience != nil {
		if d := w.Patience(err, means); d >= 0 {
			return d
		}
	}
	switch {
	case means.Class.Passes(), means.Class == Denied && denied < maxDenied:
		return always
	case means.Class == Absent:
		return w.Absent
	}
	return 0
}

// WaitError is the error of a wait that ended before the state was reached.
type WaitError struct {
	What  string
	Limit time.Duration
	Ended error // the cause of the context's end, or nil
	Last  error // of the last look that tells something, or nil
}

// Error says what was waited for, what ended the wait, and what the last look found.
func (e *WaitError) Error() string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Ended != nil {
		b.WriteString(": " + e.Ended.Error())
	} else if e.Limit > 0 {
		fmt.Fprintf(&b, " after %v", e.Limit)
	}
	if e.Last != nil {
		b.WriteString(": " + e.Last.Error())
	}
	return b.String()
}

// Unwrap returns the context's error and that of the last look.
func (e *WaitError) Unwrap() []error {
	var all []error
	for _, err := range []error{e.Ended, e.Last} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}
