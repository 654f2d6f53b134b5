package kit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func refusal(class Class, code faas.Code) error {
	return Fail("look", faas.Custom, faas.NoJob, Refusal{Class: class, Code: code}, errors.New("refused"))
}

// If a wait ends while a change is unanswered, the error tells of that change, not of an earlier
// refusal.
func TestAWaitThatEndsTellsOfAnUnansweredChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first := true
		err := Wait{What: "changing", First: time.Second, Longest: time.Second}.Until(ctx, func(ctx context.Context) error {
			if first {
				first = false
				return NotYet(0, "busy")
			}
			return Change(ctx, time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		})
		if !IsUnanswered(err) || !Fail("deploy", "p", 0, Refusal{}, err).Unsettled {
			t.Errorf("got %v", err)
		}
	})
}

func TestAWaitEndsWhenALookSaysSo(t *testing.T) {
	outage, denied := refusal(Outage, faas.ErrUnavailable), refusal(Denied, faas.ErrPermissionDenied)
	absent, quota := refusal(Absent, faas.ErrNotFound), refusal(Quota, faas.ErrTooLarge)
	for name, tt := range map[string]struct {
		wait  Wait
		looks []error // the last one goes on for ever
		want  error   // nil: the state was seen
		most  time.Duration
	}{
		"the state is there": {Wait{}, []error{nil}, nil, 0},
		"failures that pass": {Wait{},
			[]error{outage, refusal(Busy, faas.ErrConflict), refusal(Throttled, faas.ErrThrottled), nil}, nil, time.Minute},
		"an hour of them": {Wait{}, append(slices.Repeat([]error{outage}, 700), nil), nil,
			2 * time.Hour},
		"a refusal that stays":                {Wait{}, []error{outage, quota}, quota, time.Minute},
		"one that is absent, and is believed": {Wait{}, []error{absent}, absent, 0},
		"one that is absent for a while":      {Wait{Absent: time.Minute}, []error{absent, absent, nil}, nil, time.Minute},
		"one that is absent for long":         {Wait{Absent: time.Minute}, []error{absent}, absent, 2 * time.Minute},
		"a credential that is refused twice":  {Wait{}, []error{denied, denied, nil}, nil, time.Minute},
		"a credential that is refused":        {Wait{}, []error{denied}, denied, 200 * time.Millisecond},
		"refused now and then": {Wait{}, []error{denied, denied, outage, denied, denied, nil}, nil,
			time.Minute},
		"not yet": {Wait{}, append(slices.Repeat([]error{NotYet(0, "it starts")}, 100), nil),
			nil, 20 * time.Minute},
		"not yet for too long": {Wait{}, []error{NotYet(time.Minute, "it is as before")}, ErrNotYet,
			2 * time.Minute},
		"the time is over": {Wait{Limit: time.Minute}, []error{outage}, outage, time.Minute},
		"what passes by the provider's word": {Wait{Patience: func(error, Refusal) time.Duration { return time.Minute }},
			[]error{quota, nil}, nil, time.Minute},
		"what does not by the provider's word": {Wait{Patience: func(error, Refusal) time.Duration { return 0 }},
			[]error{outage}, outage, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, n, began := tt.wait, 0, time.Now()
				w.What, w.First, w.Longest = "the function does not answer", 50*time.Millisecond, 5*time.Second
				err := w.Until(t.Context(), func(context.Context) error {
					n++
					return tt.looks[min(n, len(tt.looks))-1]
				})
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("after %d looks: %v, want %v", n, err, tt.want)
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("took %v of the fake clock, want at most %v", took, tt.most)
				}
				if tt.want == nil && n != len(tt.looks) {
					t.Errorf("%d looks, want %d", n, len(tt.looks))
				}
			})
		})
	}
}

func TestAWaitKeepsThePauseThatTheProviderAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := Fail("look", faas.Custom, faas.NoJob,
			Refusal{Class: Throttled, Code: faas.ErrThrottled, RetryAfter: 20 * time.Second}, errors.New("slowly"))
		var looks []time.Duration
		began := time.Now()
		err := Wait{First: time.Second, Longest: time.Second, Limit: time.Minute}.Until(
			t.Context(), func(context.Context) error {
				if looks = append(looks, time.Since(began)); len(looks) == 2 {
					return asked
				}
				if len(looks) == 4 {
					return nil
				}
				if len(looks) == 3 {
					return NotYetAfter(5*time.Second, "it starts")
				}
				return NotYet(0, "it starts")
			})
		if want := []time.Duration{0, time.Second, 21 * time.Second, 26 * time.Second}; err != nil ||
			!slices.Equal(looks, want) {
			t.Errorf("looks after %v (%v), want %v", looks, err, want)
		}
	})
}

func TestAWaitWithinAWaitSaysWhatWasRefusedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		busy, tries := refusal(Busy, faas.ErrConflict), 0
		err := Wait{What: "it is not deployed", First: time.Second, Longest: time.Second}.Until(
			ctx, func(ctx context.Context) error {
				if tries++; tries == 1 {
					return busy
				}
				return Wait{What: "it does not answer", First: time.Second, Longest: time.Second}.Until(
					ctx, func(context.Context) error {
						return NotYet(0, "it starts")
					})
			})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, busy) ||
			!strings.HasPrefix(err.Error(), "it does not answer: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAWaitDoesNotPauseForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := Fail("look", faas.Custom, faas.NoJob,
			Refusal{Class: Outage, Code: faas.ErrUnavailable, RetryAfter: 24 * time.Hour}, errors.New("away"))
		n, began := 0, time.Now()
		err := Wait{First: time.Second, Longest: time.Second}.Until(t.Context(), func(context.Context) error {
			if n++; n == 1 {
				return asked
			}
			return nil
		})
		if took := time.Since(began); err != nil || took != MaxAsked {
			t.Errorf("%v after %v of the fake clock, want nil after %v", err, took, MaxAsked)
		}
	})
}

func TestAWaitInVainSaysWhatWasRefusedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the operator has had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(why) })
		busy, began := refusal(Busy, faas.ErrConflict), time.Now()
		err := Wait{What: "the function does not answer", First: time.Second, Longest: time.Second}.Until(
			ctx, func(ctx context.Context) error {
				if time.Since(began) < time.Minute-time.Second {
					return busy
				}
				<-ctx.Done() // the last look ends with its caller, and tells nothing
				return ctx.Err()
			})
		var vain *WaitError
		if !errors.As(err, &vain) || !errors.Is(err, why) || !errors.Is(err, busy) ||
			!strings.HasPrefix(err.Error(), "the function does not answer: ") {
			t.Errorf("got %v", err)
		}
	})
}
