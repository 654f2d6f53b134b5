package platform

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// LogLine is a line that a process of a function wrote to its standard error.
type LogLine struct {
	// Seq numbers the lines of a function from 1 on, also those that are no longer kept.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // when the platform read it
	PID  int       `json:"pid"`
	// Text is valid UTF-8 in one line: control characters but tabs, and other characters that do not show, are written as Go escapes such as \x1b.
	Text string `json:"text"`
	// Truncated says that the line was longer than is kept of one.
	Truncated bool `json:"truncated,omitempty"`
}

const (
	// maxLogLines and maxLogBytes bound what is kept of a function's lines, maxLogText what is kept of one, in bytes.
	maxLogLines = 1000
	maxLogBytes = 64 << 10
	maxLogText  = 4 << 10
	// logBurst and logRate bound the records that a function's lines become: so many at once, and so many a second after that.
	logBurst = 1000
	logRate  = 100
)

// functionLog keeps the last lines of a function and hands them to the platform's logger. It outlives a replacement of the function.
type functionLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	seq     uint64
	lines   []LogLine // the oldest is first
	bytes   int       // of their texts
	tokens  float64   // records that may be written now
	refill  time.Time
	skipped int // lines that became no record since the last one that did
}

// logOf returns the log of the deployed function, or a new one.
func (p *Platform) logOf(id string) *functionLog {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if f := p.functions[id]; f != nil {
		return f.log
	}
	return &functionLog{logger: p.opts.logger.With("function", id), tokens: logBurst}
}

// recentLog returns the last lines that the function's processes, of its earlier generations too, wrote to their standard error, the oldest first. They are bounded in
// number and size, and begin anew with the platform. The code is ErrNotFound where there is no such function.
func (p *Platform) recentLog(id string) ([]LogLine, error) {
	f, err := p.lookup("logs", id)
	if err != nil {
		return nil, err
	}
	return f.log.recent(), nil
}

func (l *functionLog) recent() []LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]LogLine{}, l.lines...)
}

// count returns how many lines there were.
func (l *functionLog) count() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// add takes a line, or a part of one. What comes after the first part is dropped.
func (l *functionLog) add(part worker.Line) {
	if part.Later {
		return
	}
	now := time.Now()
	l.mu.Lock()
	l.seq++
	text, cut := harmless(part.Text)
	line := LogLine{Seq: l.seq, Time: now.UTC(), PID: part.PID, Text: text, Truncated: cut || part.More}
	l.keep(line)
	skipped, ok := l.admit(now)
	l.mu.Unlock()
	if !ok {
		return
	}
	if skipped > 0 {
		l.logger.Warn("lines of a function were left out: there were more than are recorded", "lines", skipped)
	}
	attrs := []slog.Attr{slog.Int("pid", line.PID), slog.String("line", line.Text)}
	if line.Truncated {
		attrs = append(attrs, slog.Bool("truncated", true))
	}
	l.logger.LogAttrs(context.Background(), slog.LevelInfo, "function log", attrs...)
}

// keep drops the oldest lines for a new one. mu is held.
func (l *functionLog) keep(line LogLine) {
	l.lines = append(l.lines, line)
	l.bytes += len(line.Text)
	drop := 0
	for len(l.lines)-drop > maxLogLines || l.bytes > maxLogBytes {
		l.bytes -= len(l.lines[drop].Text)
		l.lines[drop] = LogLine{}
		drop++
	}
	l.lines = l.lines[drop:]
}

// admit says whether a line becomes a record, and how many before it did not. mu is held.
func (l *functionLog) admit(now time.Time) (skipped int, ok bool) {
	if !l.refill.IsZero() {
		l.tokens = min(logBurst, l.tokens+now.Sub(l.refill).Seconds()*logRate)
	}
	l.refill = now
	if l.tokens < 1 {
		l.skipped++
		return 0, false
	}
	l.tokens--
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// harmless returns text as one line that neither moves a terminal's cursor nor hides what it says, and whether something was cut off at its end.
func harmless(text []byte) (string, bool) {
	if len(text) <= maxLogText && utf8.Valid(text) && bytes.IndexFunc(text, hidden) < 0 {
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
		if b.Len()+len(piece) > maxLogText {
			return b.String(), true
		}
		b.WriteString(piece)
		text = text[size:]
	}
	return b.String(), false
}

func hidden(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }
