// Package alloctest measures in tests what code allocates, so that the cost of foreign input can be
// held to its size.
package alloctest

import (
	"runtime"
	"runtime/metrics"
)

// Bytes returns how many bytes the process allocates while f runs, also those that are free again
// when it ends.
func Bytes(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Slack is how far Roughly may be from Bytes.
const Slack = 1 << 20

// Roughly is Bytes for fuzz targets, which run thousands of times a second: it does not stop the
// other goroutines, and misses or adds small allocations that are not accounted for yet, up to
// Slack.
func Roughly(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}
