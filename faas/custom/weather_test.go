package custom_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

func TestEveryKindOfPlatformInBadWeather(t *testing.T) {
	bin := script(t)
	for name, extended := range map[string]bool{"plain protocol": false, "extended protocol": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFake(t)
				p.extended = extended
				calm := inMemory{platform: p}
				in := func(t testing.TB, service string, transport http.RoundTripper) faas.Executor {
					e, err := custom.New(t.Context(), faas.Config{
						Service: service, Endpoint: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: transport}})
					if err != nil {
						t.Fatal(err)
					}
					return e
				}
				faastest.Weather(t, faastest.Harness{
					Provider: faas.Custom, Simulated: true, Binary: bin, AtomicUpdate: extended,
					Open: func(t testing.TB, service string) faas.Executor { return in(t, service, calm) },
					OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
						return in(t, service, sky.Transport(calm))
					},
				}, 30)
			})
		})
	}
}

func TestTheEmbeddedPlatformInBadWeather(t *testing.T) {
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
	h := harness(t, p)
	h.AtomicUpdate = true
	h.OpenIn = func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
		base := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(base.CloseIdleConnections)
		e, err := custom.New(t.Context(), faas.Config{
			Service: service, Endpoint: server.URL, HTTPClient: &http.Client{Transport: sky.Transport(base)}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	faastest.Weather(t, h, 5)
}

// inMemory passes requests to a platform without a network, which does not work in a synctest
// bubble.
type inMemory struct{ platform http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	m.platform.ServeHTTP(answer, in)
	_ = in.Body.Close()
	return answer.Result(), nil
}
