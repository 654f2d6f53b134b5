package kit

import (
	"context"
	"sync"
)

// Once does something at most once for each key, however many ask for it at the same time, and
// remembers what came of it. A failure is told to those who waited, and not remembered. The zero
// value is ready for use.
type Once[K comparable, V any] struct {
	mu sync.Mutex
	of map[K]*attempt[V]
}

type attempt[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// Do returns what do returned for the key, now or before. Whoever comes first calls do with its own
// ctx; the others wait, and if the first one's context ends, one of them tries anew.
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
		if a.err == nil || !IsEnded(a.err) || ctx.Err() != nil {
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

// Forget drops what is remembered for the key, so that the next Do does it again.
func (o *Once[K, V]) Forget(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, there := o.of[key]; there && isDone(a.done) {
		delete(o.of, key)
	}
}

// ForgetIf is Forget if what is remembered is still old: whoever found that it does not hold must
// not drop what somebody else has put in its place.
func (o *Once[K, V]) ForgetIf(key K, old V, same func(a, b V) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, there := o.of[key]; there && isDone(a.done) && same(a.value, old) {
		delete(o.of, key)
	}
}

// Replace puts value in place of what is remembered for the key if that is still old: whoever found
// out more need not do it again.
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

// Turns lets one caller at a time do something to each key. The zero value is ready for use.
type Turns[K comparable] struct {
	mu sync.Mutex
	of map[K]*turn
}

type turn struct {
	taken chan struct{} // holds a value while it is
	users int           // who hold it or wait for it
}

// Take waits for the key's turn and returns what gives it back, or the cause of ctx's end.
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
