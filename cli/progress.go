package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// progress shows the events of an operation: on a terminal a live line for each unit that is being worked on and a total, elsewhere a line for each unit
// that is done.
type progress struct {
	app  *app
	note string // what an interruption leads to
	// undoes says that what is removed after a failure is removed because of it.
	undoes bool
	end    func() // stops the showing, and leaves nothing live behind

	mu      sync.Mutex
	active  []*unitLine
	done    int
	failed  int
	stopped bool // interrupted
	started time.Time
}

type unitLine struct {
	action, unit, step string
	bytes, total       int64
	since              time.Time
}

const maxLiveLines = 8 // of units; more would scroll off a small terminal

// progress begins to show an operation. note says what an interruption leads to.
func (a *app) progress(note string) *progress {
	p := &progress{app: a, note: note, started: time.Now()}
	p.end = a.live(maxLiveLines+1, func(i, width int) string { return p.line(i, width, time.Now()) })
	return p
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
		p.active = slices.Delete(p.active, i, i+1)
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
		return fmt.Sprintf("%s %s: %s", log.paint(red, "failed"), p.verb(action, e.Unit),
			printable(strings.TrimPrefix(e.Err.Error(), "faas: "))), true
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

// line is live line i: of a unit that is being worked on, or, at the end, the total.
func (p *progress) line(i, width int, now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case i == maxLiveLines:
		return p.total(width, now)
	case i >= len(p.active):
		return ""
	}
	return p.unit(p.active[i], width, now)
}

// unit keeps how long it takes in its line, however narrow the terminal is.
func (p *progress) unit(u *unitLine, width int, now time.Time) string {
	text := "  " + p.verb(u.action, u.unit)
	if u.step != "" {
		text += ": " + u.step
	}
	if u.total > 0 {
		text += fmt.Sprintf(" %.1f of %.1f MB (%d%%)", mega(u.bytes), mega(u.total), 100*u.bytes/u.total)
	}
	tail := fmt.Sprintf("  %.1f s", now.Sub(u.since).Seconds())
	return clip(clip(text, width-len(tail))+tail, width)
}

func (p *progress) total(width int, now time.Time) string {
	total := fmt.Sprintf("%d done, %d under way, %.1f s", p.done, len(p.active), now.Sub(p.started).Seconds())
	if p.failed > 0 {
		total = fmt.Sprintf("%d failed, ", p.failed) + total
	}
	return clip(total, width)
}

func mega(n int64) float64 { return float64(n) / (1 << 20) }
