package custom_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// connections tracks a server's connections that are not idle, and since when.
type connections struct {
	mu   sync.Mutex
	busy map[net.Conn]connection
}

type connection struct {
	state http.ConnState
	since time.Time
}

// spare is how long a connection without a request must last to count as dialled in vain.
const spare = time.Second

// serve serves h on loopback until the test ends.
func (c *connections) serve(t testing.TB, h http.Handler) string {
	c.busy = map[net.Conn]connection{}
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if state == http.StateNew || state == http.StateActive {
			c.busy[conn] = connection{state, time.Now()}
		} else {
			delete(c.busy, conn)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// settle waits until no request is being served.
func (c *connections) settle(t testing.TB) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		n := 0
		for _, conn := range c.busy {
			if conn.state == http.StateActive || time.Since(conn.since) < spare {
				n++
			}
		}
		c.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still busy", n)
		}
	}
}

// harness runs the conformance suite against a platform.
func harness(t testing.TB, platform http.Handler) faastest.Harness {
	var conns connections
	endpoint := conns.serve(t, platform)
	isInvoke := func(r *http.Request) *faastest.Fault {
		if strings.HasSuffix(r.URL.Path, "/invoke") {
			return &faastest.Fault{Kind: faastest.LostAnswer}
		}
		return nil
	}
	return faastest.Harness{
		Provider: faas.Custom,
		Settle:   conns.settle,
		Open: func(t testing.TB, service string) faas.Executor {
			e, err := custom.New(t.Context(), faas.Config{Service: service, Endpoint: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			e, err := custom.New(t.Context(), faas.Config{
				Service: service, Endpoint: endpoint, HTTPClient: &http.Client{Transport: sky.Transport(base)}})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			e, err := custom.New(t.Context(), faas.Config{
				Service: service, Endpoint: endpoint, HTTPClient: &http.Client{
					Transport: faastest.FaultyTransport(base, isInvoke)}})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
	}
}

func TestEveryKindOfPlatformKeepsTheContract(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"plain protocol":                        func(*fake) {},
		"plain protocol without optional calls": func(p *fake) { p.noHealth, p.noWarm = true, true },
		"extended protocol":                     func(p *fake) { p.extended = true },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFake(t)
			change(p)
			h := harness(t, p)
			h.Simulated, h.Binary, h.AtomicUpdate = true, script(t), p.extended
			faastest.Run(t, h)
		})
	}
}

func TestTheEmbeddedPlatformKeepsTheContractOverHTTP(t *testing.T) {
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	h := harness(t, p)
	h.AtomicUpdate = true
	faastest.Run(t, h)
}
