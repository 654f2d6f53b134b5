//go:build unix && !linux

package worker

import (
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

func sysProcAttr(c *Config, _ *cgroup.Group) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: credential(c.User)}
}
