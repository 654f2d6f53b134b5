package worker

import (
	"slices"
	"time"
)

// SetMaxProcesses sets from how many processes on, in all pools of the host, another start first
// ends the process that has been idle longest. If none is idle, the number grows: a call never
// waits for another function's. 0, the default, means no limit. Call it before the host is used.
func (h *Host) SetMaxProcesses(n int) { h.maxProcesses = n }

func (h *Host) addPool(p *Pool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pools == nil {
		h.pools = map[*Pool]bool{}
	}
	h.pools[p] = true
}

func (h *Host) removePool(p *Pool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pools, p)
}

// makeRoom ends what must end before one more process starts.
func (h *Host) makeRoom() {
	if h.maxProcesses <= 0 {
		return
	}
	h.mu.Lock()
	full := len(h.processes) >= h.maxProcesses
	var pools []*Pool
	if full {
		pools = make([]*Pool, 0, len(h.pools))
		for p := range h.pools {
			pools = append(pools, p)
		}
	}
	h.mu.Unlock()
	var oldest *Pool
	var since time.Time
	for _, p := range pools {
		if w := p.longestIdle(); w != nil && (oldest == nil || w.Before(since)) {
			oldest, since = p, *w
		}
	}
	if oldest != nil {
		oldest.endIdle(since)
	}
}

// longestIdle returns since when the process that is idle longest is idle, or nil if none may be
// ended.
func (p *Pool) longestIdle() (since *time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || len(p.workers) <= p.cfg.MinWorkers {
		return nil
	}
	for _, w := range p.workers {
		if w.load == 0 && (since == nil || w.idleSince.Before(*since)) {
			since = &w.idleSince
		}
	}
	if since != nil {
		at := *since // the field changes after the unlock
		since = &at
	}
	return since
}

// endIdle ends a process that has been idle since then, if one still is.
func (p *Pool) endIdle(since time.Time) {
	p.mu.Lock()
	i := slices.IndexFunc(p.workers, func(w *warm) bool { return w.load == 0 && w.idleSince.Equal(since) })
	if i < 0 || p.closing {
		p.mu.Unlock()
		return
	}
	w := p.workers[i]
	w.routable = false
	p.workers = slices.Delete(p.workers, i, i+1)
	p.mu.Unlock()
	w.retire()
}
