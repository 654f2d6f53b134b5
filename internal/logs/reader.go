package logs

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Entry is a line, with what distinguishes it from every other line of the log.
type Entry struct {
	ID   string
	Line faas.LogLine
}

// At returns the time of the entry's line.
func (e Entry) At() time.Time { return e.Line.Time }

// Entries is a sequence of entries. An error is the last element.
type Entries = iter.Seq2[Entry, error]

// Pace says how often to ask a log for news: after the first pause if there were some, and
// otherwise after pauses that double up to the longest.
type Pace struct {
	First, Longest time.Duration
}

// Reader makes a faas.LogReader of a log that must be polled.
type Reader struct {
	Provider string
	// Read returns the entries from one time (zero: the first) to another, which is excluded (zero:
	// the last), by ascending time. The result may be read several times.
	Read func(ctx context.Context, from, until time.Time) Entries
	// Tail returns the last n entries of a period, by ascending time. If it is nil, Read is called
	// with longer and longer periods of the past.
	Tail func(ctx context.Context, from, until time.Time, n int) ([]Entry, error)
	Pace Pace
	// Late is how long after its time a line may show up, after later ones. While the log is followed,
	// that much of the past is read again.
	Late time.Duration
}

// recent is how much of the past is read at least when following begins. It is more than the
// difference between the clocks of machine and provider.
const recent = 5 * time.Minute

// failures is how many times in a row a followed log may be unavailable.
const failures = 8

// Logs returns what the query asks for. The query must have been checked.
func (r Reader) Logs(ctx context.Context, q faas.LogQuery) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		err := r.logs(ctx, q, func(e Entry) bool { return yield(e.Line, nil) })
		if err != nil && !errors.Is(err, errLeft) {
			if ctx.Err() != nil && faas.CodeOf(err) != faas.ErrTimeout {
				err = Ended(ctx, r.Provider)
			}
			yield(faas.LogLine{}, err)
		}
	}
}

// errLeft says that the loop was left.
var errLeft = errors.New("left")

func (r Reader) logs(ctx context.Context, q faas.LogQuery, emit func(Entry) bool) error {
	if ctx.Err() != nil {
		return Ended(ctx, r.Provider)
	}
	if !q.Follow {
		return r.window(ctx, q.Since, q.Until, q.Limit, emit)
	}
	cut := time.Now().Add(-max(r.Late, recent))
	if cut.Before(q.Since) {
		cut = q.Since
	}
	f := &follower{Reader: r, from: cut, seen: map[string]time.Time{}}
	late, err := f.news(r.Read(ctx, cut, time.Time{}))
	if err != nil {
		return err
	}
	if missing := q.Limit - len(late); q.Since.Before(cut) && (q.Limit == 0 || missing > 0) {
		if err := r.window(ctx, q.Since, cut, max(missing, 0), emit); err != nil {
			return err
		}
	}
	if q.Limit > 0 && len(late) > q.Limit {
		late = late[len(late)-q.Limit:]
	}
	for _, e := range late {
		if !emit(e) {
			return errLeft
		}
	}
	return f.follow(ctx, emit)
}

// window emits the entries of a period, or only the last ones if there is a limit.
func (r Reader) window(ctx context.Context, from, until time.Time, limit int, emit func(Entry) bool) error {
	if limit == 0 {
		for e, err := range r.Read(ctx, from, until) {
			if err != nil {
				return err
			}
			if !emit(e) {
				return errLeft
			}
		}
		return nil
	}
	tail := r.Tail
	if tail == nil {
		tail = r.backwards
	}
	last, err := tail(ctx, from, until, limit)
	if err != nil {
		return err
	}
	for _, e := range last {
		if !emit(e) {
			return errLeft
		}
	}
	return nil
}

// backwards finds the last n entries of a log that can only be read forwards, without reading all
// of it. It reads ten minutes of the past, then the hour before, and so on.
func (r Reader) backwards(ctx context.Context, from, until time.Time, n int) ([]Entry, error) {
	var found []Entry
	const first, growth, longest = 10 * time.Minute, 6, 60 * 24 * time.Hour
	begin := until
	if begin.IsZero() {
		begin = time.Now()
	}
	for step := first; ; step *= growth {
		end := until
		begin = begin.Add(-step)
		if step > longest || begin.Before(from) {
			begin = from
		}
		part, err := collect(n-len(found), r.Read(ctx, begin, end))
		if err != nil {
			return nil, err
		}
		found = append(part, found...)
		if len(found) >= n || begin.Equal(from) {
			return found, nil
		}
		until = begin
	}
}

// follower knows which entries in the period that is read again were seen already.
type follower struct {
	Reader
	from   time.Time            // read from here on
	latest time.Time            // of all entries so far
	seen   map[string]time.Time // ids of entries since from
}

// news returns the entries that were not seen before, by ascending time. It does not keep the
// others, however often they are read again. After an error the follower is unchanged.
func (f *follower) news(all Entries) ([]Entry, error) {
	var fresh []Entry
	came := map[string]bool{}
	for e, err := range all {
		if err != nil {
			return nil, err
		}
		if _, known := f.seen[e.ID]; !known && !came[e.ID] {
			fresh, came[e.ID] = append(fresh, e), true
		}
	}
	for _, e := range fresh {
		f.seen[e.ID] = e.At()
		if e.At().After(f.latest) {
			f.latest = e.At()
		}
	}
	slices.SortStableFunc(fresh, func(a, b Entry) int { return a.At().Compare(b.At()) })
	if from := f.latest.Add(-f.Late); from.After(f.from) {
		f.from = from
		for id, at := range f.seen {
			if at.Before(from) {
				delete(f.seen, id)
			}
		}
	}
	return fresh, nil
}

// follow asks for news until ctx is done.
func (f *follower) follow(ctx context.Context, emit func(Entry) bool) error {
	wait, failed := f.Pace.First, 0
	for httputil.Sleep(ctx, wait) {
		fresh, err := f.news(f.Read(ctx, f.from, time.Time{}))
		wait = min(2*wait, f.Pace.Longest)
		if err != nil {
			var e *faas.Error
			switch code := faas.CodeOf(err); {
			case ctx.Err() != nil:
				return Ended(ctx, f.Provider)
			case code == faas.ErrThrottled && errors.As(err, &e):
				wait = max(wait, e.RetryAfter)
			case code == faas.ErrUnavailable && failed < failures:
				failed++
			default:
				return err
			}
			continue
		}
		failed = 0
		if len(fresh) > 0 {
			wait = f.Pace.First
		}
		for _, e := range fresh {
			if !emit(e) {
				return errLeft
			}
		}
	}
	return Ended(ctx, f.Provider)
}
