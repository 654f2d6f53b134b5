package kit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Wait is a wait for a state. It looks until the state is there, or cannot come any more, or the
// time is over. A look that fails does not end it unless the failure lasts.
type Wait struct {
	// What is said of a wait in vain, such as "the function does not answer".
	What string
	// First is the pause after the first look. Each is half as long again as the one before, up to
	// Longest. A longer one that the provider asks for is kept, up to [MaxAsked].
	First, Longest time.Duration
	// Limit bounds the whole wait; 0: only the context does.
	Limit time.Duration
	// Absent is how long looks in a row may say that there is nothing; 0: the first is believed.
	Absent time.Duration
	// Judge says what the error of a look means; nil: [RefusalOf].
	Judge func(error) Refusal
	// Patience, unless it is nil or returns less than 0, says how long looks in a row may fail with
	// such an error, in place of what Wait itself would say.
	Patience func(error, Refusal) time.Duration
}

// MaxAsked is the longest pause between two looks that a provider may ask for. What answers in its
// place, such as a proxy, may ask for hours.
const MaxAsked = time.Minute

// maxDenied is how many looks in a row may say that the credential is not taken.
const maxDenied = 3

// ErrNotYet is wrapped by the error of a look that did not fail and has not seen the state either.
var ErrNotYet = errors.New("not yet")

// NotYet returns such an error. For as long as within, looks in a row may say so; 0: for as long as
// the wait lasts.
func NotYet(within time.Duration, format string, args ...any) error {
	return &notYet{error: fmt.Errorf(format, args...), within: within}
}

// NotYetAfter returns such an error of a provider that asked not to be looked at again for that
// long; 0 if it did not.
func NotYetAfter(asked time.Duration, format string, args ...any) error {
	return &notYet{error: fmt.Errorf(format, args...), asked: asked}
}

type notYet struct {
	error
	within, asked time.Duration
}

func (n *notYet) Unwrap() []error { return []error{ErrNotYet, n.error} }

// Until calls look until it returns nil, and then returns nil. If look returns an error that will
// stay, that is returned as it is. If the wait ends before, its error is a *[WaitError].
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
			if last == nil || !IsEnded(err) || IsUnanswered(err) {
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

// way is one in which a look fails, or sees that it is not yet.
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

// patience is how long looks in a row may fail in that way; less than 0: for as long as the wait
// lasts.
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

// WaitError is the error of a wait that ended in vain: its context ended, or its time was over.
type WaitError struct {
	What  string
	Limit time.Duration
	Ended error // the cause of the context's end, or nil
	Last  error // of the last look that tells something, or nil
}

// Error says what was waited for, what ended it, and what the last look found.
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
