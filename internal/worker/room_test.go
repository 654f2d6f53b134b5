//go:build unix

package worker

import (
	"strconv"
	"testing"
)

func TestIdleProcessesMakeRoomForOthers(t *testing.T) {
	h := NewHost()
	h.SetMaxProcesses(2)
	t.Cleanup(h.Close) // after the pools: cleanups run last in, first out
	onHost := func(c *Config) { c.Host = h }
	kept := newPool(t, "frames", func(c *Config) { c.Host, c.MinWorkers = h, 1 })
	if _, err := kept.Warm(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	pid := func(p *Pool) int {
		n, err := strconv.Atoi(mustInvoke(t, p, jobPID, ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	pools := []*Pool{newPool(t, "frames", onHost), newPool(t, "frames", onHost), newPool(t, "frames", onHost)}
	first := pid(pools[0])
	busy := runSlow(pools[1]) // the kept one and the first are there: the first has to go
	gone(t, first)
	last := pid(pools[2]) // neither the one that is kept nor the one that is busy has to
	if err := <-busy; err != nil {
		t.Error(err)
	}
	if again := pid(pools[0]); again == first {
		t.Error("a process that ended answers")
	}
	// Two were idle then, of which the third function's was longer.
	gone(t, last)
	if got := pid(kept); got == 0 || kept.Stats().Starts != 1 {
		t.Errorf("the process that is to be kept was started %d times", kept.Stats().Starts)
	}
	h.mu.Lock()
	registered := len(h.pools)
	h.mu.Unlock()
	if registered != 4 {
		t.Errorf("%d pools", registered)
	}
}
