package job

import (
	"sync"
	"sync/atomic"
	"time"
)

// relay decides who reads next when the reader of frames runs a job itself. The reader takes a
// turn for the job and gives it back afterwards, unless the turn lasts long and watch makes
// another goroutine the reader.
type relay struct {
	turn   atomic.Uint64 // odd while the reader runs a job; every change adds one
	asleep atomic.Bool   // watch waits for wake
	wake   chan struct{}
	end    chan struct{}
	done   sync.WaitGroup
}

const (
	// watchInterval is how often watch looks. A job of up to twice that time delays the calls behind
	// it.
	watchInterval = 500 * time.Microsecond
	// watchIdle is how many times watch looks without finding a turn before it stops until the next
	// one.
	watchIdle = 20
)

func (r *relay) start() {
	r.wake, r.end = make(chan struct{}, 1), make(chan struct{})
	r.done.Add(1)
}

// stop ends watch and waits for it.
func (r *relay) stop() {
	close(r.end)
	r.done.Wait()
}

// take begins a turn. Only the reader calls it.
func (r *relay) take() (turn uint64) {
	turn = r.turn.Add(1)
	if r.asleep.Load() && r.asleep.CompareAndSwap(true, false) {
		r.wake <- struct{}{}
	}
	return turn
}

// giveBack ends a turn, and reports whether the caller is still the reader.
func (r *relay) giveBack(turn uint64) bool { return r.turn.CompareAndSwap(turn, turn+1) }

// watch calls replace whenever a turn lasts long, until stop.
func (r *relay) watch(replace func()) {
	defer r.done.Done()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	last, idle := r.turn.Load(), 0
	for {
		select {
		case <-ticker.C:
		case <-r.end:
			return
		}
		now := r.turn.Load()
		switch {
		case now != last:
			last, idle = now, 0
		case now%2 == 1:
			if r.turn.CompareAndSwap(now, now+1) {
				replace()
			}
		default:
			if idle++; idle < watchIdle {
				continue
			}
			idle = 0
			r.asleep.Store(true)
			// A turn that was taken before the store did not see it.
			if r.turn.Load() != last && r.asleep.CompareAndSwap(true, false) {
				continue
			}
			ticker.Stop()
			select {
			case <-r.wake:
			case <-r.end:
				return
			}
			ticker.Reset(watchInterval)
		}
	}
}
