package logs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// hold is how long a line waits for earlier ones of other sequences.
const hold = 200 * time.Millisecond

// maxWaiting is how many lines may wait for earlier ones. If more come, the earliest do not wait.
const maxWaiting = 1000

// Join returns the lines of sequences that may never end, as they come. It sorts lines that come
// within a moment of each other by time. It calls each of seqs with a context that ends with the
// loop, and reads each sequence in a goroutine; all goroutines have ended when the loop has. The
// first error ends all sequences, after the lines that came before it.
func Join(ctx context.Context, provider string, seqs ...func(context.Context) Lines) Lines {
	if len(seqs) == 1 {
		return seqs[0](ctx)
	}
	return func(yield func(faas.LogLine, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		came := make(chan arrived)
		var readers sync.WaitGroup
		for _, seq := range seqs {
			readers.Go(func() {
				for line, err := range seq(ctx) {
					select {
					case came <- arrived{line: line, err: err}:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		over := make(chan struct{})
		go func() {
			readers.Wait()
			close(over)
		}()
		defer func() { <-over }()
		defer cancel()

		var waiting []arrived // by time
		timer := time.NewTimer(hold)
		defer timer.Stop()
		emit := func(n int) bool {
			for i := range n {
				if !yield(waiting[i].line, nil) {
					return false
				}
			}
			waiting = slices.Delete(waiting, 0, n)
			return true
		}
		for {
			select {
			case a := <-came:
				if a.err != nil {
					if emit(len(waiting)) {
						yield(faas.LogLine{}, a.err)
					}
					return
				}
				a.due = time.Now().Add(hold)
				if len(waiting) == 0 {
					timer.Reset(hold)
				}
				i := len(waiting)
				for i > 0 && waiting[i-1].line.Time.After(a.line.Time) {
					i--
				}
				waiting = slices.Insert(waiting, i, a)
				if len(waiting) > maxWaiting && !emit(maxWaiting/2) { // half, so that not every line moves the others
					return
				}
			case now := <-timer.C:
				due := 0 // up to the last that has waited long enough; those before it are earlier
				for i, a := range waiting {
					if !a.due.After(now) {
						due = i + 1
					}
				}
				if !emit(due) {
					return
				}
				if len(waiting) > 0 {
					next := waiting[0].due
					for _, a := range waiting {
						if a.due.Before(next) {
							next = a.due
						}
					}
					timer.Reset(time.Until(next))
				}
			case <-over:
				if emit(len(waiting)) && ctx.Err() != nil {
					yield(faas.LogLine{}, Ended(ctx, provider))
				}
				return
			}
		}
	}
}

// arrived is a line that came, or the error that ended its sequence.
type arrived struct {
	line faas.LogLine
	err  error
	due  time.Time // when it has waited long enough
}
