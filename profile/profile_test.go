package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/profiles"
	"github.com/tangle-network/blueprint-serverless/profile/internal/procstat"
)

// profiledJobEnv makes the test binary behave as a job binary.
const profiledJobEnv = "SERVERLESS_TEST_PROFILED_JOB"

func init() {
	if os.Getenv(profiledJobEnv) != "" {
		runProfiledJob()
		os.Exit(0)
	}
}

// The jobs of the test binary.
const (
	jobEcho = iota
	jobSleep
	jobTake
	jobFail
	jobExit
	jobGarbage
	jobHang
	jobBare
	jobOther
)

func runProfiledJob() {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	id, args, err := faas.ParseRequest(nil, body)
	if err != nil {
		panic(err)
	}
	answer := &faas.Response{JobID: id, Success: true, Result: args}
	switch id {
	case jobSleep:
		time.Sleep(time.Duration(args[0]) * time.Millisecond)
	case jobTake:
		held := make([]byte, int(args[0])<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		time.Sleep(10 * time.Millisecond)
		runtime.KeepAlive(held)
	case jobFail:
		answer.Success, answer.Error = false, "no such square"
	case jobExit:
		fmt.Fprintln(os.Stderr, "first line\nlast line")
		os.Exit(3)
	case jobGarbage:
		fmt.Print("Hello, world")
		return
	case jobHang:
		time.Sleep(time.Hour)
	case jobBare:
		fmt.Print(`{"result":[1,2,3]}`)
		return
	case jobOther:
		answer.JobID = 99
	}
	os.Stdout.Write(faas.AppendResponse(nil, answer))
}

func profileSelf(t *testing.T, inputs map[uint32][][]byte, opts ...Option) (*Set, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := WithEnv(map[string]string{profiledJobEnv: "1", "GORACE": "atexit_sleep_ms=0"})
	return Measure(t.Context(), self, inputs, append([]Option{env}, opts...)...)
}

func TestProfileJobsMeasuresProcesses(t *testing.T) {
	var seen []Progress
	p, err := profileSelf(t, map[uint32][][]byte{jobEcho: nil, jobSleep: {{20}, {60}}, jobTake: {{48}}, jobBare: {{1}}},
		WithRuns(4), WithWarmups(1), WithStateful(jobSleep), WithPersistentConnections(jobSleep, jobBare),
		WithName("sample"),
		WithProgress(func(p Progress) { seen = append(seen, p) }))
	if err != nil {
		t.Fatal(err)
	}
	if p.BlueprintName != "sample" || p.ProfiledAt.IsZero() || len(p.Jobs) != 4 {
		t.Errorf("profiles = %+v", p)
	}
	for id, job := range p.Jobs {
		if job.SampleSize != 4 || job.PeakMemoryMB < 1 || job.AvgDurationMS < 1 ||
			job.AvgDurationMS > job.P95DurationMS || job.P95DurationMS > job.P99DurationMS {
			t.Errorf("job %d: %+v", id, job)
		}
		if job.Stateful != (id == jobSleep) || job.PersistentConnections != (id == jobSleep || id == jobBare) {
			t.Errorf("job %d: %+v, with declarations that are not its own", id, job)
		}
	}
	if job := p.Jobs[jobSleep]; job.AvgDurationMS < 40 || job.P95DurationMS < 60 {
		t.Errorf("sleeps of 20 and 60 ms became %+v", job)
	}
	if job := p.Jobs[jobTake]; job.PeakMemoryMB < 48 || job.PeakMemoryMB > 500 { // the race detector multiplies it
		t.Errorf("48 MiB became %+v", job)
	}
	if len(seen) != 4*5 {
		t.Fatalf("%d runs were reported", len(seen))
	}
	for i, run := range seen {
		wantJob := []uint32{jobEcho, jobSleep, jobTake, jobBare}[i/5]
		if run.JobID != wantJob || run.Run != i%5+1 || run.Runs != 5 || run.Warmup != (i%5 == 0) || run.Duration <= 0 ||
			run.PeakMemoryMB < 1 {
			t.Errorf("run %d: %+v", i, run)
		}
	}
}

func TestProfileJobsUsesEveryInput(t *testing.T) {
	p, err := profileSelf(t, map[uint32][][]byte{jobSleep: {{0}, {0}, {50}}}, WithRuns(1), WithWarmups(0))
	if err != nil {
		t.Fatal(err)
	}
	if job := p.Jobs[jobSleep]; job.SampleSize != 3 || job.P95DurationMS < 50 {
		t.Errorf("three inputs became %+v", job)
	}
}

func TestProfileJobsReportsWhatFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		job  uint32
		opts []Option
		code faas.Code
		want string
		fn   *faas.FunctionError
	}{
		"error answer": {
			jobFail, nil, faas.ErrFunctionFailed, "faas: profile: job 3: run 1 of 12: function failed (error): no such square",
			&faas.FunctionError{Type: "error", Message: "no such square"},
		},
		"exit code": {
			jobExit, nil, faas.ErrFunctionFailed, "faas: profile: job 4: run 1 of 12: function failed (exit) (exit code 3); " +
				"last log line: last line",
			&faas.FunctionError{Type: "exit", ExitCode: 3, LogTail: "first line\nlast line\n"},
		},
		"no answer": {jobGarbage, nil, faas.ErrFunctionFailed,
			"job 5: run 1 of 12: function failed (protocol): its answer is not one", nil},
		"too slow": {jobHang, []Option{WithTimeout(200 * time.Millisecond)}, faas.ErrTimeout,
			"after 200ms); WithTimeout gives it longer", nil},
		"another's answer": {jobOther, nil, faas.ErrFunctionFailed, "it answered for another job", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := profileSelf(t, map[uint32][][]byte{tc.job: nil}, tc.opts...)
			if p != nil || faas.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("profiles %v, error %v, want a %q with %q", p, err, tc.code, tc.want)
			}
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.JobID != int64(tc.job) {
				t.Errorf("error %#v does not name job %d", err, tc.job)
			}
			var fn *faas.FunctionError
			if tc.fn != nil && errors.As(err, &fn) {
				if diff := cmp.Diff(tc.fn, fn); diff != "" {
					t.Error(diff)
				}
			} else if tc.fn != nil {
				t.Errorf("no cause in %v", err)
			}
		})
	}
}

func TestProfileJobsEndsWithItsContext(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	env := WithEnv(map[string]string{profiledJobEnv: "1"})
	// The second job starts after the first has run, and never ends by itself.
	_, err = Measure(ctx, self, map[uint32][][]byte{jobEcho: nil, jobHang: nil}, env, WithRuns(1), WithWarmups(0),
		WithProgress(func(Progress) { time.AfterFunc(50*time.Millisecond, cancel) }))
	if !errors.Is(err, context.Canceled) || faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("error = %v", err)
	}
}

func TestProfileJobsChecksBeforeItRuns(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "text")
	if err := os.WriteFile(file, []byte("not a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	one := map[uint32][][]byte{1: nil}
	for name, tc := range map[string]struct {
		binary string
		inputs map[uint32][][]byte
		opts   []Option
		code   faas.Code
		want   string
	}{
		"no input":          {file, nil, nil, faas.ErrInvalidArgument, "inputs is empty"},
		"no run":            {file, one, []Option{WithRuns(0)}, faas.ErrInvalidArgument, "WithRuns(0)"},
		"negative warm-ups": {file, one, []Option{WithWarmups(-1)}, faas.ErrInvalidArgument, "WithWarmups(-1)"},
		"no time": {file, one, []Option{WithTimeout(0)}, faas.ErrInvalidArgument,
			"WithTimeout(0s)"},
		"id too high": {file, map[uint32][][]byte{256: nil}, nil, faas.ErrInvalidArgument,
			"job 256: a blueprint has at most 256 jobs"},
		"stateful stranger": {file, one, []Option{WithStateful(2)}, faas.ErrInvalidArgument,
			"WithStateful names job 2"},
		"connected stranger": {file, one, []Option{WithPersistentConnections(0)}, faas.ErrInvalidArgument,
			"WithPersistentConnections names job 0"},
		"environment": {file, one, []Option{WithEnv(map[string]string{"A=B": "secret"})},
			faas.ErrInvalidArgument, `variable "A=B"`},
		"execution profile": {file, one, []Option{WithExecution(serverless.ExecutionProfile{Confidentiality: "tee"})},
			faas.ErrInvalidArgument, `confidentiality "tee" is none of any, tee_required`},
		"GPU policy": {file, one, []Option{
			WithExecution(serverless.ExecutionProfile{GPU: serverless.GPURequirement{Policy: "x"}})}, faas.ErrInvalidArgument,
			`GPU policy "x" is none of none, required, preferred`},
		"missing binary":    {filepath.Join(dir, "none"), one, nil, faas.ErrNotFound, "does not exist"},
		"directory":         {dir, one, nil, faas.ErrInvalidArgument, "is not a regular file"},
		"not an executable": {file, one, nil, faas.ErrInvalidArgument, "run 1 of 12"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Measure(t.Context(), tc.binary, tc.inputs, append(tc.opts, nil)...)
			if p != nil || faas.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.want) ||
				strings.Contains(err.Error(), "secret") {
				t.Errorf("profiles %v, error %v, want a %q with %q", p, err, tc.code, tc.want)
			}
		})
	}
}

func sample() *Set {
	return &Set{BlueprintName: "chain-sample", ProfiledAt: time.Date(2026, 8, 20, 10, 0, 0, 123456789, time.UTC),
		Jobs: map[uint32]serverless.JobProfile{
			0: {AvgDurationMS: 5, P95DurationMS: 8, P99DurationMS: 10, PeakMemoryMB: 256, SampleSize: 10},
			1: {AvgDurationMS: 1450, P95DurationMS: 2100, P99DurationMS: 2600, PeakMemoryMB: 1024, Stateful: true,
				SampleSize: 20},
			2: {AvgDurationMS: 420000, P95DurationMS: 910000, P99DurationMS: 930000, PeakMemoryMB: 12288,
				PersistentConnections: true, SampleSize: 3},
		}}
}

func TestWrittenProfilesAreRead(t *testing.T) {
	t.Setenv(serverless.ContractEnv, "")
	t.Setenv(serverless.ContractFallbackEnv, "")
	p := sample()
	p.Execution = &serverless.ExecutionProfile{Confidentiality: "tee_required",
		GPU: serverless.GPURequirement{Policy: "required", MinCount: 2, MinVRAMGB: 40}}
	binary := filepath.Join(t.TempDir(), "release", "x")
	if err := p.WriteFile(serverless.ProfilesPath(binary)); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(serverless.ProfilesPath(binary))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteFile(serverless.ProfilesPath(binary)); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(serverless.ProfilesPath(binary)); err != nil || !bytes.Equal(first, second) {
		t.Errorf("the same profiles gave other bytes: %v", err)
	}
	meta, err := serverless.FetchMetadata(t.Context(), 1, serverless.WithBinary(binary))
	if err != nil {
		t.Fatal(err)
	}
	read := map[uint32]serverless.JobProfile{}
	for _, job := range meta.Jobs {
		if job.ProfileSource == serverless.ProfileFromFile {
			read[job.ID] = *job.Profile
		}
	}
	if diff := cmp.Diff(p.Jobs, read); diff != "" {
		t.Error("by the file:\n" + diff)
	}

	onChain, err := p.OnChain()
	if err != nil {
		t.Fatal(err)
	}
	description, err := p.Description()
	if err != nil {
		t.Fatal(err)
	}
	decoded, execution, warnings, err := profiles.DecodeProfilingData(onChain, len(p.Jobs))
	if diff := cmp.Diff(p.set().Jobs, decoded.Jobs); diff != "" || err != nil || warnings != nil {
		t.Errorf("by the chain: %v, warnings %q\n%s", err, warnings, diff)
	}
	if diff := cmp.Diff(encodable(*p.Execution), execution); diff != "" {
		t.Error("the execution profile:\n" + diff)
	}
	decoded, found, warnings, err := profiles.DecodeDescription(description, len(p.Jobs))
	if diff := cmp.Diff(p.set().Jobs, decoded.Jobs); diff != "" || !found || err != nil || warnings != nil {
		t.Errorf("by the description: %v, warnings %q\n%s", err, warnings, diff)
	}

	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Set
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, &back); diff != "" {
		t.Error("does not read back equal:\n" + diff)
	}
}

func TestProfilesAreMergedByJob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	before := sample() // job 1 is stateful, job 2 has persistent connections
	before.BinarySHA256 = strings.Repeat("0f", 32)
	if err := before.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	older, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, older); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
	now := &Set{BlueprintName: "now", Jobs: map[uint32]serverless.JobProfile{
		1: {AvgDurationMS: 7, PersistentConnections: true}, 3: {AvgDurationMS: 9},
	}}
	added := now.Merge(older)
	if diff := cmp.Diff([]uint32{0, 2}, added); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	want := &Set{BlueprintName: "now", Jobs: map[uint32]serverless.JobProfile{
		0: before.Jobs[0], 1: {AvgDurationMS: 7, Stateful: true, PersistentConnections: true}, 2: before.Jobs[2],
		3: {AvgDurationMS: 9},
	}}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

func TestProfilesThatCannotBeReadWithoutALoss(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		content string
		code    faas.Code
	}{
		"none":       {"", faas.ErrNotFound},
		"no JSON":    {"{", faas.ErrInvalidArgument},
		"broken job": {`{"jobs":{"0":{"avg_duration_ms":1}}}`, faas.ErrInvalidArgument},
	} {
		path := filepath.Join(dir, name)
		if tc.content != "" {
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := Read(path); faas.CodeOf(err) != tc.code || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %+v, %v, want %s", name, p, err, tc.code)
		}
	}
}

func TestProfilesNameTheFileThatWasMeasured(t *testing.T) {
	p, err := profileSelf(t, map[uint32][][]byte{jobEcho: nil}, WithRuns(1), WithWarmups(0))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := faas.InspectBinary(self)
	if err != nil || p.BinarySHA256 != file.SHA256 {
		t.Errorf("the profiles name %q, and the file is %q: %v", p.BinarySHA256, file.SHA256, err)
	}
	if text, err := p.OnChain(); err != nil {
		t.Error(err)
	} else if set, _, _, err := profiles.DecodeProfilingData(text, 1); err != nil || set.BinarySHA256 != "" ||
		len(set.Jobs) != 1 {
		t.Errorf("on chain: %+v, %v", set, err)
	}
}

func TestProfilesThatCannotBeWritten(t *testing.T) {
	p := sample()
	if err := p.WriteFile(filepath.Join(t.TempDir(), "none", "f")); faas.CodeOf(err) != faas.ErrInternal ||
		!errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	p.Execution = &serverless.ExecutionProfile{Confidentiality: "x"}
	if _, err := p.OnChain(); faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Errorf("unknown confidentiality: %v", err)
	}
	p.Jobs[256] = serverless.JobProfile{}
	path := filepath.Join(t.TempDir(), "f")
	if err := p.WriteFile(path); faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), "job 256") {
		t.Errorf("id too high: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written nevertheless: %v", err)
	}
	if _, err := p.Description(); faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Errorf("id too high: %v", err)
	}
}

func TestPercentilesAreByNearestRankAndRoundedUp(t *testing.T) {
	durations := func(n int) []time.Duration {
		var list []time.Duration
		for i := n; i >= 1; i-- { // in no helpful order
			list = append(list, time.Duration(i)*time.Millisecond-time.Microsecond)
		}
		return list
	}
	for n, want := range map[int]serverless.JobProfile{
		1:    {AvgDurationMS: 1, P95DurationMS: 1, P99DurationMS: 1, SampleSize: 1},
		10:   {AvgDurationMS: 6, P95DurationMS: 10, P99DurationMS: 10, SampleSize: 10},
		20:   {AvgDurationMS: 11, P95DurationMS: 19, P99DurationMS: 20, SampleSize: 20},
		100:  {AvgDurationMS: 51, P95DurationMS: 95, P99DurationMS: 99, SampleSize: 100},
		1000: {AvgDurationMS: 501, P95DurationMS: 950, P99DurationMS: 990, SampleSize: 1000},
	} {
		if got := summarise(durations(n)); got != want {
			t.Errorf("%d durations: %+v, want %+v", n, got, want)
		}
	}
}

func TestUpperBoundsOfMemoryCountOnlyAlone(t *testing.T) {
	for _, tc := range []struct {
		usages []procstat.Usage
		want   uint64
	}{
		{[]procstat.Usage{{PeakMemory: 5}, {PeakMemory: 7}, {PeakMemory: 6}}, 7},
		{[]procstat.Usage{{PeakMemory: 5}, {PeakMemory: 900, UpperBound: true}}, 5},
		{[]procstat.Usage{{PeakMemory: 900, UpperBound: true}, {PeakMemory: 9, UpperBound: true},
			{PeakMemory: 10, UpperBound: true}}, 9},
	} {
		var peak memoryPeak
		for _, u := range tc.usages {
			peak.add(u)
		}
		if got := peak.bytes(); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.usages, got, tc.want)
		}
	}
}

func TestJobsSeeOnlyTheirEnvironment(t *testing.T) {
	t.Setenv("SERVERLESS_TEST_SECRET", "x")
	t.Setenv("K_SERVICE", "x")
	t.Setenv("PATH", "/bin")
	o := options{env: map[string]string{"B": "2", "A": "1", "PATH": "/opt"}}
	env := strings.Join(o.environment(), "\n")
	if strings.Contains(env, "SECRET") || strings.Contains(env, "K_SERVICE") {
		t.Errorf("environment:\n%s", env)
	}
	if !strings.HasPrefix(env, "BLUEPRINT_JOB_PROTOCOL=stdio\nPATH=/bin\n") ||
		!strings.HasSuffix(env, "A=1\nB=2\nPATH=/opt") {
		t.Errorf("environment:\n%s", env)
	}
}
