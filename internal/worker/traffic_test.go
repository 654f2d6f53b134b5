//go:build unix

package worker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The reader of answers changes all the time: it is the caller of a lone call, or the reader
// goroutine. No answer is lost or given to another call meanwhile.
func TestAnswersSurviveEveryChangeOfTheReader(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers = 1 })
	call := func(want string) {
		out, _, err := p.Invoke(context.Background(), jobEcho, []byte(want), aWhile)
		if err != nil || string(out) != want {
			t.Errorf("%d of %d bytes, %v", len(out), len(want), err)
		}
	}
	large := strings.Repeat("large ", 20_000) // more than is buffered at once
	for i := range 60 {
		for j := range i % 12 { // alone
			call(fmt.Sprintf("%d.%d", i, j))
		}
		if i%7 == 0 {
			call(large)
		}
		var wg sync.WaitGroup
		for j := range i % 5 { // together
			wg.Go(func() { call(strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1+i*j*20)) })
		}
		wg.Wait()
	}
}

// A long lone call is given up like any other, and the next one is answered. The reader skips what
// is not an answer: the answer after it reaches its caller, whoever reads it.
func TestAPongBeforeAnAnswerIsReadOver(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers = 1 })
	for n := range 50 {
		if got := mustInvoke(t, p, jobPong, strconv.Itoa(n)); got != strconv.Itoa(n) {
			t.Fatalf("call %d: %q", n, got)
		}
	}
}

func TestLoneCallsCanBeCancelled(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers = 1 })
	for range settled {
		mustInvoke(t, p, jobEcho, "warm")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, _, err := p.Invoke(ctx, jobHang, nil, aWhile); faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("cancelled: %v", err)
	}
	mustInvoke(t, p, jobEcho, "next")
	if _, _, err := p.Invoke(t.Context(), jobHang, nil, 5*time.Millisecond); faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("out of time: %v", err)
	}
	mustInvoke(t, p, jobEcho, "next")
}

// Calls that wait on one process expire in the order of their deadlines, not of their arrival.
func TestEachCallHasItsOwnDeadline(t *testing.T) {
	p := newPool(t, "frames", func(c *Config) { c.MaxWorkers, c.Grace = 1, aWhile })
	mustInvoke(t, p, jobEcho, "warm")
	long := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _, err := p.Invoke(ctx, jobHang, nil, time.Hour)
		long <- err
	}()
	for p.Stats().Running == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, _, err := p.Invoke(t.Context(), jobHang, nil, 10*time.Millisecond); !strings.Contains(
		fmt.Sprint(err), "timeout of 10ms") {
		t.Errorf("the shorter one: %v", err)
	}
	select {
	case err := <-long:
		t.Errorf("the longer one ended, too: %v", err)
	default:
	}
	cancel()
	if err := <-long; faas.CodeOf(err) != faas.ErrTimeout {
		t.Error(err)
	}
}
