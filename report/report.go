// Package report renders the events of deployments, as records of a structured log or as lines for
// people. Both functions return a listener for [serverless.WithEvents].
package report

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// Slog logs every event: failures at level Error; ends, and pauses of a second or more, at Info;
// starts and progress at Debug. An observation that finds nothing, as before every creation, is not
// a failure. If logger is nil, it uses slog.Default at the time of the event.
func Slog(logger *slog.Logger) func(serverless.Event) {
	return func(e serverless.Event) {
		l := logger
		if l == nil {
			l = slog.Default()
		}
		level := slog.LevelDebug
		switch {
		case failed(e):
			level = slog.LevelError
		case e.Kind == serverless.EventEnded || e.RetryIn >= longPause:
			level = slog.LevelInfo
		}
		ctx := context.Background()
		if !l.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{slog.String("phase", string(e.Phase))}
		add := func(isSo bool, a slog.Attr) {
			if isSo {
				attrs = append(attrs, a)
			}
		}
		add(e.Action != "", slog.String("action", e.Action))
		add(e.Unit != "", slog.String("unit", e.Unit))
		add(len(e.JobIDs) > 0, slog.Any("jobs", e.JobIDs))
		add(e.Step != "", slog.String("step", e.Step))
		add(e.TotalBytes > 0, slog.Int64("bytes", e.Bytes))
		add(e.TotalBytes > 0, slog.Int64("total_bytes", e.TotalBytes))
		add(e.Attempt > 1, slog.Int("attempt", e.Attempt))
		add(e.Kind == serverless.EventEnded, slog.Duration("duration", e.Duration))
		add(e.RetryIn > 0, slog.Duration("retry_in", e.RetryIn))
		add(failed(e) || e.RetryIn > 0, slog.Any("error", e.Err))
		l.LogAttrs(ctx, level, "deployment "+string(e.Kind), attrs...)
	}
}

// Lines writes a line to w whenever something ends: what it was, how long it took, how many of its
// kind have ended and still run, and why it failed. It drops lines that it cannot write.
func Lines(w io.Writer) func(serverless.Event) {
	l := &lines{w: w, started: map[string]int{}, ended: map[string]int{}, bytes: map[string]int64{}}
	return l.event
}

type lines struct {
	w io.Writer

	mu             sync.Mutex
	started, ended map[string]int
	bytes          map[string]int64 // uploaded, by unit
}

func (l *lines) event(e serverless.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := string(e.Phase)
	switch {
	case e.Phase == serverless.PhaseFunction:
		what = e.Action
	case e.Action != "":
		what += " " + e.Action
	}
	switch e.Kind {
	case serverless.EventStarted:
		l.started[what]++
		return
	case serverless.EventProgress:
		if e.Step != "pause" {
			l.bytes[e.Unit] = e.Bytes
		}
		if e.RetryIn >= longPause {
			_, _ = fmt.Fprintf(l.w, "%-12s %s waits %v: %v\n", what, e.Unit, round(e.RetryIn), e.Err)
		}
		return
	}
	l.ended[what]++
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s", what)
	if e.Unit != "" {
		b.WriteString(" " + e.Unit)
	}
	fmt.Fprintf(&b, " %v", round(e.Duration))
	if e.Unit != "" {
		fmt.Fprintf(&b, " (%d done, %d running)", l.ended[what], l.started[what]-l.ended[what])
	}
	if n := l.bytes[e.Unit]; n > 0 && e.Phase == serverless.PhaseFunction {
		fmt.Fprintf(&b, ", %.1f MB uploaded", float64(n)/(1<<20))
		delete(l.bytes, e.Unit)
	}
	if e.Attempt > 1 {
		fmt.Fprintf(&b, ", attempt %d", e.Attempt)
	}
	if failed(e) {
		fmt.Fprintf(&b, ": FAILED: %v", e.Err)
	}
	b.WriteByte('\n')
	_, _ = io.WriteString(l.w, b.String()) // a reporter has nobody to tell
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

// failed reports whether an event describes a failure.
func failed(e serverless.Event) bool {
	nothingThere := e.Phase == serverless.PhaseObserve && faas.CodeOf(e.Err) == faas.ErrNotFound
	return e.Err != nil && !nothingThere && e.RetryIn == 0
}

// longPause is a pause that somebody waiting for the deployment should know of.
const longPause = time.Second
