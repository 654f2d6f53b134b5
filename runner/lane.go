package runner

import (
	"slices"
	"time"
)

const (
	firstDelay  = time.Second
	longestWait = 30 * time.Second // of those that grow
	longestAsk  = 5 * time.Minute  // of those that a function asks for
)

// gate keeps calls back after a failure that concerns all of them, longer after each failure in a
// row.
type gate struct {
	until  time.Time
	delay  time.Duration
	reason string // until a success
}

// shut returns the reason if it is news. Failures while it is shut belong to the one that shut it.
func (g *gate) shut(now time.Time, least time.Duration, reason string) (news string) {
	if g.isShut(now) {
		return ""
	}
	if reason != g.reason {
		news = reason
	}
	g.delay = min(max(2*g.delay, firstDelay), longestWait)
	g.until, g.reason = now.Add(max(g.delay, min(least, longestAsk))), reason
	return news
}

func (g *gate) isShut(now time.Time) bool { return now.Before(g.until) }

// lane is a queue of calls, and how many of them may be worked on at the same time.
type lane struct {
	job     uint32
	queue   []*item
	guests  int // that wait beside the queue
	running int
	limit   int // of running
	window  int // of running: less than limit after a function refused
	good    int // successes since the window grew
	gate    gate
}

func (l *lane) mayBegin(now time.Time) bool {
	return len(l.queue) > 0 && l.running+l.guests < l.window && !l.gate.isShut(now)
}

func (l *lane) push(it *item) { l.queue = append(l.queue, it) }

// putBack makes a call the next one.
func (l *lane) putBack(it *item) { l.queue = slices.Insert(l.queue, 0, it) }

func (l *lane) pop() *item {
	it := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return it
}

func (l *lane) remove(it *item) {
	if i := slices.Index(l.queue, it); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
}

// refused halves the window: a function has a limit that nobody told.
func (l *lane) refused(now time.Time, least time.Duration, reason string) (news string) {
	if !l.gate.isShut(now) {
		l.window = max(1, min(l.window, l.running)/2)
	}
	return l.gate.shut(now, least, reason)
}

// worked opens the window again, a step for as many successes as it is wide.
func (l *lane) worked() {
	l.gate = gate{}
	if l.good++; l.good >= l.window {
		l.window, l.good = min(l.window+1, l.limit), 0
	}
}

// delayed is a heap of calls that wait by themselves, the next one first.
type delayed []*item

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d delayed) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)        { *d = append(*d, x.(*item)) }
func (d *delayed) Pop() any {
	last := len(*d) - 1
	it := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return it
}
