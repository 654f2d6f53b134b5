package logs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas"
)

const (
	// MaxLines and MaxBytes limit how much of a log is kept, and MaxText how much of a line, in bytes.
	MaxLines = 1000
	MaxBytes = 64 << 10
	MaxText  = 4 << 10
)

// Line is a line as it is kept.
type Line struct {
	// Seq numbers the lines of a log from 1, including those that are no longer kept.
	Seq  uint64
	Time time.Time // when it was added, in UTC
	PID  int
	// Text is one line of valid UTF-8. Control characters other than tabs, and other invisible
	// characters, are written as Go escapes such as \x1b.
	Text      string
	Truncated bool // the line was longer than is kept of one
	System    bool // nobody has written it: it says what became of a process
}

// Ring is a log. The zero value is ready to use. It is safe for concurrent use.
type Ring struct {
	mu      sync.Mutex
	id      string // made when it is asked for
	seq     uint64
	system  uint64 // of these, lines that nobody has written
	lines   []Line // the oldest is first
	bytes   int    // of their texts
	closed  bool
	changed chan struct{} // closed with the next change; nil while nobody waits
}

// Add adds a line, or the first part of one if more is true, and returns it as it is kept.
func (r *Ring) Add(now time.Time, pid int, text []byte, more bool) Line {
	kept, cut := Harmless(text)
	return r.put(Line{Time: now.UTC(), PID: pid, Text: kept, Truncated: cut || more})
}

// AddSystem adds a line that says what happened to a process.
func (r *Ring) AddSystem(now time.Time, pid int, text string) Line {
	kept, cut := Harmless([]byte(text))
	return r.put(Line{Time: now.UTC(), PID: pid, Text: kept, Truncated: cut, System: true})
}

func (r *Ring) put(line Line) Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	line.Seq = r.seq
	if line.System {
		r.system++
	}
	r.lines = append(r.lines, line)
	r.bytes += len(line.Text)
	drop := 0
	for len(r.lines)-drop > MaxLines || r.bytes > MaxBytes {
		r.bytes -= len(r.lines[drop].Text)
		r.lines[drop] = Line{}
		drop++
	}
	r.lines = r.lines[drop:]
	r.tell()
	return line
}

// tell wakes those who wait. The caller holds mu.
func (r *Ring) tell() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Close says that no more lines come. Those who follow the log then end.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.tell()
}

// Lines returns the lines that are kept, the oldest first.
func (r *Ring) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// Count returns how many lines Add has added.
func (r *Ring) Count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq - r.system
}

// after returns the lines after number seq, how many of them are no longer kept, and a channel that
// tells of the next line. The channel is nil if no line comes any more.
func (r *Ring) after(seq uint64) (lines []Line, missed uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := int(min(r.seq-min(seq, r.seq), uint64(len(r.lines)))); n > 0 {
		lines = slices.Clone(r.lines[len(r.lines)-n:])
		missed = lines[0].Seq - seq - 1
	} else if r.seq > seq {
		missed = r.seq - seq
	}
	if !r.closed {
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed = r.changed
	}
	return lines, missed, changed
}

// Cursor names a place in this log, and in no other.
type Cursor string

// cursor returns the place behind a line.
func (r *Ring) cursor(seq uint64) Cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == "" {
		r.id = rand.Text()[:10]
	}
	return Cursor(r.id + "-" + strconv.FormatUint(seq, 10))
}

// behind returns the number of the line before the cursor, or 0 for a cursor of another log.
func (r *Ring) behind(c Cursor) uint64 {
	id, number, _ := strings.Cut(string(c), "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || id != r.id || seq > r.seq {
		return 0
	}
	return seq
}

// Kept is a line of a log that is read, and the place behind it.
type Kept struct {
	Line
	Cursor Cursor
	// Missed, if not 0, is how many lines were overwritten before they were read. The element then
	// stands for them and not for a line.
	Missed uint64
}

// Read calls emit with the lines behind a cursor that are not before since and are before until, if
// those are not zero. If limit is not 0, it passes only the last limit of the existing ones. If
// follow is set, it continues with new lines until the log is closed, emit returns false, or ctx is
// done, whose error it then returns. If idle is not nil, Read calls it before it waits.
func (r *Ring) Read(ctx context.Context, behind Cursor, q faas.LogQuery, idle func() bool,
	emit func(Kept) bool) error {
	seq := r.behind(behind)
	first := behind == "" || seq == 0 // what was overwritten before anybody read is no loss
	for {
		lines, missed, changed := r.after(seq)
		if n := len(lines); n > 0 {
			seq = lines[n-1].Seq
		}
		if missed > 0 && !first && !emit(Kept{Missed: missed, Line: Line{Time: time.Now().UTC()}, Cursor: r.cursor(seq)}) {
			return nil
		}
		lines = slices.DeleteFunc(lines, func(l Line) bool {
			return l.Time.Before(q.Since) || !q.Until.IsZero() && !l.Time.Before(q.Until)
		})
		if q.Limit > 0 && len(lines) > q.Limit {
			lines = lines[len(lines)-q.Limit:]
		}
		for _, l := range lines {
			if !emit(Kept{Line: l, Cursor: r.cursor(l.Seq)}) {
				return nil
			}
		}
		if !q.Follow || changed == nil || idle != nil && !idle() {
			return nil
		}
		q.Limit, first = 0, false
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Source is a ring whose lines come from one function.
type Source struct {
	Ring       *Ring
	JobID      int64
	FunctionID string
}

// Logs returns what a query asks for from several logs.
func Logs(ctx context.Context, provider string, q faas.LogQuery, sources ...Source) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		if ctx.Err() != nil {
			yield(faas.LogLine{}, Ended(ctx, provider))
			return
		}
		var old []faas.LogLine
		behind := make([]Cursor, len(sources))
		for i, s := range sources {
			there := q
			there.Follow = false
			_ = s.Ring.Read(ctx, "", there, nil, func(e Kept) bool { // what does not wait does not fail
				old = append(old, s.line(e))
				behind[i] = e.Cursor
				return true
			})
		}
		slices.SortStableFunc(old, func(a, b faas.LogLine) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
		if q.Limit > 0 && len(old) > q.Limit {
			old = old[len(old)-q.Limit:]
		}
		for _, line := range old {
			if !yield(line, nil) {
				return
			}
		}
		if !q.Follow {
			return
		}
		q.Limit = 0
		seqs := make([]func(context.Context) Lines, len(sources))
		for i, s := range sources {
			seqs[i] = func(ctx context.Context) Lines { return s.follow(ctx, provider, behind[i], q) }
		}
		Join(ctx, provider, seqs...)(yield)
	}
}

func (s Source) follow(ctx context.Context, provider string, behind Cursor, q faas.LogQuery) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		if err := s.Ring.Read(ctx, behind, q, nil, func(e Kept) bool { return yield(s.line(e), nil) }); err != nil {
			yield(faas.LogLine{}, Ended(ctx, provider))
		}
	}
}

func (s Source) line(e Kept) faas.LogLine {
	line := faas.LogLine{Time: e.Time, JobID: s.JobID, FunctionID: s.FunctionID, Text: e.Text, Truncated: e.Truncated}
	switch {
	case e.Missed > 0:
		line.System, line.Severity, line.Text = true, faas.SeverityWarning, MissedText(e.Missed)
	case e.System:
		line.System, line.Severity = true, faas.SeverityError
	}
	return line
}

// MissedText says that lines were overwritten before they were read.
func MissedText(n uint64) string {
	return strconv.FormatUint(n, 10) + " lines were left out: they came faster than they were read"
}

// Harmless returns text as one line that neither moves a terminal's cursor nor hides its content,
// and whether its end was cut off.
func Harmless(text []byte) (string, bool) {
	if len(text) <= MaxText && utf8.Valid(text) && bytes.IndexFunc(text, hidden) < 0 {
		return string(text), false
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		piece := string(text[:size])
		switch {
		case r == utf8.RuneError && size == 1:
			piece = `\x` + strconv.FormatUint(0x100|uint64(text[0]), 16)[1:]
		case hidden(r):
			piece = strings.Trim(strconv.QuoteRune(r), "'")
		}
		if b.Len()+len(piece) > MaxText {
			return b.String(), true
		}
		b.WriteString(piece)
		text = text[size:]
	}
	return b.String(), false
}

func hidden(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }
