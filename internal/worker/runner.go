package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// protocol returns what the processes are told about frames.
func (p *Pool) protocol() string {
	if p.cfg.Runner && !p.plain.Load() {
		return frame.Offer()
	}
	return frame.Version
}

// refusesOffers reports whether the runner just ended because it was built before offers existed.
// It reports true only once.
func (p *Pool) refusesOffers(err error) bool {
	var ended *faas.FunctionError
	return p.cfg.Runner && errors.As(err, &ended) && strings.Contains(ended.LogTail, frame.OfferUnknown) &&
		!p.plain.Swap(true)
}

// Speaks reports whether a process has said hello, so that calls are possible.
func (p *Pool) Speaks() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.capacity > 0
}

// AwaitHello reports whether the runner has said hello. It waits until ctx ends, but only a moment
// more if the runner writes something else or closes its standard output. If the runner ends
// before, the error says how; the runner is restarted all the same.
func (p *Pool) AwaitHello(ctx context.Context) (bool, error) {
	for waiting := false; ; {
		p.mu.Lock()
		changed, err := p.started, p.lastError
		spoke, apart, ended := len(p.workers) > 0, p.apart, p.starts > 0
		p.mu.Unlock()
		switch {
		case spoke:
			return true, nil
		case ended:
			return false, err
		case apart && !waiting:
			waiting = true
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, endsAtOnce)
			defer cancel()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, nil
		}
	}
}

// endsAtOnce bounds how soon a program ends that only writes why it cannot be a runner.
const endsAtOnce = 250 * time.Millisecond

// awaitRunner returns the hello of a runner, whenever that comes. Output that does not begin like a
// hello is a log, and is read to its end.
func (w *warm) awaitRunner() (frame.Header, error) {
	hello := frame.AppendHeader(nil, frame.Header{Kind: frame.Hello})
	const value = 16 // the position of the four bytes that may have any value
	var head []byte
	var err error
	for like := true; like && err == nil; { // byte by byte, to take no more of a log than there is
		if len(head) == len(hello) {
			return frame.ParseHeader(head)
		}
		var b [1]byte
		if _, err = io.ReadFull(w.out, b[:]); err == nil {
			at := len(head)
			head = append(head, b[0])
			like = b[0] == hello[at] || at >= value && at < value+4
		}
	}
	w.pool.goesApart()
	if err == nil {
		(&lineReader{pid: w.pid, log: w.pool.cfg.Log}).readLines(io.MultiReader(bytes.NewReader(head), w.out))
	}
	<-w.exited // it may continue after it closed its output
	return frame.Header{}, io.EOF
}

// goesApart notes that the runner does not speak frames.
func (p *Pool) goesApart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apart = true
	close(p.started)
	p.started = make(chan struct{})
}

// signalAfter is how long a runner that takes calls has to end after the end of its input, before
// it gets a signal. A runner that does nothing else may have no handler for the signal, and would
// be cut off.
const signalAfter = 250 * time.Millisecond

// endRunner asks a runner without calls to end, and kills it when its grace is over or ctx ends.
func (p *process) endRunner(ctx context.Context) {
	_ = p.stdin.Close()
	if !p.starting.Load() && p.exits(ctx, min(signalAfter, p.grace/2)) == nil {
		return
	}
	p.terminate()
	if p.exits(ctx, p.grace) != nil {
		p.kill()
	}
}

var errStays = errors.New("the process has not ended")

// exits returns nil when the process has ended.
func (p *process) exits(ctx context.Context, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return errStays
}
