package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// Handler runs one job. It gets the job's arguments and returns its output; both are opaque
// bytes. The handler owns args.
//
// ctx ends when nobody waits for the output any longer: at the call's deadline if its protocol
// has one, when the caller goes away, or when the process has to stop. A handler may run many
// times at once. What it prints goes to the process's log.
type Handler func(ctx context.Context, args []byte) ([]byte, error)

// Handlers are a program's jobs by their id.
type Handlers map[uint32]Handler

// ConcurrencyEnv is the environment variable that bounds how many calls a host may have in flight
// over frames, from 1 to 65536. If unset, the bound is 64, or four per processor if that is more.
const ConcurrencyEnv = "BLUEPRINT_JOB_CONCURRENCY"

// Environment variables that choose the protocol.
const (
	lambdaEnv       = "AWS_LAMBDA_RUNTIME_API"
	azurePortEnv    = "FUNCTIONS_CUSTOMHANDLER_PORT"
	cloudRunEnv     = "K_SERVICE"
	cloudRunPortEnv = "PORT"
)

// marker is the text that faas.InspectBinary looks for in an executable: the protocols, and the
// forms of payloads beyond the published one. The linker keeps all of it because the HTTP
// protocols answer GET / with its first part.
const (
	marker    = protocols + ";payloads/1:base64,raw"
	protocols = "blueprint-serverless/job/protocols/1:lambda,azure,http,frames,stdio"
)

// The errors that Run wraps. They decide the exit code of Main.
var (
	// ErrJobFailed means that a process on stdin and stdout ran its one job and the job failed. The
	// response says why.
	ErrJobFailed = errors.New("job failed")
	// ErrBadRequest means that stdin held no valid request, or one for a job that the program does
	// not have. The response says why.
	ErrBadRequest = errors.New("bad request")
)

// protocol is one way in which calls reach the process.
type protocol int

const (
	stdio protocol = iota
	frames
	awsLambda
	azure
	cloudRun
)

// choose returns the protocol that the environment asks for. Frames come first: only a host that
// started this very process sets their variable, while any process in a cloud may inherit the
// cloud's variables.
func choose(lookup func(string) (string, bool)) (protocol, error) {
	get := func(name string) string {
		value, _ := lookup(name)
		return value
	}
	version := get(frame.Env)
	switch offer, mine := frame.IsOffer(version); {
	case version == frame.Version, mine:
		return frames, nil
	case version == frame.Stdio:
		return stdio, nil
	case offer: // to the process that started this one
	case version != "":
		return 0, fmt.Errorf("%s asks for a protocol that this program does not know; it knows %q and %q", frame.Env,
			frame.Version, frame.Stdio)
	}
	switch {
	case get(lambdaEnv) != "":
		return awsLambda, nil
	case get(azurePortEnv) != "":
		return azure, nil
	case get(cloudRunEnv) != "" && get(cloudRunPortEnv) != "":
		return cloudRun, nil
	}
	return stdio, nil
}

// Requested reports whether the environment asks for one of the job protocols. It is false if
// Main would read one request from stdin because nothing asks for another protocol, since that
// looks like a plain start, and in a service's runner, which no host asks.
func Requested() bool {
	if Offered() {
		return false
	}
	p, err := choose(os.LookupEnv)
	return err != nil || p != stdio || os.Getenv(frame.Env) == frame.Stdio
}

// Offered reports whether a host started the program as a service's runner and will invoke local
// jobs through it if it answers. The runner may answer beside its own work, with Run on a
// goroutine; Main would do nothing else. Until then the program must not write to stdout.
func Offered() bool {
	_, mine := frame.IsOffer(os.Getenv(frame.Env))
	return mine
}

// Main serves the program's jobs by the protocol that the environment asks for, as listed in the
// package documentation, and then ends the process. It never returns, and ignores command-line
// arguments. The exit code is 0 if it served what it was asked to, 1 if the one job on stdin and
// stdout failed, and 2 on any other error, which it prints to stderr.
func Main(h Handlers) {
	// Cloud platforms announce the end of an instance with SIGTERM. os.Interrupt is for people who
	// try the HTTP protocols in a terminal.
	ctx := context.Background()
	if p, err := choose(os.LookupEnv); err == nil && (p == azure || p == cloudRun) {
		ctx, _ = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // for the rest of the process
	}
	// The host's request is meant for this process, and not for processes that jobs start.
	asked, ok := os.LookupEnv(frame.Env)
	if ok {
		_ = os.Unsetenv(frame.Env)
	}
	err := Run(ctx, h, WithEnv(func(name string) (string, bool) {
		if name == frame.Env {
			return asked, ok
		}
		return os.LookupEnv(name)
	}))
	if err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrJobFailed):
		return 1
	}
	return 2
}

// Option changes what [Run] uses in place of the process's own environment and streams.
type Option func(*process)

// WithEnv makes Run look up environment variables with a function. The Lambda protocol, which
// aws-lambda-go implements, reads the process's environment anyway.
func WithEnv(lookup func(name string) (string, bool)) Option {
	return func(p *process) { p.lookup = lookup }
}

// WithStreams makes Run use these streams, and leave the process's file descriptors alone.
func WithStreams(stdin io.Reader, stdout, stderr io.Writer) Option {
	return func(p *process) { p.stdin, p.stdout, p.stderr = stdin, stdout, stderr }
}

// process is one run of the program as a job handler.
type process struct {
	jobs        map[uint32]*job
	lookup      func(string) (string, bool)
	stdin       io.Reader // nil: the process's streams, which have to be taken over
	stdout      io.Writer
	stderr      io.Writer
	concurrency int
}

// Run is [Main] for tests, and for a program that ends in its own way. It returns nil when it has
// done all that was asked: on stdin and stdout after the answer, over frames at the end of the
// input, over HTTP when ctx is done and the calls in flight have ended. Over the Lambda Runtime
// API it does not return. Unless WithStreams is given, a protocol that uses stdin and stdout
// takes them from the program for good: afterwards stdin reads as empty, and what the program
// prints goes to stderr.
func Run(ctx context.Context, h Handlers, opts ...Option) error {
	p := &process{lookup: os.LookupEnv, stderr: os.Stderr, concurrency: max(64, 4*runtime.GOMAXPROCS(0)),
		jobs: make(map[uint32]*job, len(h))}
	for _, opt := range opts {
		if opt != nil {
			opt(p)
		}
	}
	for id, handler := range h {
		if handler != nil {
			p.jobs[id] = &job{id: id, handler: handler}
		}
	}
	if text, ok := p.lookup(ConcurrencyEnv); ok && text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			n = 0
		}
		p.concurrency = n
	}
	if p.concurrency < 1 || p.concurrency > 1<<16 {
		return fmt.Errorf("the concurrency (%s) is not a whole number from 1 to 65536", ConcurrencyEnv)
	}
	chosen, err := choose(p.lookup)
	if err != nil {
		return err
	}
	if (chosen == stdio || chosen == frames) && p.stdin == nil {
		if p.stdin, p.stdout, err = takeStreams(); err != nil {
			return fmt.Errorf("taking over stdin and stdout: %w", err)
		}
	}
	switch chosen {
	case frames:
		return p.serveFrames(ctx)
	case awsLambda:
		return p.serveLambda(ctx)
	case azure:
		return p.serveAzure(ctx)
	case cloudRun:
		return p.serveCloudRun(ctx)
	}
	return p.serveStdio(ctx)
}

// port reads a port number from an environment variable.
func (p *process) port(name string) (string, error) {
	text, _ := p.lookup(name)
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%s is not a port number from 1 to 65535", name)
	}
	return text, nil
}

// logf writes one message to stderr, in one write so that messages of concurrent calls do not mix.
func (p *process) logf(format string, args ...any) {
	_, _ = io.WriteString(p.stderr, fmt.Sprintf(format+"\n", args...)) // there is nowhere to report that the log is gone
}
