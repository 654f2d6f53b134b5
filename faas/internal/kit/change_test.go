package kit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

func TestTheAnswerToAChangeIsAwaitedThoughItsCallerGivesUp(t *testing.T) {
	why, refused := errors.New("the operator has had enough"), errors.New("no")
	for name, tt := range map[string]struct {
		takes      time.Duration // until the answer comes
		answer     error
		unanswered bool
	}{
		"answered in time": {5 * time.Second, nil, false},
		"refused in time":  {5 * time.Second, refused, false},
		"never answered":   {time.Hour, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(why) })
				err := Change(ctx, Grace, func(ctx context.Context) error {
					if !httputil.Sleep(ctx, tt.takes) {
						return ctx.Err()
					}
					return tt.answer
				})
				if IsUnanswered(err) != tt.unanswered || !tt.unanswered && err != tt.answer {
					t.Errorf("got %v", err)
				}
				failed := Fail("deploy", faas.Custom, faas.NoJob, Refusal{Code: faas.ErrTimeout}, err)
				if tt.unanswered && (!errors.Is(err, why) || !failed.Unsettled) {
					t.Errorf("the caller's end, or that it is unsettled, is not in %v", failed)
				}
			})
		})
	}
}

func TestNothingIsSentForACallerWhoHasGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Change(ctx, Grace, func(context.Context) error { t.Error("it is sent"); return nil })
	if !errors.Is(err, context.Canceled) || IsUnanswered(err) {
		t.Errorf("got %v", err)
	}
}

type key struct{}

func TestOutlastEndsTheGraceAfterItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the operator has had enough")
		ctx, end := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		lasting, cancel := Outlast(ctx, 10*time.Second)
		defer cancel()
		if lasting.Value(key{}) != "value" {
			t.Error("the values are lost")
		}
		time.Sleep(time.Hour)
		end(why)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if lasting.Err() != nil {
			t.Error("it ends before the grace is over")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if lasting.Err() == nil || !errors.Is(context.Cause(lasting), why) {
			t.Errorf("after the grace: %v, because of %v", lasting.Err(), context.Cause(lasting))
		}
	})
}

func TestOutlastLeavesNoTimerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		lasting, cancel := Outlast(ctx, time.Hour)
		end()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(context.Cause(lasting), context.Canceled) {
			t.Errorf("it ended because of %v", context.Cause(lasting))
		}
	})
}
