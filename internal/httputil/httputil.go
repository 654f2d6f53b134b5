// Package httputil holds what callers of HTTP APIs share: refusing answers that are not final,
// reading answers, telling a context's end from a network's timeout, waiting, and reporting how far
// an upload is.
package httputil

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReadAll appends all of r to buf, which it grows only as needed. size is the expected number of
// bytes, or negative if that is unknown.
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

// maxRetryAfter is the longest time that RetryAfter returns. Nobody waits longer anyway, and a
// number of seconds that fits no duration must not count as none.
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header, which holds seconds or a date. It returns 0 if there is
// none or if the date has passed, and never more than a day.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text != "" && strings.Trim(text, "0123456789") == "" {
		secs, err := strconv.ParseUint(text, 10, 64)
		if err != nil || secs > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(secs) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// HostOnly returns the host of a Host header or an address, without its port and without brackets.
func HostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// IsLoopback reports whether a host without a port is this machine alone: localhost, or a loopback
// address.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Sleep waits for d or until ctx ends. It reports whether d has passed.
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

// IsEnded reports whether err comes from a context that has ended. Timeouts of the network do not
// count, although errors.Is takes them for context.DeadlineExceeded.
func IsEnded(err error) bool {
	if err == context.Canceled || err == context.DeadlineExceeded {
		return true
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return IsEnded(err.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), IsEnded)
	}
	return false
}
