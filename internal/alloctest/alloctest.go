// Package alloctest measures in tests how much code allocates, so that the cost of untrusted input
// can be limited by its size.
package alloctest

import (
	"runtime"
	"runtime/metrics"
)

// Bytes returns how many bytes the process allocates while f runs, including those that are freed
// again before it ends.
func Bytes(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Slack is how far the result of Roughly may be from that of Bytes.
const Slack = 1 << 20

// Roughly is Bytes for fuzz targets, which run thousands of times a second. It does not stop the
// other goroutines, and may miss or add small allocations that are not accounted for yet, up to
// Slack.
func Roughly(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}
