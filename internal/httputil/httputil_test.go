package httputil

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestReadAllAppendsEverything(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 1000)
	for _, size := range []int64{-1, 0, 10, int64(len(text))} {
		got, err := ReadAll([]byte("before "), iotest.OneByteReader(bytes.NewReader(text)), size)
		if want := "before " + string(text); err != nil || string(got) != want {
			t.Errorf("size %d: %d bytes, %v; want %d", size, len(got), err, len(want))
		}
	}
	if _, err := ReadAll(nil, iotest.ErrReader(io.ErrUnexpectedEOF), 5); err != io.ErrUnexpectedEOF {
		t.Errorf("the error of a broken reader is %v", err)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		" 7 ":                           7 * time.Second,
		"-1":                            0,
		"1.5":                           0,
		"soon":                          0,
		"2147483647":                    24 * time.Hour,
		"99999999999":                   24 * time.Hour,
		"99999999999999999999999999":    24 * time.Hour,
		"Wed, 04 Mar 2126 05:07:07 GMT": 24 * time.Hour,
		"Wed, 04 Mar 2026 05:07:07 GMT": time.Minute,
		"Wed, 04 Mar 2026 05:05:07 GMT": 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	if !Sleep(t.Context(), 0) {
		t.Error("Sleep says that a living context is dead")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Sleep(ctx, time.Hour) {
		t.Error("Sleep says that a dead context is alive")
	}
}

func TestProgressCountsAnUploadFromItsBeginning(t *testing.T) {
	const total = reportEvery * 2
	var told []faas.Progress
	p := NewProgress(func(now faas.Progress) { told = append(told, now) }, total)
	p.Step("wait")
	p.Step("wait")
	for range 2 { // the second time after a connection broke
		if _, err := io.Copy(io.Discard, p.Upload(io.NopCloser(bytes.NewReader(make([]byte, total))))); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop()
	p.Step("late")
	want := []faas.Progress{{Step: "wait", TotalBytes: total}}
	for range 2 {
		want = append(want, faas.Progress{Step: "upload", Bytes: reportEvery, TotalBytes: total},
			faas.Progress{Step: "upload", Bytes: total, TotalBytes: total})
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func TestNilProgressReportsNothing(t *testing.T) {
	var p *Progress
	p.Step("wait")
	if body := p.Upload(io.NopCloser(bytes.NewReader([]byte("x")))); body == nil {
		t.Error("a nil progress loses the body")
	}
	p.Stop()
}

func TestOnlyAContextsEndIsOne(t *testing.T) {
	dialing, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, network := (&net.Dialer{Timeout: 1}).Dial("tcp", "127.0.0.1:1")
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"its own":     {fmt.Errorf("x: %w", dialing.Err()), true},
		"among two":   {fmt.Errorf("%w and %w", io.EOF, context.Canceled), true},
		"the network": {network, false},
		"none":        {nil, false},
	} {
		if got := IsEnded(tt.err); got != tt.want {
			t.Errorf("%s: %t for %v", name, got, tt.err)
		}
	}
}
