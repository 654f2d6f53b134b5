package platform

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// Isolation says what enforces the functions' limits and separates them, as the platform found it
// possible when it was made. docs/platform.md explains each value.
type Isolation struct {
	// Memory and Tasks say what limits memory and the number of processes and threads: "cgroup v2" or
	// "cgroup v1", the kernel; "watched", the platform, which looks now and then; or "none".
	Memory string `json:"memory"`
	Tasks  string `json:"tasks"`
	// CPU says what enforces the share of [WithMemoryPerCPU]: "cgroup v2", "cgroup v1", or "none"
	// without that option.
	CPU string `json:"cpu"`
	// OpenFiles says what limits the number of open files: "rlimit" or "none".
	OpenFiles string `json:"open_files"`
	// Strays says how the platform finds and kills what has left the process group of its function:
	// "cgroup", which finds everything; "searched", which finds what has kept its parents or its
	// environment; or "none".
	Strays string `json:"strays"`
	// Users says which users functions run as: "shared" is the program's, "one" is one for all
	// functions, and "own" is one for each.
	Users string `json:"users"`
	// Namespaces lists the namespaces that functions have of their own: "pid", "ipc" and "network",
	// separated by commas.
	Namespaces string `json:"namespaces"`
}

// Namespaces is a set of namespaces that functions can have of their own, see namespaces(7).
type Namespaces uint8

const (
	// PIDNamespace hides the ids of other processes from signals, though not from /proc. The
	// function's process has the id 1 in it, and when it ends, everything that it started ends.
	PIDNamespace Namespaces = 1 << iota
	// IPCNamespace has its own System V and POSIX message queues, semaphores and shared memory
	// segments.
	IPCNamespace
	// NetworkNamespace has no network, not even loopback.
	NetworkNamespace
)

var namespaceNames = []struct {
	is     Namespaces
	worker worker.Namespaces
	name   string
}{{PIDNamespace, worker.PIDNamespace, "pid"}, {IPCNamespace, worker.IPCNamespace, "ipc"},
	{NetworkNamespace, worker.NetworkNamespace, "network"}}

// confinement holds the options that concern isolation.
type confinement struct {
	withoutCgroups bool
	mbPerCPU       uint32
	users          userRange
	namespaces     Namespaces
}

// WithoutCgroups disables control groups. Memory and processes are then watched.
func WithoutCgroups() Option { return func(o *options) { o.withoutCgroups = true } }

// WithMemoryPerCPU limits the processors of each process of a function by its memory, as the clouds
// do: one processor for every mb MiB. With 1,769, as on AWS Lambda
// (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html), 512 MiB come with 0.29
// of a processor. By default there is no such limit. The option needs control groups with a
// processor controller; otherwise New returns an ErrUnsupported.
func WithMemoryPerCPU(mb uint32) Option { return func(o *options) { o.mbPerCPU = mb } }

// WithUser runs all functions as this user and group, without supplementary groups. It needs Linux
// and root; otherwise New returns an ErrUnsupported or ErrPermissionDenied. The user must be able
// to enter the directory of [WithDir]. Only root should own files that the user may change.
func WithUser(uid, gid uint32) Option {
	return func(o *options) { o.users = userRange{first: uid, n: 1, gid: gid, shared: true} }
}

// WithUserRange runs each function as a user and a group of its own, with one of the n numbers from
// first on. Functions can then neither read each other's files, packages included, nor look into or
// signal each other's processes. Nobody else may have these numbers, nor may another platform use
// them at the same time. The range needs one number for each function and one for each package,
// including those of kept generations and of functions that are still ending. WithUserRange needs
// Linux and root, as WithUser does.
func WithUserRange(first, n uint32) Option {
	return func(o *options) { o.users = userRange{first: first, n: n} }
}

// WithNamespaces gives each function namespaces of its own. It needs Linux and root; otherwise New
// returns an ErrUnsupported or ErrPermissionDenied.
func WithNamespaces(n Namespaces) Option { return func(o *options) { o.namespaces = n } }

// check refuses what this system cannot enforce.
func (c *confinement) check() error {
	var option string
	switch {
	case c.users.shared:
		option = "WithUser"
	case c.users.n > 0 || c.users.first > 0:
		option = "WithUserRange"
	case c.namespaces != 0:
		option = "WithNamespaces"
	default:
		return nil
	}
	switch {
	case option != "WithNamespaces" && (c.users.first == 0 || c.users.n == 0 ||
		uint64(c.users.first)+uint64(c.users.n) > 1<<31):
		return faas.Errorf(faas.ErrInvalidArgument, "open", providerName,
			"%s: users are numbers from 1 to 2,147,483,646, and there must be one; 0 is root", option)
	case c.namespaces >= NetworkNamespace<<1:
		return faas.Errorf(faas.ErrInvalidArgument, "open", providerName, "WithNamespaces: there is no namespace %d",
			c.namespaces)
	case runtime.GOOS != "linux":
		return faas.Errorf(faas.ErrUnsupported, "open", providerName, "%s needs Linux, and this is %s", option, runtime.GOOS)
	case os.Geteuid() != 0:
		return faas.Errorf(faas.ErrPermissionDenied, "open", providerName,
			"%s needs root, and this program runs as user %d: start it as root, or leave the option out", option, os.Geteuid())
	}
	return nil
}

// cgroupPrefix begins the name of a platform's control group.
const cgroupPrefix = "blueprint-platform-"

// groupsOf returns the prefix of the control groups of platforms that use the directory, and of no
// others: it identifies the directory and its file system. So the remains of a killed platform are
// found without a record that somebody else could have written.
func groupsOf(dir string) string {
	sum := sha256.Sum256([]byte(directoryIdentity(dir)))
	return cgroupPrefix + hex.EncodeToString(sum[:10]) + "-"
}

// endLeftovers ends the processes of a platform that was killed, and removes its control groups.
// The caller must hold the lock of the directory.
func endLeftovers(dir string) {
	cgroup.Clean(groupsOf(dir))
	work := filepath.Join(dir, "work")
	if left, err := os.ReadDir(work); err == nil && len(left) > 0 {
		worker.KillStrays(work)
	}
}

// openHost makes the host that starts processes, with the available control groups.
func (p *Platform) openHost() error {
	o := &p.opts
	var err error
	if o.withoutCgroups {
		err = errors.New("WithoutCgroups says so")
	} else {
		p.cgroups, err = cgroup.Open(cgroup.Config{Name: groupsOf(p.store.dir) + rand.Text(), CPU: o.mbPerCPU > 0})
	}
	if err != nil {
		o.logger.Info("no control groups are used", "reason", err)
	}
	p.host = worker.NewConfinedHost(worker.HostConfig{Cgroups: p.cgroups, NoNewPrivileges: true})
	p.host.SetMaxProcesses(o.maxProcesses)
	i := p.Isolation()
	o.logger.Info("isolation of functions", "memory", i.Memory, "tasks", i.Tasks, "cpu", i.CPU, "open_files", i.OpenFiles,
		"strays", i.Strays, "users", i.Users, "namespaces", i.Namespaces)
	if o.mbPerCPU > 0 && !p.cgroups.Support().CPU {
		if err == nil {
			err = errors.New("it is not passed on to this program's control group")
		}
		return faas.Errorf(faas.ErrUnsupported, "open", providerName,
			"WithMemoryPerCPU needs control groups with the cpu controller, which this program cannot use: %w", err)
	}
	return nil
}

// Isolation returns what enforces the functions' limits and separates them.
func (p *Platform) Isolation() Isolation {
	s := p.host.Support()
	i := Isolation{Memory: "none", Tasks: "none", CPU: "none", OpenFiles: "none", Strays: "none", Users: "shared"}
	if runtime.GOOS == "linux" {
		i.Memory, i.Tasks, i.OpenFiles, i.Strays = "watched", "watched", "rlimit", "searched"
	}
	const kernel = "cgroup v2"
	if s.Memory {
		i.Memory = kernel
	}
	if s.Processes {
		i.Tasks = kernel
	}
	if s.CPU {
		i.CPU = kernel
	}
	if s.Kill {
		i.Strays = "cgroup"
	}
	switch {
	case p.opts.users.shared:
		i.Users = "one"
	case p.opts.users.n > 0:
		i.Users = "own"
	}
	for _, n := range namespaceNames {
		if p.opts.namespaces&n.is != 0 {
			if i.Namespaces != "" {
				i.Namespaces += ","
			}
			i.Namespaces += n.name
		}
	}
	return i
}

// confine returns the restrictions on a function's processes.
func (p *Platform) confine(c *config, user *worker.User) worker.Confinement {
	w := worker.Confinement{
		MaxTasks: p.opts.limits.MaxTasks, MaxOpenFiles: p.opts.limits.MaxOpenFiles, NoCoreDumps: true, User: user,
		OwnTempDir: true,
	}
	if p.opts.mbPerCPU > 0 {
		w.CPUs = float64(c.MemoryMB) / float64(p.opts.mbPerCPU)
	}
	for _, n := range namespaceNames {
		if p.opts.namespaces&n.is != 0 {
			w.Namespaces |= n.worker
		}
	}
	return w
}
