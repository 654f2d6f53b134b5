package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// The exit codes of Main when it is not a job handler. See [job.Main] for those of a job handler.
const (
	exitDone   = 0 // stopped by a signal or by its host, the service is over, or the operator is registered
	exitFailed = 1 // it could not go on
	exitUsage  = 2 // the arguments or the environment are wrong
)

// Main makes a program a blueprint, and does not return. What the program becomes depends on how it
// is started:
//
//   - on a FaaS provider, and wherever else [job.Requested] is true, it is the job handler of
//     [job.Main];
//   - as "PROGRAM run" it is the runner, as the ecosystem's manager and package orchestrator start
//     it. The environment says what it runs for: see [ConfigFromEnv], and the output of --help.
//     Jobs that BLUEPRINT_FAAS_CONFIG names run in their functions, for which the program must
//     import the providers, and all others run here;
//   - with REGISTRATION_MODE_ON=true, or if the operator is not registered for the blueprint, it
//     registers the operator and ends;
//   - without arguments it answers one request on standard input, as [job.Main] does.
//
// A runner that [job.Offered] says was started by package orchestrator also answers the calls of
// its host, with the same handlers and within the same bounds. It is a runner without arguments
// too, if there is SERVICE_ID in its environment. Without SERVICE_ID it only answers calls.
//
// SIGINT and SIGTERM stop it: running jobs may end within the time of [WithGrace]. A second signal
// ends it at once. The exit code is 0 if it was stopped, if the service is over or if the operator
// was registered, 2 if the arguments or the environment are wrong, and 1 after any other error. The
// log goes to standard error, as JSON or, with --pretty, as text; nothing but the answer to --help,
// --version or --dry-run, or calls, is written to standard output.
func Main(h job.Handlers, opts ...Option) {
	start := startOf(os.Args[1:], os.LookupEnv)
	if start.kind == asJob {
		job.Main(h)
	}
	os.Exit(start.main(h, opts))
}

// kind is what a start of the program asks for.
type kind int

const (
	asJob kind = iota
	asRunner
	asHelp
	asVersion
	asMistake // start.err says which
)

// start is how the program was started.
type start struct {
	kind    kind
	offered bool // its host will call jobs
	err     error
	// The flags of run.
	testMode, pretty, dryRun bool
	verbosity                int
}

// startOf tells what the arguments and the environment ask for.
func startOf(args []string, lookup func(string) (string, bool)) (s start) {
	if job.Requested() {
		return start{kind: asJob}
	}
	s.offered = job.Offered()
	service, _ := lookup(serviceEnv)
	if s.offered && strings.TrimSpace(service) == "" {
		return start{kind: asJob, offered: true}
	}
	if len(args) == 0 {
		switch {
		case s.offered:
			s.kind = asRunner
		case interactive(os.Stdin):
			s.kind, s.err = asMistake, errors.New("there are no arguments, and nobody to send a request")
		}
		return s
	}
	mistake := func(format string, args ...any) start {
		return start{kind: asMistake, err: fmt.Errorf(format, args...)}
	}
	switch args[0] {
	case "--help", "-h", "help":
		return start{kind: asHelp}
	case "--version", "-V", "version":
		return start{kind: asVersion}
	case "run":
		s.kind = asRunner
	default:
		return mistake("unknown argument %s (known: run, --help, --version)", shown(args[0]))
	}
	for _, arg := range args[1:] {
		switch {
		case arg == "--test-mode":
			s.testMode = true
		case arg == "--pretty":
			s.pretty = true
		case arg == "--dry-run":
			s.dryRun = true
		case arg == "--verbose":
			s.verbosity++
		case len(arg) > 1 && strings.Trim(arg[1:], "v") == "" && arg[0] == '-':
			s.verbosity += len(arg) - 1
		case arg == "--help" || arg == "-h":
			return start{kind: asHelp}
		default:
			return mistake("unknown argument %s of run (known: --dry-run, --help, --pretty, --test-mode, -v, -vv)", shown(arg))
		}
	}
	return s
}

// interactive reports whether a person would have to type a request. The null device looks like a
// terminal otherwise.
func interactive(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// main does what the start asks for, and returns the exit code.
func (s start) main(h job.Handlers, opts []Option) int {
	name := filepath.Base(os.Args[0])
	switch s.kind {
	case asHelp:
		fmt.Print(usage(name))
		return exitDone
	case asVersion:
		fmt.Println(name, version())
		return exitDone
	case asMistake:
		fmt.Fprintf(os.Stderr, "%s: %v\n\n%s", name, s.err, usage(name))
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // so that a second signal ends the process
	err := s.run(ctx, h, opts)
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return exitDone
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	switch {
	case errors.Is(err, ErrServiceOver), errors.Is(err, ErrOperatorLeft):
		return exitDone
	case faas.CodeOf(err) == faas.ErrInvalidArgument, faas.CodeOf(err) == faas.ErrNotLinked:
		return exitUsage
	}
	return exitFailed
}

// run is the runner, or the registration.
func (s start) run(ctx context.Context, h job.Handlers, opts []Option) error {
	lookup, err := withSettingsFile(os.LookupEnv, settingsFile)
	if err != nil {
		return err
	}
	env, err := readSettings(lookup)
	if err != nil {
		return err
	}
	logger := newLogger(os.Stderr, s.pretty || env.pretty, s.verbosity)
	for _, note := range env.notes {
		logger.Warn(note)
	}
	opts = env.options(h, logger, opts)
	o := newOptions(opts)
	if s.dryRun {
		return env.dryRun(ctx, os.Stdout, o)
	}
	var background sync.WaitGroup
	defer background.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	switch {
	case s.testMode || env.testMode:
		logger.Debug("the manager's bridge is not called in test mode")
	case env.bridge == "":
		logger.Debug("there is no bridge of a manager to call", "variable", bridgeEnv)
	default:
		call := func(patience time.Duration) {
			if err := knock(ctx, env.bridge, patience, logger); err != nil && ctx.Err() == nil {
				logger.Error("the manager may count this start as failed", "error", err)
			}
		}
		if env.registration { // may end before anybody answers
			call(10 * time.Second)
		} else {
			background.Go(func() { call(bridgePatience) })
		}
	}
	if env.registration {
		return env.registerOnly(ctx, o)
	}
	functions, closeFunctions, err := faas.OpenRegistry(ctx, env.delegated, nil)
	if err != nil {
		return fmt.Errorf("the functions of %s: %w", faas.RunnerConfigEnv, err)
	}
	return errors.Join(s.work(ctx, stop, env, append(opts, WithFunctions(functions))), closeFunctions())
}

// work registers the operator or runs the runner. stop ends ctx.
func (s start) work(ctx context.Context, stop func(), env settings, opts []Option) error {
	r, err := New(env.Config, opts...)
	if err != nil {
		return err
	}
	if s.offered {
		answerHost(ctx, r.handlers(), stop, r.options.logger)
	}
	if done, err := env.registerFirst(ctx, r.options); done || err != nil {
		return err
	}
	return r.Run(ctx)
}

// answerHost answers the calls of the program that started this one, over standard input and
// output. When that ends the input, it wants the runner to stop.
func answerHost(ctx context.Context, h job.Handlers, stop func(), logger *slog.Logger) {
	// The offer is for this process, and not for processes that jobs start.
	offer, ok := os.LookupEnv(frame.Env)
	_ = os.Unsetenv(frame.Env)
	go func() { // reads standard input until the process ends
		defer stop()
		err := job.Run(ctx, h, job.WithEnv(func(name string) (string, bool) {
			if name == frame.Env {
				return offer, ok
			}
			return os.LookupEnv(name)
		}))
		if err != nil {
			logger.Error("calls of the host are not answered any more", "error", err)
			return
		}
		logger.Info("the host asks the runner to stop")
	}()
}

// options puts together what the author, the operator and the defaults say.
func (e settings) options(h job.Handlers, logger *slog.Logger, authors []Option) []Option {
	opts := append([]Option{WithHandlers(h), WithLogger(logger), WithHealth(defaultHealthAddr)}, authors...)
	if e.healthSet {
		opts = append(opts, WithHealth(e.health))
	}
	if e.operatorURL != "" {
		opts = append(opts, WithOperatorURL(e.operatorURL))
	}
	if e.maxLogRange > 0 {
		opts = append(opts, WithMaxLogRange(e.maxLogRange))
	}
	return opts
}

// newLogger makes the runner's log.
func newLogger(w io.Writer, pretty bool, verbosity int) *slog.Logger {
	level := slog.LevelInfo
	switch {
	case verbosity == 1:
		level = slog.LevelDebug
	case verbosity > 1:
		level = slog.LevelDebug - 4
	}
	o := &slog.HandlerOptions{Level: level}
	if pretty {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// usage is the answer to --help.
func usage(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `%[1]s runs a blueprint's jobs.

  %[1]s run         runs the jobs of a service until it is stopped
      --dry-run     says what it would do, and sends nothing
      --test-mode   does not call the manager's bridge
      --pretty      logs as text, not as JSON
      -v, -vv       logs more
  %[1]s             answers one request on standard input
  %[1]s --help      prints this
  %[1]s --version   prints the version

The environment, and below it a file %[2]s in the working directory, say what it runs for:

`, name, settingsFile)
	for _, v := range variables {
		fmt.Fprintf(&b, "  %-26s %s", v.name, v.shape)
		if v.fallback != "" {
			fmt.Fprintf(&b, " (%s)", v.fallback)
		}
		b.WriteByte('\n')
	}
	b.WriteString(`
The exit code is 0 if it was stopped, the service is over or the operator was registered, 2 if the
arguments or the environment are wrong, and 1 after another error.
`)
	return b.String()
}

// version names the program's version and the library's.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	const library = "github.com/tangle-network/blueprint-serverless"
	text := info.Main.Version
	for _, m := range info.Deps {
		if m.Path == library {
			text += fmt.Sprintf(" (%s %s)", library, m.Version)
		}
	}
	return text
}
