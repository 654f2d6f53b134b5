//go:build !linux

package worker

import (
	"os"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

// MemoryLimitKind describes how memory limits are enforced on this system.
func (*Host) MemoryLimitKind() string { return "none: memory limits are enforced on Linux only" }

func (*process) setLimits(int, *Config) {}

func measureTree(int, bool, *cgroup.Group, int) (used int64, processes int) { return 0, 0 }

func ownPeak() int64 { return 0 }

func childPeak(*os.ProcessState) int64 { return 0 }
