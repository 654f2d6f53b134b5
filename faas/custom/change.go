package custom

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

const (
	// grace is how long the answer to a change that was sent is awaited after its caller has given
	// up.
	grace = 10 * time.Second
	// lateTime is how long after it was sent an upload that was never answered may still bring its
	// function about. It is longer than what stands between a program and a platform keeps a
	// request.
	lateTime = 5 * time.Minute
)

// histories are what an executor knows of its changes of each function, which not every platform
// shows.
type histories struct {
	mu sync.Mutex
	of map[string]*history
}

type history struct {
	changes int       // that were made, or may have been
	open    int       // uploads that were sent and never answered
	since   time.Time // when the last of them was
}

func (h *histories) update(id string, f func(*history)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[string]*history{}
	}
	if h.of[id] == nil {
		h.of[id] = &history{}
	}
	f(h.of[id])
}

func (h *histories) get(id string) (now history) {
	h.update(id, func(h *history) {
		if time.Since(h.since) > lateTime {
			h.open = 0
		}
		now = *h
	})
	return now
}

// deleted takes note that a deletion has found the function there: an upload that was on its way
// has arrived.
func (h *histories) deleted(id string) {
	h.update(id, func(h *history) { h.open = max(h.open-1, 0) })
}

// change sends a request that changes a function, again as sendSafe does. Once it was sent its
// answer is awaited, for a grace, even if ctx ends: a request that is given up takes effect all the
// same, and after whatever is done next to undo it. An upload that ctx ends in the middle is of no
// effect, and is broken off at once. The error of a change that was sent and not answered says so.
func (e *Executor) change(ctx context.Context, id string, r request) (*answer, error) {
	unsettled := false
	a, err := e.repeat(ctx, r, func() (*answer, error) {
		a, sent, err := e.changeOnce(ctx, r)
		unsettled = err != nil && sent && mayArrive(err) || err == nil && a.lost()
		if unsettled || err == nil && a.ok() || faas.CodeOf(err) == faas.ErrTooLarge { // the last is of the answer
			e.made.update(id, func(h *history) {
				h.changes++
				if unsettled && r.method == http.MethodPut {
					h.open, h.since = h.open+1, time.Now()
				}
			})
		}
		return a, err
	})
	var failed *faas.Error
	if unsettled && errors.As(err, &failed) {
		failed.Unsettled = true
		failed.Err = fmt.Errorf("%w; it was sent, and what became of it is not known", failed.Err)
	}
	return a, err
}

// changeOnce sends the request once. sent is false if the platform cannot have got all of it.
func (e *Executor) changeOnce(ctx context.Context, r request) (a *answer, sent bool, err error) {
	if ctx.Err() != nil {
		return nil, false, e.transportError(ctx, r, ctx.Err())
	}
	lasting, cancel := kit.Outlast(ctx, grace)
	defer cancel()
	up := &upload{whole: r.body == nil}
	if open := r.body; open != nil {
		r.body = func() (io.ReadCloser, error) {
			body, err := open()
			if err != nil {
				return nil, err
			}
			return &uploadReader{ReadCloser: body, up: up, left: r.size}, nil
		}
	}
	defer context.AfterFunc(ctx, func() {
		if up.breakOff() {
			cancel()
		}
	})()
	a, err = e.sendWithin(ctx, lasting, r)
	return a, !up.breakOff(), err
}

// mayArrive reports whether a request that got no answer may have reached the platform.
func mayArrive(err error) bool {
	var (
		op           *net.OpError
		dns          *net.DNSError
		verification *tls.CertificateVerificationError
		failed       *faas.Error
	)
	switch {
	case errors.As(err, &dns), errors.As(err, &verification):
		return false
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "remote error"):
		return false
	// it had no token; it was answered, at too great length
	case errors.As(err, &failed) && (failed.NotRun || failed.Code == faas.ErrTooLarge):
		return false
	}
	return true
}

// upload is the body of a change. It can be broken off until the transport has all of it.
type upload struct {
	mu     sync.Mutex
	whole  bool // the transport has all of it, or had once: it begins again if it finds a connection dead
	broken bool
}

// breakOff ends the upload, and reports false if it is too late for that.
func (u *upload) breakOff() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.broken = !u.whole
	return u.broken
}

type uploadReader struct {
	io.ReadCloser
	up   *upload
	left int64
}

func (r *uploadReader) Read(p []byte) (int, error) {
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	if r.up.broken {
		return 0, context.Canceled
	}
	n, err := r.ReadCloser.Read(p)
	if r.left -= int64(n); r.left <= 0 {
		r.up.whole = true
	}
	return n, err
}
