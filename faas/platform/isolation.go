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

// Isolation says what keeps functions to their limits and apart, as the platform found it possible when it was made. docs/platform.md has what each of it means.
type Isolation struct {
	// Memory and Tasks say what limits memory and the number of processes and threads: "cgroup v2",
	// which is the kernel; "watched", which is the platform, which looks at intervals; or "none".
	Memory string `json:"memory"`
	Tasks  string `json:"tasks"`
	// CPU says what limits the share of [WithMemoryPerCPU]: "cgroup v2", or "none" without that option.
	CPU string `json:"cpu"`
	// OpenFiles says what holds the number of open files: "rlimit" or "none".
	OpenFiles string `json:"open_files"`
	// Strays says how what left the process group of its function is found to be killed with it: "cgroup", which finds everything; "searched", which finds what has kept
	// its parents or its environment; or "none".
	Strays string `json:"strays"`
	// Users says who functions run as: "shared" with the program, "one" for all of them, or "own" for each.
	Users string `json:"users"`
	// Namespaces are what functions have of their own: some of "pid", "ipc" and "network", with commas between.
	Namespaces string `json:"namespaces"`
}

// Namespaces is a set of what functions can have of their own, see namespaces(7).
type Namespaces uint8

const (
	// PIDNamespace hides the numbers of other processes from signals, though not from /proc. A function's process has the number 1 in it, and with it ends all that it has
	// started.
	PIDNamespace Namespaces = 1 << iota
	// IPCNamespace has its own System V and POSIX message queues, semaphores and shared memory segments.
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

// confinement is what the options say of isolation.
type confinement struct {
	withoutCgroups bool
	mbPerCPU       uint32
	users          userRange
	namespaces     Namespaces
}

// WithoutCgroups leaves control groups alone, also where they could be used: memory and processes are then watched.
func WithoutCgroups() Option { return func(o *options) { o.withoutCgroups = true } }

// WithMemoryPerCPU gives each process of a function a share of the processors that follows from its memory, as on the clouds: one for every mb MiB, so that with 1,769, as on
// AWS Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html), 512 MiB come with 0.29 of a processor. By default there is no such limit. It
// needs control groups: New returns an ErrUnsupported where there are none with that controller.
func WithMemoryPerCPU(mb uint32) Option { return func(o *options) { o.mbPerCPU = mb } }

// WithUser runs all functions as this user and group, without further groups. It needs Linux and root: otherwise New returns an ErrUnsupported or ErrPermissionDenied. The
// user must be able to enter the directory of [WithDir]; nobody else than root should own files that it may change.
func WithUser(uid, gid uint32) Option {
	return func(o *options) { o.users = userRange{first: uid, n: 1, gid: gid, shared: true} }
}

// WithUserRange runs each function as a user and a group of its own, whose number is one of n from first on: functions can then neither read each other's files, packages included,
// nor look into or signal each other's processes. Nobody else may have these numbers, and no other platform at the same time. There must be one for each function and one for each package,
// also of generations that are kept and of those that still end. It needs Linux and root, as WithUser does.
func WithUserRange(first, n uint32) Option {
	return func(o *options) { o.users = userRange{first: first, n: n} }
}

// WithNamespaces gives functions something of their own. It needs Linux and root: otherwise New returns an ErrUnsupported or ErrPermissionDenied.
func WithNamespaces(n Namespaces) Option { return func(o *options) { o.namespaces = n } }

// check refuses what cannot be held on this system.
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

// cgroupPrefix begins the name of the control group of a platform.
const cgroupPrefix = "blueprint-platform-"

// groupsOf begins the name of the control groups of the platforms that use the directory, and of no others: it says which directory on which file system that is. So what a killed one has
// left is found without a record that somebody else could have written.
func groupsOf(dir string) string {
	sum := sha256.Sum256([]byte(directoryIdentity(dir)))
	return cgroupPrefix + hex.EncodeToString(sum[:10]) + "-"
}

// endLeftovers ends what runs of a platform that was killed, and removes its control groups. The caller has the lock of its directory.
func endLeftovers(dir string) {
	cgroup.Clean(groupsOf(dir))
	work := filepath.Join(dir, "work")
	if left, err := os.ReadDir(work); err == nil && len(left) > 0 {
		worker.KillStrays(work)
	}
}

// openHost makes what starts processes, with the control groups that can be had.
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

// Isolation says what keeps functions to their limits and apart.
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

// confine says what the processes of a function may not do.
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
