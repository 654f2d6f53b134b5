//go:build !linux

package job

// peakMemoryMB is known only on Linux, where functions run.
func peakMemoryMB() uint32 { return 0 }
