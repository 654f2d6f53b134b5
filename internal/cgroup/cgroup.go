// Package cgroup bounds the memory, the processors and the number of processes of a child process
// and its descendants, and kills them together, by Linux control groups of version 2.
//
// It writes the kernel's files itself. The well-kept libraries for this, containerd/cgroups and
// opencontainers/cgroups, add systemd, D-Bus, logging and eBPF to a program (1.6 to 5.5 MB), and
// neither starts a process inside its group.
package cgroup

import "errors"

// Config configures a [Root].
type Config struct {
	// Name is the name of the directory that holds the groups. Use each name only once.
	Name string
	// CPU asks for the controller of processor time. Without it Limits.CPUs has no effect.
	CPU bool
}

// Limits bounds a group: a process and its descendants. Zero means no limit.
type Limits struct {
	MemoryBytes int64 // includes swap
	Processes   int   // threads count as processes
	CPUs        float64
}

// Support says which limits the groups of a [Root] hold. A nil Root holds none.
type Support struct {
	Memory, Processes, CPU bool
	// Kill says that a group can be killed, whatever its processes did to their sessions and
	// parents.
	Kill bool
}

// ErrUnavailable is the error of [Open] if this program cannot make groups.
var ErrUnavailable = errors.New("control groups of version 2 cannot be used here")
