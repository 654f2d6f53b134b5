package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func line(second int, text string) faas.LogLine {
	return faas.LogLine{Time: epoch.Add(time.Duration(second) * time.Second), Text: text}
}

// of returns a sequence of lines that ends with err, if it is not nil, and counts in left when the
// loop is left.
func of(left *int, err error, lines ...faas.LogLine) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		if left != nil {
			defer func() { *left++ }()
		}
		for _, l := range lines {
			if !yield(l, nil) {
				return
			}
		}
		if err != nil {
			yield(faas.LogLine{}, err)
		}
	}
}

// texts reads up to most lines of a sequence, and returns their texts and the error.
func texts(most int, seq Lines) (got []string, failed error) {
	for l, err := range seq {
		if err != nil {
			return got, err
		}
		if got = append(got, l.Text); len(got) == most {
			break
		}
	}
	return got, nil
}

func TestMergePutsLinesInTheOrderOfTheirTimes(t *testing.T) {
	got, err := texts(-1, Merge(Time, of(nil, nil, line(1, "a1"), line(4, "a4"), line(4, "a4 again")), of(nil, nil),
		of(nil, nil, line(0, "c0"), line(4, "c4"), line(5, "c5"))))
	if diff := cmp.Diff([]string{"c0", "a1", "a4", "a4 again", "c4", "c5"}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestMergeLeavesItsSequencesWhenItIsLeftOrOneFails(t *testing.T) {
	left := 0
	if got, err := texts(2, Merge(Time, of(&left, nil, line(1, "a"), line(2, "b")),
		of(&left, nil, line(3, "c"), line(4, "d")))); len(got) != 2 || err != nil || left != 2 {
		t.Errorf("left early: %v %v, %d sequences were left", got, err, left)
	}
	left = 0
	broken := errors.New("broken")
	if got, err := texts(-1, Merge(Time, of(&left, broken, line(1, "a")),
		of(&left, nil, line(3, "c"), line(4, "d")))); !cmp.Equal(got, []string{"a"}) || err != broken || left != 2 {
		t.Errorf("one fails: %v %v, %d sequences were left", got, err, left)
	}
}

func TestLastKeepsTheEnd(t *testing.T) {
	var many []faas.LogLine
	for i := range 25 {
		many = append(many, line(i, fmt.Sprint(i)))
	}
	for n, want := range map[int]int{0: 25, 1: 1, 7: 7, 25: 25, 100: 25} {
		if got, err := texts(-1, Last(n, of(nil, nil, many...))); err != nil || len(got) != want || got[len(got)-1] != "24" {
			t.Errorf("the last %d: %v %v", n, got, err)
		}
	}
	broken := errors.New("broken")
	if got, err := texts(-1, Last(3, of(nil, broken, many...))); err != broken || len(got) > 0 {
		t.Errorf("of a sequence that fails: %v %v", got, err)
	}
}

// live returns an endless sequence of lines as they come, until its context is done.
func live(lines <-chan faas.LogLine) func(context.Context) Lines {
	return func(ctx context.Context) Lines {
		return func(yield func(faas.LogLine, error) bool) {
			for {
				select {
				case l, ok := <-lines:
					if !ok || !yield(l, nil) {
						return
					}
				case <-ctx.Done():
					yield(faas.LogLine{}, Ended(ctx, "p"))
					return
				}
			}
		}
	}
}

func TestJoinPutsInOrderWhatComesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := make(chan faas.LogLine), make(chan faas.LogLine)
		go func() {
			a <- line(5, "a5")
			b <- line(3, "b3")
			b <- line(6, "b6")
			time.Sleep(time.Minute)
			b <- line(4, "b4, late")
			close(a)
			close(b)
		}()
		got, err := texts(-1, Join(t.Context(), "p", live(a), live(b)))
		if diff := cmp.Diff([]string{"b3", "a5", "b6", "b4, late"}, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestJoinEndsWithItsLoopItsContextAndAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := make(chan faas.LogLine, 9), make(chan faas.LogLine, 9)
		for i := range 9 {
			a <- line(i, "a")
		}
		if got, err := texts(3, Join(t.Context(), "p", live(a), live(b))); len(got) != 3 || err != nil {
			t.Errorf("left early: %v %v", got, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := texts(-1, Join(ctx, "p", live(b), live(b)))
		var e *faas.Error
		if !errors.As(err, &e) || e.Code != faas.ErrTimeout || e.Provider != "p" ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended by its context: %v", err)
		}
		broken := errors.New("broken")
		if got, err := texts(-1, Join(t.Context(), "p", live(b),
			func(context.Context) Lines { return of(nil, broken, line(1, "x")) })); err != broken ||
			!cmp.Equal(got, []string{"x"}) {
			t.Errorf("one fails: %v %v", got, err)
		}
	}) // and the bubble sees that no goroutine is left
}

// Lines that come faster than time passes, each before all others, must neither pile up nor be
// sorted without limit.
func TestJoinHoldsABoundedNumberOfLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 5 * maxWaiting
		var came atomic.Int32
		flood := func(ctx context.Context) Lines {
			return func(yield func(faas.LogLine, error) bool) {
				for i := range many {
					came.Add(1)
					if !yield(line(-i, "flood"), nil) || ctx.Err() != nil {
						return
					}
				}
			}
		}
		got := 0
		for _, err := range Join(t.Context(), "p", flood, live(nil)) {
			if err != nil {
				t.Fatal(err)
			}
			if got++; int(came.Load())-got > maxWaiting+2 {
				t.Fatalf("%d lines came before line %d was passed on", came.Load(), got)
			}
			if got == many-maxWaiting {
				break
			}
		}
	})
}

func TestFollowingKeepsNothingOfWhatIsReadAgain(t *testing.T) {
	entries := make([]Entry, 10_000)
	for i := range entries {
		entries[i] = Entry{ID: fmt.Sprint(i), Line: line(i%60, "again")}
	}
	all := func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
	f := &follower{Reader: Reader{Late: time.Hour}, seen: map[string]time.Time{}}
	if fresh, err := f.news(all); err != nil || len(fresh) != len(entries) {
		t.Fatalf("%d entries are new, %v", len(fresh), err)
	}
	var fresh []Entry
	var err error
	if cost := alloctest.Bytes(func() { fresh, err = f.news(all) }); err != nil || len(fresh) > 0 || cost > 64<<10 {
		t.Errorf("%d bytes were allocated for what was known; %d entries are new, %v", cost, len(fresh), err)
	}
	broken := func(yield func(Entry, error) bool) {
		_ = yield(Entry{ID: "more", Line: line(1, "more")}, nil) && yield(Entry{}, errors.New("broken"))
	}
	if _, err := f.news(broken); err == nil {
		t.Error("no error")
	}
	if fresh, err := f.news(only(Entry{ID: "more", Line: line(1, "more")})); err != nil || len(fresh) != 1 {
		t.Errorf("after an error, %d entries are new, %v", len(fresh), err)
	}
}

// only returns the sequence of one entry.
func only(e Entry) Entries { return func(yield func(Entry, error) bool) { yield(e, nil) } }

// store is a log that shows each entry from some time on.
type store struct {
	entries []shown
	reads   []time.Time // from where
	fail    func(read int) error
}

type shown struct {
	Entry
	from time.Time // zero: always
}

func (s *store) add(at time.Time, text string, late time.Duration) {
	s.entries = append(s.entries, shown{Entry{ID: fmt.Sprint(len(s.entries)), Line: faas.LogLine{Time: at, Text: text}},
		at.Add(late)})
}

func (s *store) read(ctx context.Context, from, until time.Time) Entries {
	return func(yield func(Entry, error) bool) {
		s.reads = append(s.reads, from)
		if s.fail != nil {
			if err := s.fail(len(s.reads)); err != nil {
				yield(Entry{}, err)
				return
			}
		}
		all := slices.Clone(s.entries)
		slices.SortStableFunc(all, func(a, b shown) int { return a.At().Compare(b.At()) })
		for _, e := range all {
			if e.At().Before(from) || !until.IsZero() && !e.At().Before(until) || e.from.After(time.Now()) {
				continue
			}
			if !yield(e.Entry, nil) {
				return
			}
		}
	}
}

func (s *store) reader() Reader {
	return Reader{Provider: "p", Read: s.read, Pace: Pace{time.Second, 8 * time.Second}, Late: 30 * time.Second}
}

func TestReaderFindsTheLastLinesWithoutReadingEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, now := &store{}, time.Now()
		for _, age := range []time.Duration{500 * 24 * time.Hour, 2 * time.Hour, 70 * time.Minute, 30 * time.Minute,
			11 * time.Minute, 2 * time.Minute, time.Minute} {
			s.add(now.Add(-age), age.String(), 0)
		}
		for _, tt := range []struct {
			q           faas.LogQuery
			want, reads int
		}{
			{faas.LogQuery{Limit: 2}, 2, 1}, {faas.LogQuery{Limit: 3}, 3, 2}, {faas.LogQuery{Limit: 6}, 6, 3},
			{faas.LogQuery{Limit: 9}, 7, 7},
			{faas.LogQuery{Limit: 9, Since: now.Add(-31 * time.Minute)}, 4, 2},
			{faas.LogQuery{Limit: 1, Until: now.Add(-time.Hour)}, 1, 1},
			{faas.LogQuery{Since: now.Add(-time.Hour)}, 4, 1}, {faas.LogQuery{}, 7, 1},
			{faas.LogQuery{Since: now.Add(-time.Hour), Until: now.Add(-2 * time.Minute)}, 2, 1},
		} {
			s.reads = nil
			got, err := texts(-1, s.reader().Logs(t.Context(), tt.q))
			if err != nil || len(got) != tt.want || len(s.reads) != tt.reads {
				t.Errorf("%+v: %v %v with %d reads, want %d lines with %d", tt.q, got, err, len(s.reads), tt.want, tt.reads)
			}
		}
	})
}

func TestReaderFollowsWithoutLosingOrRepeatingLines(t *testing.T) {
	for name, limit := range map[string]int{"all": 0, "the last two": 2, "the last four": 4, "more than there are": 50} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, now := &store{}, time.Now()
				s.add(now.Add(-3*time.Hour), "old", 0)
				for range 2 {
					s.add(now.Add(-time.Hour), "twins", 0)
				}
				s.add(now.Add(-time.Minute), "recent", 0)
				s.add(now.Add(-time.Second), "twins", 0)
				s.add(now.Add(-time.Second), "twins", 5*time.Second) // shows when its twin has been told of
				s.add(now.Add(10*time.Second), "later", 0)
				s.add(now.Add(9*time.Second), "out of order", 20*time.Second)
				s.add(now.Add(time.Hour), "much later", 0)
				want := []string{"old", "twins", "twins", "recent", "twins", "twins", "later", "out of order", "much later"}
				if limit > 0 && limit < 5 {
					want = want[5-limit:]
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				got, err := texts(-1, s.reader().Logs(ctx, faas.LogQuery{Follow: true, Limit: limit}))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if faas.CodeOf(err) != faas.ErrTimeout {
					t.Errorf("it ended with %v", err)
				}
				if n := len(s.reads); n < 7200/8 || n > 7200/8+20 {
					t.Errorf("%d reads in two hours that are quiet", n)
				}
				if from := s.reads[len(s.reads)-1]; from.Before(now.Add(59 * time.Minute)) {
					t.Errorf("the last read began %v after the first", from.Sub(now))
				}
			})
		})
	}
}

func TestReaderFollowsThroughThrottlingAndShortUnavailability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, now := &store{}, time.Now()
		s.add(now.Add(4*time.Minute), "after it all", 0)
		s.fail = func(read int) error {
			switch {
			case read == 2:
				return &faas.Error{Code: faas.ErrThrottled, RetryAfter: time.Minute}
			case read > 2 && read < 100 && read%4 > 0:
				return faas.Errorf(faas.ErrUnavailable, "logs", "p", "down")
			}
			return nil
		}
		got, err := texts(1, s.reader().Logs(t.Context(), faas.LogQuery{Follow: true, Since: now}))
		if err != nil || !cmp.Equal(got, []string{"after it all"}) {
			t.Errorf("%v %v", got, err)
		}
		if took := time.Since(now); took > 5*time.Minute {
			t.Errorf("it took %v", took)
		}
		s.fail = func(read int) error { return faas.Errorf(faas.ErrUnavailable, "logs", "p", "down") }
		s.reads = nil
		if _, err := texts(-1, s.reader().Logs(t.Context(), faas.LogQuery{Follow: true})); faas.CodeOf(
			err) != faas.ErrUnavailable || len(s.reads) != 1 {
			t.Errorf("a log that cannot be read at all: %v after %d reads", err, len(s.reads))
		}
		s.fail = func(read int) error {
			if read == 1 {
				return nil
			}
			return faas.Errorf(faas.ErrUnavailable, "logs", "p", "down")
		}
		s.reads = nil
		if _, err := texts(-1, s.reader().Logs(t.Context(), faas.LogQuery{Follow: true, Since: time.Now()})); faas.CodeOf(
			err) != faas.ErrUnavailable || len(s.reads) != 2+failures {
			t.Errorf("one that is down for good: %v after %d reads", err, len(s.reads))
		}
		s.fail = func(read int) error {
			if read == 2 {
				return faas.Errorf(faas.ErrPermissionDenied, "logs", "p", "no more")
			}
			return nil
		}
		s.reads = nil
		if _, err := texts(-1, s.reader().Logs(t.Context(), faas.LogQuery{Follow: true, Since: time.Now()})); faas.CodeOf(
			err) != faas.ErrPermissionDenied {
			t.Errorf("one that may not be read any more: %v", err)
		}
	})
}
