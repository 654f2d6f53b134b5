// Package worker runs a job binary in child processes: warm ones that speak frames and take many
// calls, or one process per call over standard input and output. The embedded platform and the
// local runner of a service use it.
package worker

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// Config configures a [Pool].
type Config struct {
	// Path is the executable. Args are its arguments without the program's name.
	Path string
	Args []string
	// Env is the whole environment of the processes ("NAME=value"), except for marks, and for PATH,
	// HOME and TMPDIR, which have safe values unless Env sets them. The host's own environment is not
	// passed on. A process that is started for one call does not get faas.RunnerConfigEnv, because it
	// is not the runner.
	Env []string
	// Dir is the working directory. TempDir becomes HOME and TMPDIR; empty means Dir.
	Dir, TempDir string
	// Frames says that the binary speaks frames, so that a process stays and takes many calls.
	// Otherwise every call starts a process, which gets the request's JSON on standard input and
	// answers on standard output.
	Frames bool

	// Runner says that the pool has one process, which is a service's runner. The pool offers it
	// frames and does not ask for them; it may say hello at any time or never; other standard output
	// is a log; and a signal too asks it to end. With MinWorkers of 1 it is kept running. See
	// [Pool.AwaitHello].
	Runner bool

	// MemoryMB is the most memory that a process and its descendants may use, in MiB. 0 means no
	// limit. See [Host.MemoryLimitKind].
	MemoryMB uint32
	// Confinement limits what else a process may do.
	Confinement
	// MaxConcurrency is how many calls run at the same time, and MaxQueue how many more may wait. 0
	// means 100 and 1000.
	MaxConcurrency, MaxQueue int
	// MaxWorkers is the most warm processes. 0 means the number of processors, but at least 2.
	MaxWorkers int
	// MinWorkers is how many warm processes are kept alive. They are restarted with capped exponential
	// back-off when they end. 0 means that only calls start processes.
	MinWorkers int
	// IdleTimeout is the time without a call after which a warm process above MinWorkers is told to
	// end. 0 means never.
	IdleTimeout time.Duration
	// StartTimeout is how long a warm process may take to say hello. 0 means 10 seconds.
	StartTimeout time.Duration
	// Grace is how long a call that is out of time has to answer its cancellation before its process
	// is killed, and how long a process whose input was closed has to end. 0 means 250 milliseconds.
	Grace time.Duration
	// MaxOutput is the largest answer in bytes. A larger one is an ErrTooLarge. 0 means 32 MiB.
	MaxOutput int64
	// Budget is where large answers take their memory from before they are read. Who receives an
	// answer of Invoke gives back Counted of its length. If an answer cannot get its memory in time,
	// the call is an ErrThrottled although its job ran. Nil means that answers are not counted.
	Budget *Budget
	// SpoolDir is where answers on standard output wait in files until they are complete. Empty means
	// in memory.
	SpoolDir string

	// Log is called with every line of the processes' standard error, by one goroutine per process.
	Log func(Line)
	// Ended, if not nil, is called when a process was killed or ended unexpectedly. how describes it
	// in a line.
	Ended  func(pid int, how string)
	Logger *slog.Logger // of the pool itself; nil means no log
	// Host starts the processes. Nil means that the pool has its own. Pools of one program should
	// share a Host.
	Host *Host
	// Provider is the Error.Provider of errors. Empty means "local".
	Provider string

	// Mark is carried by the processes and everything that they start, and by no other process. It
	// finds them after they left their group, their session and their parents. Empty means a new mark.
	// Everything that carries it is killed when this program is killed.
	Mark proctree.Mark
}

// Confinement limits one process with its descendants. The zero value limits nothing. It holds on
// Linux; other systems only run processes as another user.
type Confinement struct {
	// CPUs is how many processors' time it may use, if the host's control groups can limit that. 0
	// means no limit.
	CPUs float64
	// MaxTasks is the most processes and threads. 0 means no limit. If no control group of the host
	// can limit them, a process with more is killed as soon as that is seen.
	MaxTasks int
	// MaxOpenFiles is the most files that each process may have open. 0 means as many as this program.
	MaxOpenFiles int
	// NoCoreDumps keeps crashes from writing memory to disk.
	NoCoreDumps bool
	// User is the user of the process. Nil means the user of this program. Another user needs root.
	User *User
	// Namespaces are the process's own. They need root.
	Namespaces Namespaces
	// OwnTempDir says that nobody else uses TempDir, so that every process with that TMPDIR belongs to
	// this pool.
	OwnTempDir bool
}

// User is a user with its groups, as numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32
	// Alone says that nobody else runs as this user, so that all its processes belong to the pool.
	Alone bool
}

// Namespaces is a set of namespaces, see namespaces(7).
type Namespaces uint8

const (
	// PIDNamespace hides the numbers of other processes. When its first process ends, all others in it
	// end.
	PIDNamespace Namespaces = 1 << iota
	// IPCNamespace has its own System V and POSIX message queues, semaphores and shared memory.
	IPCNamespace
	// NetworkNamespace has no network, not even loopback.
	NetworkNamespace
)

// Line is a line, or a part of a long line, that a process wrote to its standard error.
type Line struct {
	PID   int
	Text  []byte // without its newline; valid only during the call
	Later bool   // not the first part of its line
	More  bool   // not the last part: the line is longer than 4 KiB
}

func (c *Config) setDefaults() error {
	if c.Path == "" {
		return faas.Errorf(faas.ErrInvalidArgument, "start", c.Provider, "the path of the job binary is empty")
	}
	if c.MaxConcurrency <= 0 {
		c.MaxConcurrency = 100
	}
	if c.MaxQueue <= 0 {
		c.MaxQueue = 1000
	}
	if c.MaxWorkers <= 0 {
		c.MaxWorkers = max(2, runtime.NumCPU())
	}
	c.MinWorkers = min(c.MinWorkers, c.MaxWorkers)
	if c.StartTimeout <= 0 {
		c.StartTimeout = 10 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 250 * time.Millisecond
	}
	if c.MaxOutput <= 0 {
		c.MaxOutput = 32 << 20
	}
	if c.TempDir == "" {
		c.TempDir = c.Dir
	}
	if c.Mark == "" {
		c.Mark = proctree.New()
	}
	if c.Provider == "" {
		c.Provider = "local"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
