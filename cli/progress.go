package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// progress shows the events of an operation. On a terminal it shows a live line for each unit in
// progress and a total; elsewhere it prints a line for each unit that is done.
type progress struct {
	app  *app
	note string // what follows an interruption
	// undoes says that removals after a failure are an undo.
	undoes bool
	end    func() // ends the display and removes the live lines

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

// progress begins to show an operation. note says what follows an interruption.
func (a *app) progress(note string) *progress {
	p := &progress{app: a, note: note, started: time.Now()}
	p.end = a.live(maxLiveLines+1, func(i, width int) string { return p.line(i, width, time.Now()) })
	return p
}

// interruptedBy prints the note if ctx ends before stop is called.
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

// take records an event and returns the line to print for it, if any.
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
		return "", false // print only failures of these
	}
	log := p.app.log
	if e.Err != nil {
		if e.Phase != serverless.PhaseFunction {
			return "", false // the final error says so
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

// verb names what is done to a unit, and says if that is an undo.
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

// line returns live line i: a unit in progress, or the total as the last line.
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

// unit returns the line of a unit. It keeps the elapsed time however narrow the terminal is.
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

const repaintEvery = 100 * time.Millisecond

// live shows lines at the bottom of the terminal, below everything that is printed meanwhile. end
// removes them. text returns line i for a terminal of the given width, or "" for no line; the last
// line is always shown. Another goroutine calls text at every repaint. A line must leave one column
// free, because a full line wraps on some terminals. live shows nothing with --quiet or without a
// terminal.
func (a *app) live(lines int, text func(i, width int) string) (end func()) {
	if a.log.width == nil || a.quiet {
		return func() {}
	}
	fillers := make([]mpb.BarFiller, lines-1)
	for i := range fillers {
		fillers[i] = mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			line := text(i, s.AvailableWidth)
			if line != "" {
				line += "\n"
			}
			_, err := io.WriteString(w, line)
			return err
		})
	}
	console := cupwriter.New(leftmost{a.log.w}, false)
	if f, ok := a.log.w.(interface{ Fd() uintptr }); ok {
		console.SetTermFd(int(f.Fd()))
	}
	bars := mpb.New(mpb.WithConsoleWriter(console), mpb.WithRefreshRate(repaintEvery))
	bar := bars.New(0, mpb.NopStyle(), mpb.BarFillerTrim(), mpb.BarTopExtender(fillers...),
		mpb.PrependDecorators(decor.Any(func(s decor.Statistics) string { return text(lines-1, s.AvailableWidth) })))
	a.log.show(bars)
	return func() {
		bar.Abort(true)
		bars.Wait()
		a.log.show(nil)
	}
}

// leftmost begins every repaint in the first column. The cursor may be elsewhere: the terminal
// shows what is typed, such as ^C.
type leftmost struct{ io.Writer }

func (w leftmost) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(append([]byte{'\r'}, b...))
	return max(n-1, 0), err
}

// clip shortens a line to fewer columns than width. It knows characters that take two columns.
func clip(line string, width int) string { return runewidth.Truncate(line, max(width-1, 0), "...") }
