//go:build !faas_only || faas_azure

package azure

import (
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// TestBadWeather plays histories of a service in which any request to Azure may be behind, lost,
// refused or the last one of its program.
func TestBadWeather(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Polls: 1})
	// No spell of bad weather lasts long, and a program that has ended waits for nothing.
	short := fastPace
	short.state, short.appear, short.busy, short.role, short.settle, short.grace = 3*time.Second, 2*time.Second,
		2*time.Second, 2*time.Second, 200*time.Millisecond, time.Second
	faastest.Weather(t, faastest.Harness{
		Provider: faas.AzureFunctions,
		Limits:   planLimits,
		Binary:   testBinary(t),
		Open:     func(t testing.TB, service string) faas.Executor { return openAt(t, server, service, opening{}) },
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return openAt(t, server, service, opening{
				pace: &short, options: map[string]string{"ready_timeout_secs": "3"}, wrap: sky.Transport})
		},
	}, 3)
	if left := server.Left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
