package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxUntold is how many events wait for slow observers. More are dropped.
const maxUntold = 4096

// bus brings events to the log and to the observers, in order, on one goroutine.
type bus struct {
	logger    *slog.Logger
	observers []func(Event)
	service   uint64
	done      chan struct{}

	mu      sync.Mutex
	events  chan Event // nil once closed
	dropped int
}

func newBus(service uint64, logger *slog.Logger, observers []func(Event)) *bus {
	b := &bus{
		logger: logger, observers: observers, service: service,
		done: make(chan struct{}), events: make(chan Event, maxUntold),
	}
	go b.deliver(b.events)
	return b
}

func (b *bus) deliver(events <-chan Event) {
	defer close(b.done)
	for e := range events {
		b.mu.Lock()
		dropped := b.dropped
		b.dropped = 0
		b.mu.Unlock()
		if dropped > 0 {
			b.logger.Warn("events were dropped: an observer is too slow", "events", dropped)
		}
		b.logger.LogAttrs(context.Background(), e.level(), string(e.Kind), e.attrs()...)
		for _, observe := range b.observers {
			observe(e)
		}
	}
}

// tell never waits.
func (b *bus) tell(e Event) {
	e.Service = b.service
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.events <- e:
	default: // full, or closed
		b.dropped++
	}
}

// close waits until everything is told, but for an observer that does not return only so long.
func (b *bus) close() {
	const patience = time.Second
	b.mu.Lock()
	if b.events != nil {
		close(b.events)
	}
	b.events = nil
	b.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
	}
}

func (e Event) level() slog.Level {
	switch e.Kind {
	case EventWaiting, EventNodeTrouble, EventBalanceLow, EventForeignNonce, EventPaused, EventServiceOver:
		return slog.LevelWarn
	case EventFinished:
		if e.Outcome == JobFailed || e.Outcome == Interrupted || e.Outcome == NeedsAggregate {
			return slog.LevelWarn
		}
		return slog.LevelInfo
	case EventJob, EventRunning, EventAnswered, EventSubmitted, EventTransaction:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (e Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.Uint64("service", e.Service)}
	if e.HasCall {
		attrs = append(attrs, slog.Uint64("call", e.Call), slog.Uint64("job", uint64(e.Job)))
	}
	if e.Block != 0 {
		attrs = append(attrs, slog.Uint64("block", e.Block))
	}
	if e.Outcome != "" {
		attrs = append(attrs, slog.String("outcome", string(e.Outcome)))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Tx != "" {
		attrs = append(attrs, slog.String("tx", e.Tx))
	}
	if e.Elapsed != 0 {
		attrs = append(attrs, slog.Duration("elapsed", e.Elapsed))
	}
	if e.GasUsed != 0 {
		attrs = append(attrs, slog.Uint64("gas", e.GasUsed))
	}
	if e.Cost != nil {
		attrs = append(attrs, slog.String("cost", e.Cost.String()))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	return attrs
}
