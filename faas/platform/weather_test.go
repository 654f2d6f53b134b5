package platform

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func TestThePlatformsExecutorInBadWeather(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	open := func(_ testing.TB, service string) faas.Executor { return p.Executor(service) }
	faastest.Weather(t, faastest.Harness{
		Open: open, AtomicUpdate: true, Provider: providerName,
		Limits:      faas.Limits{MaxMemoryMB: 10_240, MaxTimeoutSecs: 900, MaxPayloadMB: 16},
		MemorySizes: faas.MemorySizes{Min: 128, Step: 1},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return sky.Executor(open(t, service))
		},
	}, 5)
}
