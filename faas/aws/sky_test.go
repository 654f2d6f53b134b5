//go:build !faas_only || faas_aws

package aws

import (
	"net/http"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// This package has its own weather, which knows how Lambda's reads lag; this is that of all
// providers.
func TestLambdaInTheWeatherOfAllProviders(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Pending: time.Millisecond, Updating: time.Millisecond,
		MovingAlias: 5 * time.Millisecond})
	pace := fastPace
	pace.settle, pace.role, pace.late = 300*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond
	faastest.Weather(t, faastest.Harness{
		Provider: faas.AWSLambda,
		Open: func(t testing.TB, service string) faas.Executor {
			return openAt(t, server, service, opening{pace: &pace})
		},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return openAt(t, server, service, opening{
				pace: &pace, client: &http.Client{Transport: sky.Transport(&http.Transport{})}})
		},
	}, 1)
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left behind: %v", left)
	}
}
