//go:build unix

package platform

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The job of the benchmarks: 8 bytes in, the same 8 bytes out.
var benchArgs = []byte{1, 2, 3, 4, 5, 6, 7, 8}

var concurrencies = []int{1, 8, 64}

// run makes b.N calls from n goroutines.
func run(b *testing.B, n int, call func() error) {
	b.Helper()
	b.ReportAllocs()
	for range 10 * n { // connections and processes
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// httpCall returns a function that posts an invocation to url over kept connections. It is no http.Client, whose cost would hide what is measured.
func httpCall(b *testing.B, url string) func() error {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	body := faas.AppendRequest(nil, jobEcho, benchArgs)
	request := fmt.Appendf(nil, "POST /%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, host, len(body), body)
	type conn struct {
		net.Conn
		r *bufio.Reader
	}
	idle := make(chan *conn, 64)
	b.Cleanup(func() {
		for len(idle) > 0 {
			_ = (<-idle).Close()
		}
	})
	return func() error {
		var c *conn
		select {
		case c = <-idle:
		default:
			raw, err := net.Dial("tcp", host)
			if err != nil {
				return err
			}
			c = &conn{raw, bufio.NewReader(raw)}
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		length := 0
		for first := true; ; first = false {
			line, err := c.r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
				return fmt.Errorf("answer %q", line)
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
					return err
				}
			}
			if len(line) <= 2 {
				break
			}
		}
		if _, err := c.r.Discard(length); err != nil {
			return err
		}
		idle <- c
		return nil
	}
}

// emptyHandler is the floor: a ServeMux handler that reads and answers the same JSON and runs nothing.
func emptyHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/functions/{id}/invoke", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		jobID, args, err := faas.ParseRequest(nil, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(faas.AppendResponse(nil, &faas.Response{JobID: jobID, Result: args, Success: true}))
	})
	return mux
}

func BenchmarkHTTP(b *testing.B) {
	s := newServer(b)
	s.putJobs("warm", nil)
	// The same binary without the mark by which it is known to stay.
	marked := []byte("blueprint-serverless/job/protocols")
	s.mustPut("spawn", zipBinary(bytes.ReplaceAll(jobBinary(), marked, bytes.ToUpper(marked))))
	empty := httptest.NewServer(emptyHandler())
	b.Cleanup(empty.Close)
	for _, n := range concurrencies {
		for _, target := range []struct{ name, url string }{{"empty-handler", empty.URL}, {"warm", s.url}, {"spawn", s.url}} {
			b.Run(fmt.Sprintf("%s/c%d", target.name, n), func(b *testing.B) {
				run(b, n, httpCall(b, target.url+"/api/functions/"+target.name+"/invoke"))
			})
		}
	}
}

// BenchmarkInvoke calls without HTTP.
func BenchmarkInvoke(b *testing.B) {
	s := newServer(b)
	s.putJobs("warm", nil)
	for _, n := range concurrencies {
		b.Run(fmt.Sprintf("c%d", n), func(b *testing.B) {
			run(b, n, func() error {
				_, err := s.p.Invoke(context.Background(), "warm", jobEcho, benchArgs)
				return err
			})
		})
	}
}

// BenchmarkPayload moves large arguments and answers.
func BenchmarkPayload(b *testing.B) {
	s := newServer(b)
	s.putJobs("warm", nil)
	for _, size := range []int{64 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			args := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if r, err := s.p.Invoke(context.Background(), "warm", jobEcho, args); err != nil || len(r.Output) != size {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeploy replaces a function and waits until it answers.
func BenchmarkDeploy(b *testing.B) {
	s := newServer(b)
	for b.Loop() {
		s.putJobs("f", nil, "X-Blueprint-If-Exists", "replace")
		s.mustInvoke("f", jobEcho, "x")
	}
}

// BenchmarkIdleFunctions reports what a deployed function costs that nobody calls.
func BenchmarkIdleFunctions(b *testing.B) {
	p, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	zip := scriptZip(b, "true")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		n++
		d := &deployment{record: record{ID: fmt.Sprintf("f%d", n), Config: config{MemoryMB: 128, TimeoutSecs: 1}}, pkg: bytes.NewReader(zip)}
		if _, err := p.deploy(context.Background(), d); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "heap-B/function")
}
