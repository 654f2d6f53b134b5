package kit

import (
	"context"
	"sync"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Once runs something at most once for each key, however many callers ask at the same time, and
// remembers the value. A failure is returned to those who waited, but is not remembered. The zero
// value is ready to use.
type Once[K comparable, V any] struct {
	mu sync.Mutex
	of map[K]*attempt[V]
}

type attempt[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// Do returns the value that do returned for the key, now or earlier. The first caller runs do with
// its own ctx and the others wait. If the first caller's context ends, one of the others tries
// again.
func (o *Once[K, V]) Do(ctx context.Context, key K, do func(context.Context) (V, error)) (V, error) {
	for {
		o.mu.Lock()
		a, there := o.of[key]
		if !there {
			if o.of == nil {
				o.of = map[K]*attempt[V]{}
			}
			a = &attempt[V]{done: make(chan struct{})}
			o.of[key] = a
		}
		o.mu.Unlock()
		if !there {
			return o.try(ctx, key, a, do)
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
		if a.err == nil || !httputil.IsEnded(a.err) || ctx.Err() != nil {
			return a.value, a.err
		}
	}
}

func (o *Once[K, V]) try(ctx context.Context, key K, a *attempt[V], do func(context.Context) (V, error)) (V, error) {
	finished := false
	defer func() {
		if !finished || a.err != nil { // a panic passes, and nobody waits for ever
			o.forget(key, a)
		}
		if !finished {
			a.err = context.Canceled
		}
		close(a.done)
	}()
	a.value, a.err = do(ctx)
	finished = true
	return a.value, a.err
}

func (o *Once[K, V]) forget(key K, a *attempt[V]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of[key] == a {
		delete(o.of, key)
	}
}

// Forget drops the value of the key, so that the next Do runs again.
func (o *Once[K, V]) Forget(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, there := o.of[key]; there && isDone(a.done) {
		delete(o.of, key)
	}
}

// ForgetIf drops the value of the key only if it is still old, so that a caller who found old to be
// wrong does not drop a newer value.
func (o *Once[K, V]) ForgetIf(key K, old V, same func(a, b V) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, there := o.of[key]; there && isDone(a.done) && same(a.value, old) {
		delete(o.of, key)
	}
}

// Replace replaces the value of the key only if it is still old, so that others need not find out
// again what the caller learned.
func (o *Once[K, V]) Replace(key K, old, value V, same func(a, b V) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, there := o.of[key]; there && isDone(a.done) && same(a.value, old) {
		o.of[key] = &attempt[V]{done: a.done, value: value}
	}
}

func isDone(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Turns gives each key to one caller at a time. The zero value is ready to use.
type Turns[K comparable] struct {
	mu sync.Mutex
	of map[K]*turn
}

type turn struct {
	taken chan struct{} // holds a value while it is
	users int           // who hold it or wait for it
}

// Take waits for the key's turn and returns a function that ends the turn. The error is the cause
// of ctx's end.
func (t *Turns[K]) Take(ctx context.Context, key K) (release func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[K]*turn{}
	}
	mine, there := t.of[key]
	if !there {
		mine = &turn{taken: make(chan struct{}, 1)}
		t.of[key] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.of, key)
		}
	}
	select {
	case mine.taken <- struct{}{}:
		return func() { <-mine.taken; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
