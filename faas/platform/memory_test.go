//go:build unix

package platform

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// liveMB returns the memory that this process holds and cannot give back.
func liveMB() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) >> 20
}

// Clients send small requests for large answers and do not take them. The answers in memory stay
// below the limit, and are freed when the clients are gone.
func TestAnswersInMemoryStayBelowTheLimit(t *testing.T) {
	const answerMB, limitMB = 6, 20
	clients := map[string]int{"frames": 12, "stdio": 5}
	for name, deploy := range map[string]func(s *server){
		"frames": func(s *server) { s.putJobs("f", nil) },
		"stdio": func(s *server) {
			s.mustPut("f", scriptZip(t, fmt.Sprintf(`printf '{"result":['
				yes $(printf '200,%%.0s' $(seq 1000)) | head -c $((4001*%d))
				printf '200]}'`, answerMB<<20/1000)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, WithLimits(Limits{MaxBufferedMB: limitMB}))
			deploy(s)
			s.mustInvoke("f", jobBig, "\x00") // what is made once
			before := liveMB()
			body := faas.AppendRequest(nil, jobBig, []byte{answerMB})
			var conns []net.Conn
			for range clients[name] {
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
				conns = append(conns, conn)
				if _, err := fmt.Fprintf(conn, "POST /api/functions/f/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: "+
					"%d\r\n\r\n%s", len(body), body); err != nil {
					t.Fatal(err)
				}
			}
			most := int64(0)
			// until nothing more fits, and a while longer
			for full, deadline := 0, time.Now().Add(aWhile); full < 10; time.Sleep(20 * time.Millisecond) {
				most = max(most, liveMB()-before)
				if s.p.buffered.Used() > (limitMB-answerMB)<<20 {
					full++
				}
				if time.Now().After(deadline) {
					t.Fatalf("only %d MiB are held", s.p.buffered.Used()>>20)
				}
			}
			if most > limitMB+slackMB {
				t.Errorf("%d MiB are in memory, the limit is %d", most, limitMB)
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
			for deadline := time.Now().Add(2 * aWhile); s.p.buffered.Used() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d bytes are not given back", s.p.buffered.Used())
				}
			}
		})
	}
}

// Clients that take their answers get all of them, one after another if they do not fit together.
func TestLargeAnswersWaitForEachOther(t *testing.T) {
	s := newServer(t, WithLimits(Limits{MaxBufferedMB: 8}))
	s.putJobs("f", nil)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			resp, err := s.c.Post(s.url+"/api/functions/f/invoke", "application/json",
				strings.NewReader(string(faas.AppendRequest(nil, jobBig, []byte{3}))))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || n < 4*3<<20 {
				t.Errorf("status %d, %d bytes, %v", resp.StatusCode, n, err)
			}
		})
	}
	wg.Wait()
	if a := s.invoke("f", jobBig, "\x09"); a.status != 500 ||
		!strings.Contains(fmt.Sprint(a.body["error"]), "all large answers together may take") {
		t.Errorf("%d %v", a.status, a.body)
	}
}
