//go:build !linux

package worker

import "github.com/tangle-network/blueprint-serverless/internal/proctree"

// killAll kills the process and its group. It does not find what left the group.
func (p *process) killAll() { killGroup(p.proc) }

// endStrays does nothing.
func (*Config) endStrays() int { return 0 }

// endMarked does nothing.
func endMarked(proctree.Mark) {}

// forbidNewPrivileges does nothing.
func forbidNewPrivileges() {}

// KillStrays does nothing.
func KillStrays(string) {}
