//go:build !linux

package worker

// killAll kills the process and its group. What has left that is not found here.
func (p *process) killAll() { killGroup(p.proc) }

// sweep does nothing.
func (*Pool) sweep() {}

// forbidNewPrivileges does nothing.
func forbidNewPrivileges() {}

// KillStrays does nothing.
func KillStrays(string) {}
