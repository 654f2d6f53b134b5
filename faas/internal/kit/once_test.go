package kit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

func TestOnceDoesItOnceForAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Once[string, int]
		var done atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				v, err := o.Do(t.Context(), "a", func(ctx context.Context) (int, error) {
					httputil.Sleep(ctx, time.Second)
					return int(done.Add(1)), nil
				})
				if v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		all.Wait()
		if v, _ := o.Do(t.Context(), "b", func(context.Context) (int, error) { return 7, nil }); v != 7 {
			t.Errorf("another key has %d", v)
		}
		o.ForgetIf("a", 5, func(a, b int) bool { return a == b })
		if v, _ := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 9, nil }); v != 1 {
			t.Errorf("what is another's is forgotten: %d", v)
		}
		o.Forget("a")
		if v, _ := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 9, nil }); v != 9 {
			t.Errorf("it is remembered after Forget: %d", v)
		}
	})
}

func TestOnceTellsAFailureAndDoesNotRememberIt(t *testing.T) {
	var o Once[string, int]
	no := errors.New("no")
	if _, err := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 0, no }); err != no {
		t.Errorf("got %v", err)
	}
	if v, err := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 2, nil }); v != 2 || err != nil {
		t.Errorf("the next one: %d, %v", v, err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = o.Do(t.Context(), "b", func(context.Context) (int, error) { panic("oh") })
	}()
	if v, err := o.Do(t.Context(), "b", func(context.Context) (int, error) { return 3, nil }); v != 3 || err != nil {
		t.Errorf("after a panic: %d, %v", v, err)
	}
}

func TestWhoeverGivesUpDoesNotSpoilItForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Once[string, int]
		first, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := o.Do(first, "a", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if v, err := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 2, nil }); v != 2 || err != nil {
				t.Errorf("the second: %d, %v", v, err)
			}
		})
		synctest.Wait()
		impatient, giveUp := context.WithCancel(t.Context())
		giveUp()
		if _, err := o.Do(impatient, "a", func(context.Context) (int, error) { return 3, nil }); !errors.Is(
			err, context.Canceled) {
			t.Errorf("the third: %v", err)
		}
		cancel()
		all.Wait()
	})
}

func TestTurnsAreTakenOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns Turns[string]
		var now, most atomic.Int64
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				release, err := turns.Take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				defer release()
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
			})
		}
		all.Wait()
		if most.Load() != 1 || len(turns.of) != 0 {
			t.Errorf("%d at the same time, %d kept", most.Load(), len(turns.of))
		}
		release, _ := turns.Take(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := turns.Take(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		release()
	})
}

func TestOnceReplacesOnlyWhatIsStillRemembered(t *testing.T) {
	var o Once[string, int]
	same := func(a, b int) bool { return a == b }
	get := func() int {
		n, _ := o.Do(t.Context(), "a", func(context.Context) (int, error) { return 1, nil })
		return n
	}
	o.Replace("a", 1, 2, same) // nothing is remembered yet
	if got := get(); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
	o.Replace("a", 5, 6, same)
	if got := get(); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
	o.Replace("a", 1, 2, same)
	if got := get(); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}
