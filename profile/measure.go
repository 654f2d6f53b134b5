// Package profile measures how long the jobs of a blueprint's binary take and how much memory they
// use, and writes the results for deployments and for the chain.
//
// [Measure] runs the jobs. Write the [Set] that it returns beside the binary, where
// [serverless.FetchMetadata] finds it, or register it on chain. serverless.Deploy
// never puts a job without a profile on FaaS.
package profile

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
	"github.com/tangle-network/blueprint-serverless/internal/profiles"
	"github.com/tangle-network/blueprint-serverless/profile/internal/procstat"
)

const profileOp = "profile"

// Option configures [Measure].
type Option func(*options)

type options struct {
	runs, warmups int
	env           map[string]string
	stateful      []uint32
	persistent    []uint32
	timeout       time.Duration
	progress      func(Progress)
	name          string
	execution     *serverless.ExecutionProfile
}

// WithRuns sets how many runs of each job are measured, at least 1. The default is 10. A job with
// more inputs than that runs once with each input.
func WithRuns(n int) Option { return func(o *options) { o.runs = n } }

// WithWarmups sets how many runs of each job precede the measured ones, to fill the machine's
// caches. The default is 2.
func WithWarmups(n int) Option { return func(o *options) { o.warmups = n } }

// WithEnv adds variables to the environment of the jobs.
func WithEnv(env map[string]string) Option {
	return func(o *options) {
		if o.env == nil {
			o.env = map[string]string{}
		}
		maps.Copy(o.env, env)
	}
}

// WithStateful declares that jobs keep state between invocations, which cannot be measured.
func WithStateful(jobIDs ...uint32) Option {
	return func(o *options) { o.stateful = append(o.stateful, jobIDs...) }
}

// WithPersistentConnections declares that jobs keep connections open between invocations, which
// cannot be measured.
func WithPersistentConnections(jobIDs ...uint32) Option {
	return func(o *options) { o.persistent = append(o.persistent, jobIDs...) }
}

// WithTimeout sets how long a single run may take. The default is 5 minutes.
func WithTimeout(d time.Duration) Option {
	return func(o *options) { o.timeout = d }
}

// WithProgress sets a function that [Measure] calls after every run, from the caller's goroutine.
func WithProgress(f func(Progress)) Option {
	return func(o *options) { o.progress = f }
}

// WithName sets the blueprint's name. The default is the name of the binary's file.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithExecution declares where the jobs may run. It goes into [Set.OnChain].
func WithExecution(e serverless.ExecutionProfile) Option {
	return func(o *options) { o.execution = &e }
}

// Progress describes a run that has ended.
type Progress struct {
	JobID        uint32
	Run, Runs    int // of this job, from 1, warm-ups included
	Warmup       bool
	Duration     time.Duration
	PeakMemoryMB uint32 // MiB
}

// Measure runs the jobs of a binary and measures their durations and memory. inputs holds the
// arguments for each job to be profiled. Successive runs take successive inputs, starting over at
// the end; an empty list means one input without arguments. Choose inputs as demanding as the real
// ones, because the profile decides where a job runs.
//
// Each run is a process of its own. It gets one request, {"job_id":n,"args":[...]}, on its standard
// input, and answers {"result":[...]} on its standard output, as every job binary can. Runs follow
// each other, so that none disturbs another. The process sees PATH, HOME, the directory for
// temporary files and the variables of [WithEnv], and nothing else of this program's environment. A
// program that links faas/job and is also a runner knows from job.Requested that it is to run a
// job.
//
// Durations include the start of the process: an invocation that finds no warm instance takes that
// long, and a timeout has to allow it. Measure does not trust the duration that a job reports.
// Percentiles are by nearest rank, and all figures are rounded up. Memory is the largest resident
// size of the process or of any of its children in any run, as the operating system reports it.
// Only the author can declare state and persistent connections.
//
// Errors are *faas.Error: ErrNotFound for a binary that does not exist; ErrInvalidArgument for
// invalid options and ids; ErrFunctionFailed if a job fails, with a *faas.FunctionError that holds
// the end of its standard error; ErrTimeout if a run takes too long or ctx is done; ErrUnsupported
// if the operating system does not report the memory of a process. When Measure returns, all
// processes have ended, and so has everything they started and did not detach. On Windows, children
// of a killed process live on.
func Measure(ctx context.Context, binary string, inputs map[uint32][][]byte, opts ...Option) (*Set,
	error) {
	o := options{runs: 10, warmups: 2, timeout: 5 * time.Minute}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if err := o.check(inputs); err != nil {
		return nil, err
	}
	path, err := binaryPath(binary)
	if err != nil {
		return nil, err
	}
	file, err := faas.InspectBinary(path)
	if err != nil {
		return nil, err
	}
	p := &Set{
		BlueprintName: cmp.Or(o.name, profiles.BlueprintName(path)), ProfiledAt: time.Now().UTC().Truncate(time.Second),
		BinarySHA256: file.SHA256,
		Jobs:         map[uint32]serverless.JobProfile{}, Execution: o.execution,
	}
	spec := procstat.Spec{Path: path, Env: o.environment(), Timeout: o.timeout, MaxOutput: maxProfiledOutput}
	for _, id := range slices.Sorted(maps.Keys(inputs)) {
		job, err := o.profileJob(ctx, spec, id, inputs[id])
		if err != nil {
			return nil, err
		}
		job.Stateful, job.PersistentConnections = slices.Contains(o.stateful, id), slices.Contains(o.persistent, id)
		p.Jobs[id] = job
	}
	return p, nil
}

// maxProfiledOutput exceeds the answer to the largest payload of any provider except Azure.
const maxProfiledOutput = 64 << 20

func (o *options) check(inputs map[uint32][][]byte) error {
	invalid := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, profileOp, "", format, args...)
	}
	switch {
	case len(inputs) == 0:
		return invalid("there is no job to profile: inputs is empty")
	case o.runs < 1:
		return invalid("WithRuns(%d): at least 1 run has to be measured", o.runs)
	case o.warmups < 0:
		return invalid("WithWarmups(%d): the number is negative", o.warmups)
	case o.timeout <= 0:
		return invalid("WithTimeout(%v): a run needs time", o.timeout)
	}
	if o.execution != nil {
		if err := encodable(*o.execution).Check(); err != nil {
			return invalid("WithExecution: %w", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(inputs)) {
		if id >= profiles.MaxJobs {
			return invalid("job %d: a blueprint has at most %d jobs, with the ids 0 to %d", id, profiles.MaxJobs,
				profiles.MaxJobs-1)
		}
	}
	for _, declared := range []struct {
		option string
		ids    []uint32
	}{{"WithStateful", o.stateful}, {"WithPersistentConnections", o.persistent}} {
		for _, id := range declared.ids {
			if _, ok := inputs[id]; !ok {
				return invalid("%s names job %d, for which there is no input", declared.option, id)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(o.env[name], "\x00") {
			return invalid("WithEnv: the variable %q has an impossible name or value", name)
		}
	}
	return nil
}

func binaryPath(binary string) (string, error) {
	path, err := filepath.Abs(binary) // a bare name is a file here, not a command to be looked for
	if err != nil {
		return "", faas.Errorf(faas.ErrInternal, profileOp, "", "%w", err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", faas.Errorf(faas.ErrNotFound, profileOp, "", "binary %s does not exist: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return "", faas.Errorf(faas.ErrPermissionDenied, profileOp, "", "binary: %w", err)
	case err != nil:
		return "", faas.Errorf(faas.ErrInternal, profileOp, "", "binary: %w", err)
	case !info.Mode().IsRegular():
		return "", faas.Errorf(faas.ErrInvalidArgument, profileOp, "", "binary %s is not a regular file", path)
	}
	return path, nil
}

// environment returns the variables that the jobs see, including the one that tells a runner to run
// a job instead. It inherits little: K_SERVICE, for example, would make a job binary speak another
// protocol.
func (o *options) environment() []string {
	env := []string{frame.Env + "=" + frame.Stdio}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TMP", "TEMP", "USERPROFILE", "SystemRoot"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.env)) {
		env = append(env, name+"="+o.env[name]) // of two with one name the last counts
	}
	return env
}

// profileJob measures one job.
func (o *options) profileJob(
	ctx context.Context, spec procstat.Spec, id uint32, inputs [][]byte,
) (serverless.JobProfile, error) {
	if len(inputs) == 0 {
		inputs = [][]byte{nil}
	}
	measured := max(o.runs, len(inputs))
	total := o.warmups + measured
	durations := make([]time.Duration, 0, measured)
	var peak memoryPeak
	for run := range total {
		warmup := run < o.warmups
		input := inputs[run%len(inputs)]
		if !warmup {
			input = inputs[(run-o.warmups)%len(inputs)]
		}
		spec.Input = faas.AppendRequest(spec.Input[:0], id, input)
		usage, err := procstat.Run(ctx, spec)
		if err == nil {
			err = checkAnswer(usage, id)
		}
		if err != nil {
			return serverless.JobProfile{}, runError(err, usage, id, run+1, total)
		}
		if usage.PeakMemory == 0 {
			return serverless.JobProfile{}, faas.JobErrorf(faas.ErrUnsupported, profileOp, "", id,
				"this operating system does not tell how much memory a process took")
		}
		if !warmup {
			durations = append(durations, usage.Duration)
			peak.add(usage)
		}
		if o.progress != nil {
			o.progress(Progress{
				JobID: id, Run: run + 1, Runs: total, Warmup: warmup, Duration: usage.Duration,
				PeakMemoryMB: mebibytes(usage.PeakMemory),
			})
		}
	}
	job := summarise(durations)
	job.PeakMemoryMB = mebibytes(peak.bytes())
	return job, nil
}

// memoryPeak finds the largest of several measurements. Upper bounds count only if every
// measurement is one, which means that every run was too short to use much: then the smallest bound
// is nearest to the truth.
type memoryPeak struct{ measured, bound uint64 }

func (p *memoryPeak) add(u procstat.Usage) {
	switch {
	case !u.UpperBound:
		p.measured = max(p.measured, u.PeakMemory)
	case p.bound == 0 || u.PeakMemory < p.bound:
		p.bound = u.PeakMemory
	}
}

func (p *memoryPeak) bytes() uint64 {
	if p.measured > 0 {
		return p.measured
	}
	return p.bound
}

// checkAnswer returns an error unless the job did its work.
func checkAnswer(usage procstat.Usage, id uint32) error {
	var answer faas.Response
	if err := faas.ParseResponse(usage.Output, &answer); err != nil {
		return &faas.FunctionError{Type: "protocol", Message: "its answer is not one: " + err.Error(), LogTail: usage.Stderr}
	}
	if !answer.Success {
		return &faas.FunctionError{Type: "error", Message: answer.Error, LogTail: usage.Stderr}
	}
	if answer.JobID != 0 && answer.JobID != id { // 0 also stands for an answer that does not say
		return &faas.FunctionError{Type: "protocol", Message: "it answered for another job", LogTail: usage.Stderr}
	}
	return nil
}

// runError gives the error that ended a run its code.
func runError(err error, usage procstat.Usage, id uint32, run, total int) error {
	code := faas.ErrInternal
	var function *faas.FunctionError
	var exit *exec.ExitError
	switch {
	case errors.As(err, &function):
		code = faas.ErrFunctionFailed
	case errors.Is(err, procstat.ErrTimeout):
		return faas.JobErrorf(faas.ErrTimeout, profileOp, "", id, "run %d of %d: %w; WithTimeout gives it longer",
			run, total, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = faas.ErrTimeout
	case errors.Is(err, procstat.ErrOutput):
		code = faas.ErrTooLarge
	case errors.As(err, &exit):
		code = faas.ErrFunctionFailed
		failure := &faas.FunctionError{Type: "exit", ExitCode: exit.ExitCode(), LogTail: usage.Stderr}
		if exit.ExitCode() < 0 { // a signal
			failure.Type, failure.ExitCode, failure.Message = "killed", 0, exit.ProcessState.String()
		}
		err = failure
	case errors.Is(err, fs.ErrPermission):
		code = faas.ErrPermissionDenied
	case errors.As(err, new(*fs.PathError)): // such as a format that cannot be executed here
		code = faas.ErrInvalidArgument
	}
	return faas.JobErrorf(code, profileOp, "", id, "run %d of %d: %w", run, total, err)
}

// summarise computes the mean and percentiles of at least one duration. It sorts durations.
func summarise(durations []time.Duration) serverless.JobProfile {
	slices.Sort(durations)
	var sum time.Duration
	for _, d := range durations {
		sum += d
	}
	return serverless.JobProfile{
		AvgDurationMS: wholeMS(sum / time.Duration(len(durations))),
		P95DurationMS: wholeMS(percentile(durations, 95)),
		P99DurationMS: wholeMS(percentile(durations, 99)),
		SampleSize:    uint32(min(len(durations), math.MaxUint32)),
	}
}

// percentile returns the value by nearest rank: the smallest that at least p of 100 values do not
// exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

// wholeMS rounds up, so that a duration above a limit never becomes equal to it.
func wholeMS(d time.Duration) uint64 {
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

func mebibytes(bytes uint64) uint32 {
	return uint32(min(bytes>>20+min(bytes&(1<<20-1), 1), math.MaxUint32))
}
