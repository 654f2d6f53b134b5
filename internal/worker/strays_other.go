//go:build !linux

package worker

// killAll kills the process and its group. What has left that is not found here.
func (p *process) killAll() { killGroup(p.proc) }

// endStrays does nothing.
func (*Config) endStrays() int { return 0 }

// endMarked does nothing.
func (*Config) endMarked(string) {}

// forbidNewPrivileges does nothing.
func forbidNewPrivileges() {}

// KillStrays does nothing.
func KillStrays(string) {}
