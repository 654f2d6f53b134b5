//go:build unix

package worker

import (
	"strconv"
	"testing"
)

func TestIdleProcessesMakeRoomForOthers(t *testing.T) {
	h := NewHost()
	h.SetMaxProcesses(2)
	t.Cleanup(h.Close) // after the pools: the last cleanup runs first
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
	busy := runSlow(pools[1]) // the kept one and the first exist: the first must go
	gone(t, first)
	last := pid(pools[2]) // neither the kept one nor the busy one
	if err := <-busy; err != nil {
		t.Error(err)
	}
	if again := pid(pools[0]); again == first {
		t.Error("a process that ended answers")
	}
	// Two were idle then; that of the third function was idle longer.
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
