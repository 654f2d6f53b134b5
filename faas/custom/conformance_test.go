package custom_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// harness runs the conformance suite against a platform at an endpoint.
func harness(endpoint string) faastest.Harness {
	isInvoke := func(r *http.Request) *faastest.Fault {
		if strings.HasSuffix(r.URL.Path, "/invoke") {
			return &faastest.Fault{Kind: faastest.LostAnswer}
		}
		return nil
	}
	return faastest.Harness{
		Provider: faas.Custom,
		Open: func(t testing.TB, service string) faas.Executor {
			e, err := custom.New(faas.Config{Service: service, Endpoint: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			e, err := custom.New(faas.Config{Service: service, Endpoint: endpoint, HTTPClient: &http.Client{Transport: faastest.FaultyTransport(base, isInvoke)}})
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
			h := harness(p.start(t).URL)
			h.Simulated, h.Binary = true, script(t)
			faastest.Run(t, h)
		})
	}
}

func TestTheEmbeddedPlatformKeepsTheContractOverHTTP(t *testing.T) {
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	faastest.Run(t, harness(server.URL))
}
