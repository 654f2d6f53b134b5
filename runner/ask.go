package runner

import (
	"context"
	"sync"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// maxAsked is how many dry runs go into one request.
const maxAsked = 100

// asker makes one request of the dry runs that are wanted at the same time: of all that came while
// the request before was under way.
type asker struct {
	ctx    context.Context // of the requests
	dryRun func(ctx context.Context, calls []chain.Call) ([]error, error)

	mu      sync.Mutex
	busy    bool
	waiting []*question
}

type question struct {
	call chain.Call
	err  error
	done chan struct{}
}

// ask returns nil if a call would succeed, or why not.
func (a *asker) ask(ctx context.Context, call chain.Call) error {
	q := &question{call: call, done: make(chan struct{})}
	a.mu.Lock()
	a.waiting = append(a.waiting, q)
	if !a.busy {
		a.busy = true
		go a.answer()
	}
	a.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer makes requests until nobody waits.
func (a *asker) answer() {
	for {
		a.mu.Lock()
		n := min(len(a.waiting), maxAsked)
		batch := a.waiting[:n:n]
		a.waiting = a.waiting[n:]
		a.busy = n > 0
		a.mu.Unlock()
		if n == 0 {
			return
		}
		calls := make([]chain.Call, n)
		for i, q := range batch {
			calls[i] = q.call
		}
		errs, err := a.dryRun(a.ctx, calls)
		for i, q := range batch {
			if q.err = err; err == nil {
				q.err = errs[i]
			}
			close(q.done)
		}
	}
}
