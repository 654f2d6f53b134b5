package faastest_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func harness(cloud *faastest.Cloud) faastest.Harness {
	return faastest.Harness{
		Open:     func(_ testing.TB, service string) faas.Executor { return cloud.Executor(service) },
		Provider: faastest.MemoryProvider,
		Limits:   cloud.Info().Limits, MemorySizes: cloud.Info().MemorySizes,
		Simulated: true, AtomicUpdate: true,
		OpenIn: func(_ testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return sky.Executor(cloud.Executor(service))
		},
		OpenLossy: func(_ testing.TB, service string) faas.Executor {
			return faastest.Faulty(cloud.Executor(service),
				faastest.Faults(faastest.Rule{Op: faastest.OpInvoke, Fault: faastest.Fault{Kind: faastest.LostAnswer}}))
		},
	}
}

func TestTheMemoryProviderKeepsTheContract(t *testing.T) {
	for name, opts := range map[string][]faastest.MemoryOption{
		"one function per unit": nil,
		"one unit per service":  {faastest.WithOneUnit(), faastest.WithoutList(), faastest.WithLatency(time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			h := harness(faastest.NewMemory(opts...))
			h.Binary = script(t)
			faastest.Run(t, h)
		})
	}
}

// script returns a job binary that is small: nothing runs it here.
func script(t testing.TB) *faas.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestTheMemoryProviderInBadWeather(t *testing.T) {
	for name, opts := range map[string][]faastest.MemoryOption{
		"one function per unit": nil,
		"one unit per service":  {faastest.WithOneUnit(), faastest.WithoutList()},
	} {
		t.Run(name, func(t *testing.T) {
			bin := script(t)
			synctest.Test(t, func(t *testing.T) {
				cloud := faastest.NewMemory(append(opts, faastest.WithLatency(time.Millisecond))...)
				h := harness(cloud)
				h.Binary = bin
				h.OpenIn = func(_ testing.TB, service string, sky *faastest.Sky) faas.Executor {
					return sky.Executor(cloud.Executor(service))
				}
				faastest.Weather(t, h, 200)
			})
		})
	}
}
