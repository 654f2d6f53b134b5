package httputil

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// switching is a server that answers every request with head, and then keeps the connection open.
func switching(t *testing.T, head string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, head)
					_, _ = io.Copy(io.Discard, conn) // until the client closes it
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestGuardRefusesWhatIsNoFinalAnswer(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		base := http.DefaultTransport.(*http.Transport).Clone()
		client := &http.Client{Transport: Guard(base)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, switching(t, head), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil || ctx.Err() != nil {
			t.Errorf("%q: got %v, %v", head, resp, err)
		} else if !strings.Contains(err.Error(), "101") {
			t.Errorf("%q: the error does not name the status: %v", head, err)
		}
		cancel()
		client.CloseIdleConnections()
	}
}
