//go:build unix && !linux

package load

import "time"

// cpuTime is not known: the time of processes that still run cannot be read.
func cpuTime() (time.Duration, bool) { return 0, false }
