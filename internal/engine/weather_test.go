package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// diary is a journal that keeps its entries.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
	return nil
}

func (d *diary) Begin(changes []engine.Change) error {
	for _, c := range changes {
		_ = d.add("%s %s", c.Action, c.Unit.ID) // never fails
	}
	return nil
}
func (d *diary) Done(c engine.Change, _ faas.State) error { return d.add("done %s", c.Unit.ID) }
func (d *diary) Undoing(changes []engine.Change) error {
	for _, c := range changes {
		_ = d.add("undoing %s", c.Unit.ID) // never fails
	}
	return nil
}
func (d *diary) Undone(c engine.Change) error { return d.add("undone %s", c.Unit.ID) }
func (d *diary) Unmade(c engine.Change) error { return d.add("unmade %s", c.Unit.ID) }
func (d *diary) Found(c engine.Change) error  { return d.add("found %s", c.Unit.ID) }
func (d *diary) Gone(id string) error         { return d.add("gone %s", id) }

func (d *diary) sorted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.lines))
}

func notFound(id string) error { return faas.Errorf(faas.ErrNotFound, "observe", "test", "no %s", id) }

func refuse(code faas.Code, why string) error {
	return faas.Errorf(code, "deploy", "test", "%w", &sdkError{why})
}

// failing fails the calls of one moment on one unit.
func failing(moment, unit string, err error) func(m, id string) error {
	return func(m, id string) error {
		if m == moment && id == unit {
			return err
		}
		return nil
	}
}

func TestWhatIsRecordedIsLookedForAgain(t *testing.T) {
	recorded := map[string]faas.State{}
	for i := range 10 {
		id := fmt.Sprintf("svc-job%d", i)
		recorded[id] = faas.State{ID: id, Status: faas.StatusReady}
	}
	for _, test := range []struct {
		stale time.Duration
		took  time.Duration
		reads int
		found bool
	}{
		{0, 0, 1, true},
		{time.Second, 1500 * time.Millisecond, 3, true},
		{20 * time.Second, 30 * time.Second, 7, true},
		{time.Hour, 30 * time.Second, 7, false},
	} {
		t.Run(fmt.Sprintf("stale for %s", test.stale), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(map[string]string{})
				for id := range recorded {
					c.units[id] = "old"
				}
				start := time.Now()
				c.fail = func(m, id string) error {
					if m == "before observe" && time.Since(start) < test.stale {
						return notFound(id)
					}
					return nil
				}
				var mu sync.Mutex
				var pauses []string
				e := engine.New(c, "test", engine.Options{Parallel: 4, Report: func(s engine.Step) {
					mu.Lock()
					defer mu.Unlock()
					if s.RetryIn > 0 && s.UnitID == "svc-job3" {
						pauses = append(pauses, s.Err.Error())
					}
				}})
				changes, err := e.Observe(t.Context(), wanted(12), recorded)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s of the fake clock, want %s: one bound for all units", took, test.took)
				}
				if got, want := c.calls["observe"], 10*test.reads+2; got != want {
					t.Errorf("%d reads, want %d: one of each unit that is not recorded", got, want)
				}
				if len(pauses) != test.reads-1 || len(pauses) > 0 && !strings.Contains(pauses[0], "does not find it") {
					t.Errorf("steps of pauses: %q, want %d that say why", pauses, test.reads-1)
				}
				for i, c := range changes {
					if (c.Prior != nil) != (test.found && i < 10) || (c.Recorded != nil) != (i < 10) {
						t.Errorf("%s: prior %v, recorded %v", c.Unit.ID, c.Prior, c.Recorded)
					}
				}
			})
		})
	}
}

// Without another look, an undo would put back a read that is older than the recorded state.
func TestAnOlderStateThanTheRecordedOneIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		c := &dated{cloud: newCloud(map[string]string{"svc-job0": "new"}), at: now.Add(-time.Hour)}
		c.fail = func(m, _ string) error {
			if m == "before observe" && time.Since(now) > 2*time.Second {
				c.at = now
			}
			return nil
		}
		recorded := map[string]faas.State{"svc-job0": {ID: "svc-job0", DeployedAt: now}}
		changes, err := engine.New(c, "test", engine.Options{}).Observe(t.Context(), wanted(1), recorded)
		if err != nil || !changes[0].Prior.DeployedAt.Equal(now) {
			t.Errorf("%+v, %v: want the state of now", changes, err)
		}
	})
}

type dated struct {
	*cloud
	at time.Time
}

func (c *dated) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := c.cloud.Observe(ctx, id)
	s.DeployedAt = c.at
	return s, err
}

func TestAnUndoNeverRemovesWhatIsRecorded(t *testing.T) {
	for name, fail := range map[string]string{"its own creation fails": "svc-job1", "another one fails": "svc-job2"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(map[string]string{"svc-job1": "old"})
				c.fail = func(m, id string) error {
					switch {
					case m == "before observe":
						return notFound(id)
					case m == "after converge" && id == fail:
						return refuse(faas.ErrPermissionDenied, "no")
					}
					return nil
				}
				var d diary
				e := engine.New(c, "test", engine.Options{Parallel: 1, Journal: &d})
				changes, err := e.Observe(t.Context(), wanted(3),
					map[string]faas.State{"svc-job1": {ID: "svc-job1", Status: faas.StatusReady}})
				if err != nil {
					t.Fatal(err)
				}
				_, err = e.Apply(t.Context(), changes)
				var fe *faas.Error
				if !errors.As(err, &fe) || !cmp.Equal(fe.Leftovers, []string{"svc-job1"}) ||
					!strings.Contains(err.Error(), "svc-job1 was deployed before") {
					t.Errorf("error %v, want svc-job1 as what is left, and why", err)
				}
				if _, there := c.units["svc-job1"]; !there || len(c.units) != 1 {
					t.Errorf("units %v, want svc-job1 alone", c.units)
				}
				if slices.Contains(d.sorted(), "gone svc-job1") {
					t.Errorf("the journal says that it is gone: %q", d.lines)
				}
			})
		})
	}
}

// existing is a cloud whose Converge finds that a unit exists.
type existing struct{ *cloud }

func (c *existing) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	_, there := c.units[u.ID]
	s, err := c.cloud.Converge(ctx, u, prior, report)
	s.Existed = there
	return s, err
}

func TestAnUndoNeverRemovesWhatConvergeFound(t *testing.T) {
	for fail, want := range map[string][]string{
		"svc-job0": {"create svc-job0", "create svc-job1", "found svc-job0", "unmade svc-job1"},
		"svc-job1": {"create svc-job0", "create svc-job1", "done svc-job0", "gone svc-job1", "undoing svc-job1"},
	} {
		t.Run(fail+" fails", func(t *testing.T) {
			c := newCloud(map[string]string{"svc-job0": "another machine's"})
			c.fail = func(m, id string) error {
				switch {
				case m == "before observe":
					return notFound(id)
				case m == "after converge" && id == fail:
					return refuse(faas.ErrPermissionDenied, "no")
				}
				return nil
			}
			var d diary
			e := engine.New(&existing{c}, "test", engine.Options{Parallel: 1, Journal: &d})
			changes, err := e.Observe(t.Context(), wanted(2), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Apply(t.Context(), changes)
			var fe *faas.Error
			if !errors.As(err, &fe) || !cmp.Equal(fe.Leftovers, []string{"svc-job0"}) ||
				!strings.Contains(err.Error(), "svc-job0 existed before") {
				t.Errorf("error %v, want svc-job0 as what is left, and why", err)
			}
			if _, there := c.units["svc-job0"]; !there || len(c.units) != 1 {
				t.Errorf("units %v, want svc-job0 alone", c.units)
			}
			if diff := cmp.Diff(want, d.sorted()); diff != "" {
				t.Errorf("the journal (-want +got):\n%s", diff)
			}
		})
	}
}

// foreignError stands for the mark that a journal gives its errors.
type foreignError struct{ error }

func (e foreignError) Unwrap() error { return e.error }

type fullDisk struct{ diary }

func (d *fullDisk) Done(engine.Change, faas.State) error {
	return foreignError{faas.Errorf(faas.ErrInternal, "write ledger", "", "the disk is full")}
}

func TestTheJournalsErrorKeepsWhatItIs(t *testing.T) {
	e := engine.New(newCloud(nil), "test", engine.Options{Journal: &fullDisk{}})
	changes, err := e.Observe(t.Context(), wanted(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Apply(t.Context(), changes)
	var mark foreignError
	if !errors.As(err, &mark) || faas.CodeOf(err) != faas.ErrInternal {
		t.Errorf("error %v, want what the journal returned in it", err)
	}
}

func TestARemovalIsBelievedOnlyWhenItIsConfirmed(t *testing.T) {
	c := newCloud(map[string]string{"svc-job0": ""})
	c.fail = failing("before remove", "svc-job0", notFound("svc-job0"))
	var d diary
	err := engine.New(c, "test", engine.Options{Journal: &d}).Remove(t.Context(), wanted(1))
	var fe *faas.Error
	if !errors.As(err, &fe) || !cmp.Equal(fe.Leftovers, []string{"svc-job0"}) ||
		!cmp.Equal(d.lines, []string{"remove svc-job0"}) {
		t.Errorf("error %v, journal %q", err, d.lines)
	}
}

func TestAnUndoIsTriedAgainWhereItsFailureMayPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(map[string]string{"svc-job1": "old"})
		failures := map[string]int{}
		c.fail = func(m, id string) error {
			if m == "after converge" && id == "svc-job2" {
				return refuse(faas.ErrInternal, "no")
			}
			codes := map[string]faas.Code{"before remove": faas.ErrUnavailable, "before restore": faas.ErrConflict}
			if failures[m+id]++; codes[m] != "" && failures[m+id] < 4 {
				return refuse(codes[m], "not now")
			}
			return nil
		}
		_, err := apply(t.Context(), c, 1, wanted(3))
		var fe *faas.Error
		if !errors.As(err, &fe) || fe.Code != faas.ErrInternal || len(fe.Leftovers) > 0 ||
			!cmp.Equal(c.units, map[string]string{"svc-job1": "old"}) {
			t.Errorf("error %v, units %v, want all as it was", err, c.units)
		}
	})
}

// What was sent and not answered may take effect after its removal.
func TestWhatMayStillComeIntoBeingStaysInTheJournal(t *testing.T) {
	c := newCloud(nil)
	sent := faas.Errorf(faas.ErrUnavailable, "deploy", "test", "the connection broke")
	sent.Unsettled = true
	c.fail = failing("before converge", "svc-job1", sent)
	var d diary
	e := engine.New(c, "test", engine.Options{Parallel: 1, Journal: &d})
	changes, err := e.Observe(t.Context(), wanted(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Apply(t.Context(), changes)
	var fe *faas.Error
	if !errors.As(err, &fe) || !cmp.Equal(fe.Leftovers, []string{"svc-job1"}) ||
		!strings.Contains(err.Error(), "may still take effect") {
		t.Errorf("error %v, want svc-job1 as what may be left", err)
	}
	if diff := cmp.Diff([]string{"create svc-job0", "create svc-job1", "done svc-job0", "gone svc-job0",
		"undoing svc-job0", "undoing svc-job1"}, d.sorted()); diff != "" {
		t.Errorf("the journal (-want +got):\n%s", diff)
	}
	if c.calls["remove"] != 2 {
		t.Errorf("%d removals, want 2", c.calls["remove"])
	}
}

func TestHowOftenACallIsRepeated(t *testing.T) {
	throttled := func(after time.Duration) error {
		return &faas.Error{Op: "deploy", Provider: "test", JobID: faas.NoJob, Code: faas.ErrThrottled, RetryAfter: after,
			Err: &sdkError{"slow down"}}
	}
	for name, test := range map[string]struct {
		moment string
		err    error
		code   faas.Code
		calls  int
		longer time.Duration
		most   time.Duration
	}{
		"a throttled write": {"before converge", throttled(0), faas.ErrThrottled, 10, time.Minute,
			4 * time.Minute},
		"a throttled read": {"before observe", throttled(0), faas.ErrThrottled, 30, 2 * time.Minute,
			6 * time.Minute},
		"a write throttled with a delay": {"before converge", throttled(20 * time.Second), faas.ErrThrottled, 10,
			3 * time.Minute, 10 * time.Minute},
		"a delay of 68 years": {"before converge", throttled(2147483647 * time.Second), faas.ErrThrottled,
			1, 0, time.Second},
		"a quota": {"before converge", refuse(faas.ErrTooLarge, "the quota is used up"),
			faas.ErrTooLarge, 1, 0, time.Second},
		"something that someone else changes": {"before converge", refuse(faas.ErrConflict, "busy"), faas.ErrConflict, 1, 0,
			time.Second},
		"a service that cannot be reached now": {"before converge", refuse(faas.ErrUnavailable, "no route"),
			faas.ErrUnavailable, 1, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(nil)
				c.fail = failing(test.moment, "svc-job0", test.err)
				var paused time.Duration
				e := engine.New(c, "test", engine.Options{Report: func(s engine.Step) {
					if paused += s.RetryIn; s.RetryIn > 0 && !errors.Is(s.Err, faas.ErrThrottled) {
						t.Errorf("a pause because of %v", s.Err)
					}
				}})
				start := time.Now()
				changes, err := e.Observe(t.Context(), wanted(1), nil)
				if err == nil {
					_, err = e.Apply(t.Context(), changes)
				}
				took := time.Since(start)
				var fe *faas.Error
				var sdk *sdkError
				if !errors.As(err, &fe) || fe.Code != test.code || fe.JobID != 0 || !errors.As(err, &sdk) {
					t.Errorf("error %v, want %s of job 0 and its cause", err, test.code)
				}
				var cause *faas.Error
				if errors.As(test.err, &cause) && fe.RetryAfter != cause.RetryAfter {
					t.Errorf("the error has RetryAfter %s, want %s", fe.RetryAfter, cause.RetryAfter)
				}
				if n := c.calls[strings.TrimPrefix(test.moment, "before ")]; n != test.calls {
					t.Errorf("%d calls, want %d", n, test.calls)
				}
				if took < test.longer || took > test.most {
					t.Errorf("took %s of the fake clock, want %s to %s", took, test.longer, test.most)
				}
				if test.calls == 1 != (paused == 0) {
					t.Errorf("pauses of %s were told for %d calls", paused, test.calls)
				}
				if test.calls > 1 && !strings.Contains(err.Error(), fmt.Sprintf("refused %d times", test.calls)) {
					t.Errorf("the error does not say how often: %v", err)
				}
			})
		})
	}
}

// sdkError stands for the error of a provider's SDK.
type sdkError struct{ text string }

func (e *sdkError) Error() string { return e.text }

func TestAContextThatEndsAWaitLeavesTheRefusalInTheError(t *testing.T) {
	for name, end := range map[string]struct {
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 5*time.Second)
		}, context.DeadlineExceeded},
		"cancelled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(5*time.Second, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		for _, moment := range []string{"before observe", "before converge"} {
			t.Run(name+" "+moment, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := end.ctx(t.Context())
					defer cancel()
					c := newCloud(nil)
					c.fail = failing(moment, "svc-job1", &faas.Error{
						Op: "deploy", Provider: "test", JobID: faas.NoJob, Code: faas.ErrThrottled, RetryAfter: 3 * time.Second,
						Err: &sdkError{"rate exceeded"},
					})
					_, err := apply(ctx, c, 1, wanted(2))
					var sdk *sdkError
					if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, end.want) || !errors.Is(err, faas.ErrThrottled) ||
						!errors.As(err, &sdk) {
						t.Errorf("error %v, want a timeout that wraps the refusal and how the context ended", err)
					}
					text := err.Error()
					if reason := strings.Index(text, "rate exceeded"); reason < 0 || reason > strings.Index(text, end.want.Error()) {
						t.Errorf("the refusal does not come first: %v", err)
					}
				})
			})
		}
	}
}

func TestAContextThatEndsTheSearchForAUnitSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := engine.New(newCloud(nil), "test", engine.Options{}).Observe(
			ctx, wanted(1), map[string]faas.State{"svc-job0": {ID: "svc-job0"}})
		if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, faas.ErrNotFound) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want a timeout, and what was found until then", err)
		}
	})
}
