// Package worker runs a job binary in child processes: warm ones that speak frames and take many calls, or one process per call over
// standard input and output. The embedded platform and the local runner of a service stand on it.
package worker

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// Config says what a [Pool] runs and how.
type Config struct {
	// Path is the executable, Args its arguments without the program's name.
	Path string
	Args []string
	// Env is the whole environment of the processes ("NAME=value"), but for PATH, HOME and TMPDIR, which get safe values where Env lacks them, and
	// for marks. Nothing of the host's own environment is passed on. A process that is started for one call does not get faas.RunnerConfigEnv: it is not the runner.
	Env []string
	// Dir is the working directory. TempDir becomes HOME and TMPDIR; empty means Dir.
	Dir, TempDir string
	// Frames says that the binary speaks frames, so that a process stays and takes many calls. Else every call is a process that gets the
	// request's JSON on standard input and answers on standard output.
	Frames bool

	// Runner says that there is one process, which is a service's runner: frames are offered to it and not asked for, it may say hello at any time or never,
	// standard output that is something else is a log, and it is asked to end by a signal too. With MinWorkers of 1 it is kept running. See [Pool.AwaitHello].
	Runner bool

	// MemoryMB is the most memory that one process with its descendants may use, in MiB; 0 for no limit. See [Host.MemoryLimitKind].
	MemoryMB uint32
	// Confinement is what else a process may not do.
	Confinement
	// MaxConcurrency is how many calls run at the same time, and MaxQueue how many more may wait for that. 0 means 100 and 1000.
	MaxConcurrency, MaxQueue int
	// MaxWorkers is the most warm processes. 0 means the number of processors, at least 2.
	MaxWorkers int
	// MinWorkers is how many warm processes are kept alive, restarted with capped exponential back-off when they end. 0 means that processes are
	// started by calls alone.
	MinWorkers int
	// IdleTimeout is after how long without a call a warm process above MinWorkers is told to end; 0 means never.
	IdleTimeout time.Duration
	// StartTimeout is how long a warm process may take until it says hello. 0 means 10 seconds.
	StartTimeout time.Duration
	// Grace is how long a call that is out of time gets to answer its cancellation before its process is killed, and how long a process whose input
	// was closed gets to end. 0 means 250 milliseconds.
	Grace time.Duration
	// MaxOutput is the largest answer in bytes; a larger one is an ErrTooLarge. 0 means 32 MiB.
	MaxOutput int64
	// Budget is what large answers take their memory from before they are read: who gets an answer of Invoke gives back Counted of its length. An answer for which there is none
	// in time is an ErrThrottled, although its job has run. nil: they are not counted.
	Budget *Budget
	// SpoolDir is where answers on standard output wait in files until they are whole; empty: in memory.
	SpoolDir string

	// Log is called with every line of the processes' standard error, from one goroutine per process.
	Log func(Line)
	// Ended, unless it is nil, is called when a process was killed, or ended as it should not have, with how and why in a line.
	Ended  func(pid int, how string)
	Logger *slog.Logger // of the pool itself; nil: nothing is logged
	// Host starts the processes. nil: the pool has its own. Pools that live together should share one.
	Host *Host
	// Provider is what Error.Provider says. Empty: "local".
	Provider string

	// Mark is carried by the processes and all that they start, and by no others, so that it is found after it has left its group, its session and its parents.
	// Empty: a new one. What carries it is killed when this program is.
	Mark proctree.Mark
}

// Confinement bounds one process with its descendants. The zero value bounds nothing. It holds on Linux; other systems run processes as another user and no more.
type Confinement struct {
	// CPUs is how many processors' time it may use, where the host's control groups can say so; 0 for no limit.
	CPUs float64
	// MaxTasks is the most processes and threads; 0 for no limit. Where the host has no control groups for it, what has more is killed as soon as that is seen.
	MaxTasks int
	// MaxOpenFiles is the most files that each process may have open; 0 for as many as this program.
	MaxOpenFiles int
	// NoCoreDumps keeps crashes from writing the memory to disk.
	NoCoreDumps bool
	// User is who the process runs as; nil for who this program runs as. Another user needs root.
	User *User
	// Namespaces are what it has of its own. They need root.
	Namespaces Namespaces
	// OwnTempDir says that TempDir is nobody else's, so that processes whose TMPDIR it is are those of this pool.
	OwnTempDir bool
}

// User is a user with its groups, as numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32
	// Alone says that nobody else runs as this user: what does so belongs to the pool.
	Alone bool
}

// Namespaces is a set of namespaces, see namespaces(7).
type Namespaces uint8

const (
	// PIDNamespace hides the numbers of other processes, and ends all that are in it with the first.
	PIDNamespace Namespaces = 1 << iota
	// IPCNamespace has its own System V and POSIX message queues, semaphores and shared memory.
	IPCNamespace
	// NetworkNamespace has no network, not even loopback.
	NetworkNamespace
)

// Line is a line that a process wrote to its standard error, or a part of a long one.
type Line struct {
	PID   int
	Text  []byte // without its newline; only valid during the call
	Later bool   // it is not the first part of its line
	More  bool   // it is not the last part: the line is longer than 4 KiB
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
