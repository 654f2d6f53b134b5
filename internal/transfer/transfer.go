// Package transfer holds what providers that speak HTTP share: reading answers, waiting, and telling how far an upload is.
package transfer

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReadAll appends all that r holds to buf, which it does not grow more than it has to. size is how much that will be, in bytes, or negative.
func ReadAll(buf []byte, r io.Reader, size int64) ([]byte, error) {
	buf = slices.Grow(buf, int(max(size, 0))+bytes.MinRead)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, bytes.MinRead)
		}
	}
}

// RetryAfter reads a Retry-After header: seconds, or a date. It is 0 where there is none, or where the date has passed.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if secs, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(secs) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// Sleep waits, and reports whether the context is still alive.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
