package kit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
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
					if !Sleep(ctx, tt.takes) {
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
