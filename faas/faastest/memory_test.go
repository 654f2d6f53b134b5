package faastest_test

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func harness(cloud *faastest.Cloud) faastest.Harness {
	return faastest.Harness{
		Open:     func(_ testing.TB, service string) faas.Executor { return cloud.Executor(service) },
		Provider: faastest.MemoryProvider,
		Limits:   cloud.Info().Limits, MemorySizes: cloud.Info().MemorySizes,
		Simulated: true,
		OpenLossy: func(_ testing.TB, service string) faas.Executor {
			return faastest.Faulty(cloud.Executor(service), faastest.Faults(faastest.Rule{Op: faastest.OpInvoke, Fault: faastest.Fault{Kind: faastest.LostAnswer}}))
		},
	}
}

func TestTheMemoryProviderKeepsTheContract(t *testing.T) {
	t.Run("one function per unit", func(t *testing.T) { faastest.Run(t, harness(faastest.NewMemory())) })
	t.Run("one unit per service", func(t *testing.T) { faastest.Run(t, harness(faastest.NewMemory(faastest.WithOneUnit()))) })
}
