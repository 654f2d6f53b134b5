package runner

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestObserversNeverKeepTheRunnerWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		var got []uint64
		b := newBus(7, slog.New(slog.NewTextHandler(&log, nil)), []func(Event){func(e Event) {
			<-release
			if e.Service != 7 || e.Time.IsZero() {
				t.Errorf("event %+v", e)
			}
			got = append(got, e.Call)
		}})
		for i := range uint64(3 * maxUntold) {
			b.tell(Event{Kind: EventJob, Call: i, HasCall: true})
		}
		close(release)
		b.close()
		b.tell(Event{})
		if len(got) < maxUntold || len(got) > maxUntold+1 {
			t.Errorf("%d events were told, want those that wait", len(got))
		}
		for i, call := range got[:min(len(got), maxUntold)] {
			if call != uint64(i) {
				t.Fatalf("event %d is of call %d", i, call)
			}
		}
		if !strings.Contains(log.String(), "an observer is too slow") {
			t.Error("that events were dropped is not logged")
		}
	})
}

func TestTheEndDoesNotWaitForAnObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		b := newBus(7, slog.New(slog.DiscardHandler), []func(Event){func(Event) { <-release }})
		b.tell(Event{})
		start := time.Now()
		b.close()
		if took := time.Since(start); took != time.Second {
			t.Errorf("close took %v", took)
		}
	})
}
