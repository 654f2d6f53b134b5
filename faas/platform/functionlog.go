package platform

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

const (
	// logBurst and logRate bound the records made of a function's lines: the first so many, and then
	// so many a second.
	logBurst = 1000
	logRate  = 100
)

// functionLog keeps the last lines of a function and passes them to the platform's logger. It
// survives a replacement of the function.
type functionLog struct {
	logger *slog.Logger

	ring logs.Ring

	mu      sync.Mutex
	tokens  float64 // records that may be written now
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

// add adds a line or a part of one. It drops the parts after the first.
func (l *functionLog) add(part worker.Line) {
	if part.Later {
		return
	}
	now := time.Now()
	line := l.ring.Add(now, part.PID, part.Text, part.More)
	l.mu.Lock()
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

// end records how a process ended. The pool has logged that already.
func (l *functionLog) end(pid int, how string) { l.ring.AddSystem(time.Now(), pid, how) }

// admit reports whether a line becomes a record, and how many before it did not. mu must be held.
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
