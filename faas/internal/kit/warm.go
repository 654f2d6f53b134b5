package kit

import (
	"context"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// MaxWarm is how many warm-up requests of one call may be under way at the same time.
const MaxWarm = 64

// Warm calls probe n times, at most [MaxWarm] at a time, and returns how many calls succeeded. If
// none did, the error is that of the first probe that failed.
func Warm(ctx context.Context, provider string, jobID uint32, n int, probe func(context.Context) error) (int, error) {
	if n < 1 {
		return 0, faas.JobErrorf(faas.ErrInvalidArgument, "warm", provider, jobID,
			"%d instances cannot be warmed; the least is 1", n)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		warm  int
		first error
		slots = make(chan struct{}, MaxWarm)
	)
	for range n {
		slots <- struct{}{} // every probe ends with ctx, so this wait does
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			err := probe(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				warm++
			} else if first == nil {
				first = err
			}
		})
	}
	all.Wait()
	switch {
	case warm > 0:
		return warm, nil
	case first == nil:
		return 0, faas.JobErrorf(faas.ErrTimeout, "warm", provider, jobID, "%w", context.Cause(ctx))
	}
	return 0, first
}
