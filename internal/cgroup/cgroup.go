// Package cgroup bounds the memory, the processors and the number of processes of a child process with everything that it starts, and kills them
// together, by Linux control groups: version 2 where its controllers are there, version 1 for those that are not, as on hybrid systems.
//
// It writes the kernel's files itself. The well-kept libraries for that, containerd/cgroups and opencontainers/cgroups, bring systemd, D-Bus, logging and eBPF
// with them (1.6 to 5.5 MB in a program, where this is some hundred lines), and neither starts a process inside its group.
package cgroup

import "errors"

// Config says where groups are made.
type Config struct {
	// Name is that of the directory which holds the groups, in every hierarchy. It must be used once only.
	Name string
	// CPU asks for the controller of processor time. Without it Limits.CPUs has no effect.
	CPU bool
}

// Limits are those of one group: of a process and all that it starts. Zero means no limit.
type Limits struct {
	MemoryBytes int64 // swap included
	Processes   int   // threads count as processes
	CPUs        float64
}

// Version is that of the control groups that hold a limit.
type Version uint8

// The versions. Absent says that a limit is not held.
const (
	Absent Version = iota
	V1
	V2
)

// String returns "cgroup v2", "cgroup v1" or "none".
func (v Version) String() string {
	switch v {
	case V1:
		return "cgroup v1"
	case V2:
		return "cgroup v2"
	}
	return "none"
}

// Support says which limits are held, and by what. The zero value is of a nil [Root].
type Support struct {
	Memory, Processes, CPU Version
	// Kill says that everything in a group can be killed, whatever it did to its sessions and parents.
	Kill bool
	// Inside says that processes are started in their group. Those of a hierarchy of version 1 are moved there a little later.
	Inside bool
}

// ErrUnavailable is the error of [Open] where this program cannot make groups.
var ErrUnavailable = errors.New("control groups cannot be used here")
