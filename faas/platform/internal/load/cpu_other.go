//go:build unix && !linux

package load

import "time"

// cpuTime is unknown: the processor time of running children cannot be read.
func cpuTime() (time.Duration, bool) { return 0, false }
