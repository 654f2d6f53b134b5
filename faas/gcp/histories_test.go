//go:build !faas_only || faas_gcp

package gcp_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

// TestGoogleInBadWeather plays random histories of a service at Google, with reads that are out
// of date, lost answers, throttling and programs that end at any moment.
func TestGoogleInBadWeather(t *testing.T) {
	runsHere(t)
	for name, options := range map[string][]string{
		"functions": nil,
		"cloud run": {"mode=cloud-run", "bucket=test-bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			jobBinary(t)
			s := gcptest.Start(t, builder)
			synctest.Test(t, func(t *testing.T) {
				defer s.Rest()
				h := harness(t, s, options...)
				in := func(t testing.TB, service string, wrap func(http.RoundTripper) http.RoundTripper) faas.Executor {
					cfg := config(s, service, options...)
					cfg.HTTPClient = &http.Client{Transport: wrap(direct{s: s})}
					e, err := gcp.New(t.Context(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					return e
				}
				h.Open = func(t testing.TB, service string) faas.Executor {
					return in(t, service, func(base http.RoundTripper) http.RoundTripper { return base })
				}
				h.OpenIn = func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
					return in(t, service, sky.Transport)
				}
				h.Settle = func(testing.TB) { synctest.Wait() }
				faastest.Weather(t, h, 10)
			})
		})
	}
}
