package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// progress shows the events of an operation: on a terminal a live line for each unit that is being worked on and a total, elsewhere a line for each unit
// that is done.
type progress struct {
	app  *app
	note string // what an interruption leads to
	// undoes says that what is removed after a failure is removed because of it.
	undoes bool

	mu      sync.Mutex
	active  []*unitLine
	done    int
	failed  int
	stopped bool // interrupted
	started time.Time
	ticker  chan struct{} // closed to end the repainting; nil where nothing is repainted
	wg      sync.WaitGroup
}

type unitLine struct {
	action, unit, step string
	bytes, total       int64
	since              time.Time
}

const (
	repaintEvery = 100 * time.Millisecond
	maxLiveLines = 8 // of units; more would scroll off a small terminal
)

// progress begins to show an operation. note says what an interruption leads to.
func (a *app) progress(note string) *progress {
	p := &progress{app: a, note: note, started: time.Now()}
	if a.log.width != nil && !a.quiet {
		p.ticker = make(chan struct{})
		p.wg.Go(func() { p.repaint(p.ticker) })
	}
	return p
}

func (p *progress) repaint(stop <-chan struct{}) {
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			p.mu.Lock()
			lines := p.lines(p.app.log.width(), now)
			p.mu.Unlock()
			p.app.log.show(lines)
		}
	}
}

// end stops the showing and leaves nothing live behind.
func (p *progress) end() {
	if p.ticker != nil {
		close(p.ticker)
		p.wg.Wait()
	}
	p.app.log.clear()
}

// interruptedBy says what happens when ctx ends before stop is called.
func (p *progress) interruptedBy(ctx context.Context) (stop func()) {
	told := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(told)
		p.mu.Lock()
		p.stopped = true
		p.mu.Unlock()
		p.app.log.printf("interrupted: %s\n", p.note)
	})
	return func() {
		if !unhook() {
			<-told
		}
	}
}

// event takes one event of the library.
func (p *progress) event(e serverless.Event) {
	if p.app.quiet {
		return
	}
	p.mu.Lock()
	line, show := p.take(e)
	p.mu.Unlock()
	if show {
		p.app.log.printf("%s\n", line)
	}
}

// take notes an event and returns the line that it is worth, if any.
func (p *progress) take(e serverless.Event) (string, bool) {
	action := e.Action
	if e.Phase != serverless.PhaseFunction {
		action = string(e.Phase)
	}
	switch e.Kind {
	case serverless.EventStarted:
		p.active = append(p.active, &unitLine{action: action, unit: e.Unit, since: e.Time})
		return "", false
	case serverless.EventProgress:
		if u, _ := p.find(action, e.Unit); u != nil {
			u.step, u.bytes, u.total = e.Step, e.Bytes, e.TotalBytes
		}
		return "", false
	}
	if _, i := p.find(action, e.Unit); i >= 0 {
		p.active = append(p.active[:i], p.active[i+1:]...)
	}
	if e.Err == nil && e.Phase != serverless.PhaseFunction {
		return "", false // only a failure of these is worth a line that stays
	}
	log := p.app.log
	if e.Err != nil {
		if e.Phase != serverless.PhaseFunction {
			return "", false // the program's last words tell it
		}
		p.failed++
		return fmt.Sprintf("%s %s: %s", log.paint(red, "failed"), p.verb(action, e.Unit), printable(e.Err.Error())), true
	}
	p.done++
	text := fmt.Sprintf("%s in %s", p.verb(action, e.Unit), round(e.Duration))
	if e.Attempt > 1 {
		text += fmt.Sprintf(", at attempt %d", e.Attempt)
	}
	return log.paint(green, "done") + " " + text, true
}

// verb says what is done to a unit, and that it is an undoing where it is one.
func (p *progress) verb(action, unit string) string {
	text := strings.TrimSpace(action + " " + unit)
	if p.undoes && (p.stopped || p.failed > 0) && (action == "remove" || action == "restore") {
		text = "undo: " + text
	}
	return text
}

func (p *progress) find(action, unit string) (*unitLine, int) {
	for i, u := range p.active {
		if u.action == action && u.unit == unit {
			return u, i
		}
	}
	return nil, -1
}

// lines are the live lines for a terminal of that width.
func (p *progress) lines(width int, now time.Time) []string {
	var out []string
	for i, u := range p.active {
		if i == maxLiveLines {
			out = append(out, clip(fmt.Sprintf("  ... and %d more", len(p.active)-i), width))
			break
		}
		text := "  " + p.verb(u.action, u.unit)
		if u.step != "" {
			text += ": " + u.step
		}
		if u.total > 0 {
			text += fmt.Sprintf(" %.1f of %.1f MB (%d%%)", mega(u.bytes), mega(u.total), 100*u.bytes/u.total)
		}
		tail := fmt.Sprintf("  %.1f s", now.Sub(u.since).Seconds())
		out = append(out, clip(text, width-len(tail))+tail)
	}
	total := fmt.Sprintf("%d done, %d under way, %.1f s", p.done, len(p.active), now.Sub(p.started).Seconds())
	if p.failed > 0 {
		total = fmt.Sprintf("%d failed, ", p.failed) + total
	}
	return append(out, clip(total, width))
}

func mega(n int64) float64 { return float64(n) / (1 << 20) }

// clip shortens a line to fewer columns than width: a full line would wrap on some terminals.
func clip(line string, width int) string {
	width--
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	runes := []rune(line)
	if width < 4 {
		return string(runes[:max(width, 0)])
	}
	return string(runes[:width-3]) + "..."
}
