package cli

import (
	"io"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const repaintEvery = 100 * time.Millisecond

// live shows lines at the end of the terminal, below everything that is printed meanwhile, until end is called, which leaves nothing of them. text gives
// line i for a terminal of that width, "" for none; the last line is always there. It is called at every repainting, from another goroutine. A line has to
// leave a column free: a full one would wrap on some terminals. Where there is no terminal, or with --quiet, nothing is shown.
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

// leftmost begins every repainting in the first column. The cursor is elsewhere after a key was pressed: the terminal shows ^C, or what was typed.
type leftmost struct{ io.Writer }

func (w leftmost) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(append([]byte{'\r'}, b...))
	return max(n-1, 0), err
}

// clip shortens a line to fewer columns than width. Characters may be two columns wide.
func clip(line string, width int) string { return runewidth.Truncate(line, max(width-1, 0), "...") }
