package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/profile"
)

const (
	serviceName = "example"
	blueprintID = 42
	warmCalls   = 20
)

// report is what happened, for -json.
type report struct {
	Provider    string                  `json:"provider"`
	Analysis    *serverless.Analysis    `json:"analysis,omitempty"`
	Deployments []serverless.Deployment `json:"deployments,omitempty"`
	Invocations []invocation            `json:"invocations,omitempty"`
	Warnings    []string                `json:"warnings,omitempty"`
	Removed     bool                    `json:"removed"`
	Error       string                  `json:"error,omitempty"`
}

type invocation struct {
	JobID  uint32        `json:"job_id"`
	Output []byte        `json:"output"`
	First  time.Duration `json:"first_ns"`
	Median time.Duration `json:"median_ns"`
}

func (r *report) writeJSON(out io.Writer, failed error) error {
	if failed != nil {
		r.Error = failed.Error()
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// story tells what happens, step by step.
type story struct {
	self  string // this program's executable
	out   io.Writer
	quiet bool
}

func (s *story) printf(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(s.out, format, args...)
	}
}

func (s *story) table(rows [][]string) {
	if s.quiet {
		return
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, "   "+strings.Join(row, "\t"))
	}
	w.Flush()
}

// tell runs the whole main job. When it returns, even with an error, it has removed everything that
// it started and deployed.
func (s *story) tell(ctx context.Context, policyFile, provider string) (_ *report, err error) {
	workspace, err := os.MkdirTemp("", "blueprint-example-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(workspace)) }()
	binary, err := s.layOut(workspace)
	if err != nil {
		return nil, err
	}

	policy, closePlatform, err := s.policy(workspace, policyFile, provider)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePlatform()) }()
	report := &report{Provider: policy.Serverless.Provider.Type}

	if err := s.profile(ctx, binary); err != nil {
		return report, err
	}
	meta, err := serverless.FetchMetadata(ctx, blueprintID, serverless.WithBinary(binary))
	if err != nil {
		return report, err
	}
	report.Warnings = meta.Warnings
	for i := range meta.Jobs {
		meta.Jobs[i].Name = jobNames[meta.Jobs[i].ID]
	}
	if report.Analysis, err = s.analyze(meta, policy); err != nil {
		return report, err
	}

	service, err := s.deploy(ctx, workspace, binary, policy, meta)
	if err != nil {
		return report, err
	}
	defer func() {
		// Ctrl-C ends ctx, and the removal has to run all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		start := time.Now()
		uerr := service.Undeploy(ctx)
		if report.Removed = uerr == nil; report.Removed {
			s.printf("6. Removed everything in %s. Nothing is left.\n", round(time.Since(start)))
		}
		err = errors.Join(err, uerr)
	}()
	report.Deployments = service.Deployments()
	report.Warnings = append(report.Warnings, service.Warnings()...)
	if report.Invocations, err = s.invoke(ctx, service); err != nil {
		return report, err
	}
	return report, nil
}

// layOut puts this program where a build of a blueprint puts its binary, so the library finds the
// profiles.
func (s *story) layOut(workspace string) (string, error) {
	dir := filepath.Join(workspace, "target", "release")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "blueprint")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if os.Link(s.self, binary) == nil {
		return binary, nil
	}
	return binary, copyFile(binary, s.self)
}

func copyFile(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	_, err = io.Copy(dst, src)
	return err
}

// policy loads the operator's policy. If the policy names the embedded platform, policy starts it,
// and the returned function stops it.
func (s *story) policy(workspace, file, provider string) (*serverless.Policy, func() error, error) {
	none := func() error { return nil }
	embedded := file == "" && (provider == "" || provider == faas.Custom)
	policy := serverless.DefaultPolicy()
	policy.Serverless.Enable = true
	stop := none
	if embedded {
		endpoint, stopPlatform, err := startPlatform()
		if err != nil {
			return nil, none, err
		}
		stop = stopPlatform
		policy.Serverless.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: endpoint}
		policy.Serverless.DefaultMemoryMB, policy.Serverless.DefaultTimeoutSecs = 256, 30
		policy.Serverless.FallbackToVM = false // this program wants to see it fail rather than to be spared
	}
	if file == "" {
		file = filepath.Join(workspace, "deployment-policy.json")
		if provider != "" && !embedded {
			policy.Serverless.Provider.Type = provider
			policy.Serverless.FallbackToVM = false
		}
		if err := policy.Save(serverless.WithPolicyPath(file)); err != nil {
			return nil, none, errors.Join(err, stop())
		}
	}
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(file))
	if err != nil {
		return nil, none, errors.Join(err, stop())
	}
	if provider != "" {
		policy.Serverless.Provider.Type = provider
	}
	where := policy.Serverless.Provider.Type
	if embedded {
		where += ", the embedded platform at " + policy.Serverless.Provider.Endpoint
	}
	s.printf("1. Policy loaded: serverless %s, provider %s.\n", onOff(policy.Serverless.Enable), where)
	return policy, stop, nil
}

// profile measures the blueprint's jobs, as its author would before publishing it.
func (s *story) profile(ctx context.Context, binary string) error {
	start := time.Now()
	profiles, err := profile.Measure(ctx, binary, map[uint32][][]byte{
		jobSquare: {encode(12)},
		jobHash:   {[]byte("blueprint")},
		jobTotal:  {encode(5)},
	}, profile.WithStateful(jobTotal))
	if err != nil {
		return err
	}
	if err := profiles.WriteFile(serverless.ProfilesPath(binary)); err != nil {
		return err
	}
	s.printf("2. Jobs profiled, each run in processes of its own (%s):\n", round(time.Since(start)))
	rows := [][]string{}
	for _, id := range slices.Sorted(maps.Keys(profiles.Jobs)) {
		p := profiles.Jobs[id]
		rows = append(rows, []string{
			fmt.Sprintf("job %d %s", id, jobNames[id]), fmt.Sprintf("p95 %d ms", p.P95DurationMS),
			fmt.Sprintf("peak %d MB", p.PeakMemoryMB),
			fmt.Sprintf("%d runs", p.SampleSize), map[bool]string{true: "stateful", false: "stateless"}[p.Stateful],
		})
	}
	s.table(rows)
	return nil
}

func (s *story) analyze(meta *serverless.Metadata, policy *serverless.Policy) (*serverless.Analysis, error) {
	analysis, err := serverless.AnalyzeFor(meta, policy.Serverless.Provider.Type, policy.Serverless.Enable)
	if err != nil {
		return nil, err
	}
	s.printf("3. Analysed: %s.\n", analysis.Strategy.Kind)
	rows := [][]string{}
	for _, job := range analysis.Jobs {
		verdict := []string{fmt.Sprintf("job %d %s", job.JobID, jobNames[job.JobID]), "on FaaS", "fits"}
		if !slices.Contains(analysis.Strategy.FaaSJobs, job.JobID) {
			reasons := make([]string, len(job.Reasons))
			for i, r := range job.Reasons {
				reasons[i] = r.String()
			}
			verdict[1], verdict[2] = "beside", strings.Join(reasons, "; ")
		}
		rows = append(rows, verdict)
	}
	s.table(rows)
	return analysis, nil
}

func (s *story) deploy(ctx context.Context, workspace, binary string, policy *serverless.Policy,
	meta *serverless.Metadata) (*serverless.Service, error) {
	start := time.Now()
	spec := serverless.ServiceSpec{Name: serviceName, BlueprintID: blueprintID, BinaryPath: binary}
	service, err := serverless.Deploy(ctx, spec, serverless.WithPolicy(policy), serverless.WithMetadata(meta),
		// a real program leaves it at its default, outside of what it removes
		serverless.WithStateDir(filepath.Join(workspace, "state")))
	if err != nil {
		return nil, err
	}
	s.printf("4. Deployed in %s:\n", round(time.Since(start)))
	rows := [][]string{}
	for _, d := range service.Deployments() {
		if d.Local {
			rows = append(rows, []string{fmt.Sprintf("job %d", d.JobID), "run by the local runner"})
			continue
		}
		rows = append(rows, []string{fmt.Sprintf("job %d", d.JobID),
			fmt.Sprintf("%s as %s (%d MB, %d s)", d.Action, d.Resource, d.MemoryMB, d.TimeoutSecs)})
	}
	s.table(rows)
	return service, nil
}

// invoke runs every job, and checks what it answers.
func (s *story) invoke(ctx context.Context, service *serverless.Service) ([]invocation, error) {
	health, err := service.Health(ctx)
	if err != nil {
		return nil, err
	}
	if !health.Healthy {
		return nil, fmt.Errorf("the service is not healthy: %+v", *health)
	}
	want := map[uint32]func(call int) ([]byte, bool){
		jobSquare: func(int) ([]byte, bool) { return encode(144), true },
		jobTotal:  func(call int) ([]byte, bool) { return encode(12 * uint64(call)), true },
		jobHash:   func(int) ([]byte, bool) { return nil, false },
	}
	var done []invocation
	rows := [][]string{}
	for _, d := range service.Deployments() {
		inv := invocation{JobID: d.JobID}
		var warm []time.Duration
		for call := 1; call <= warmCalls+1; call++ {
			start := time.Now()
			result, err := service.Invoke(ctx, d.JobID, encode(12))
			took := time.Since(start)
			if err != nil {
				return done, err
			}
			if expected, known := want[d.JobID](call); known && !slices.Equal(result.Output, expected) {
				return done, fmt.Errorf("job %d answered %x, not %x", d.JobID, result.Output, expected)
			}
			if call == 1 {
				inv.First = took
			} else {
				warm = append(warm, took)
			}
			inv.Output = result.Output
		}
		slices.Sort(warm)
		inv.Median = warm[len(warm)/2]
		done = append(done, inv)
		rows = append(rows, []string{
			fmt.Sprintf("job %d %s", d.JobID, jobNames[d.JobID]), fmt.Sprintf("answered %x", inv.Output),
			"first " + round(inv.First).String(),
			fmt.Sprintf("then %s (median of %d)", round(inv.Median), warmCalls),
		})
	}
	s.printf("5. Invoked with the number 12:\n")
	s.table(rows)
	return done, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}
