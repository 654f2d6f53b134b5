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
	// grace is how long the executor waits for the answer to a change after its caller has given up.
	grace = 10 * time.Second
	// lateTime is how long after an unanswered upload was sent it may still create its function. It
	// exceeds the time for which proxies between a program and a platform keep a request.
	lateTime = 5 * time.Minute
)

// histories records what an executor has done to each function. Not every platform shows it.
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

// deleted records that a deletion found the function: an upload that was on its way has arrived.
func (h *histories) deleted(id string) {
	h.update(id, func(h *history) { h.open = max(h.open-1, 0) })
}

// change sends a request that changes a function, and repeats it as sendSafe does. Once the request
// is sent, change waits for the answer for up to grace even if ctx ends, because an abandoned
// request still takes effect, possibly after whatever is done next to undo it. If ctx ends during
// an upload, change breaks it off at once, and it has no effect. If a change was sent and not
// answered, the error says so.
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

// changeOnce sends the request once. sent is false if the platform cannot have received all of it.
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
	// there was no token, or the answer was too long
	case errors.As(err, &failed) && (failed.NotRun || failed.Code == faas.ErrTooLarge):
		return false
	}
	return true
}

// upload is the body of a change. It can be broken off until the transport has read all of it.
type upload struct {
	mu     sync.Mutex
	whole  bool // the transport has all of it, or had once: it begins again if it finds a connection dead
	broken bool
}

// breakOff ends the upload. It reports false if it is too late.
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
