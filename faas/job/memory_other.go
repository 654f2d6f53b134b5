//go:build !linux

package job

// peakMemoryMB is known on Linux only, where functions run.
func peakMemoryMB() uint32 { return 0 }
