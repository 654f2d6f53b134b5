package report_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
	"github.com/tangle-network/blueprint-serverless/report"
)

func text(w *bytes.Buffer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
}

func TestEventsBecomeRecordsOfTheRightLevel(t *testing.T) {
	missing := faas.Errorf(faas.ErrNotFound, "observe", "custom", "no such function")
	for _, tt := range []struct {
		name  string
		event serverless.Event
		want  string
	}{
		{"started", serverless.Event{Kind: serverless.EventStarted, Phase: serverless.PhaseAnalysis},
			`level=DEBUG msg="deployment started" phase=analysis`},
		{"progress", serverless.Event{Kind: serverless.EventProgress, Phase: serverless.PhaseFunction, Action: "create",
			Unit: "a", Step: "upload", Bytes: 1, TotalBytes: 2},
			`level=DEBUG msg="deployment progress" phase=function action=create unit=a step=upload bytes=1 total_bytes=2`},
		{"ended", serverless.Event{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Action: "create", Unit: "a",
			JobIDs: []uint32{3}, Attempt: 2, Duration: time.Second},
			`level=INFO msg="deployment ended" phase=function action=create unit=a jobs=[3] attempt=2 duration=1s`},
		{"short pause", serverless.Event{Kind: serverless.EventProgress, Phase: serverless.PhaseObserve, Unit: "a",
			Step: "pause", RetryIn: time.Millisecond, Err: missing},
			`level=DEBUG msg="deployment progress" phase=observe unit=a step=pause retry_in=1ms ` +
				`error="faas: observe: custom: no such function"`},
		{"long pause", serverless.Event{Kind: serverless.EventProgress, Phase: serverless.PhaseFunction, Action: "create",
			Unit: "a", Step: "pause", RetryIn: time.Minute, Err: missing},
			`level=INFO msg="deployment progress" phase=function action=create unit=a step=pause retry_in=1m0s ` +
				`error="faas: observe: custom: no such function"`},
		{"failed", serverless.Event{Kind: serverless.EventEnded, Phase: serverless.PhaseFunction, Err: missing},
			`level=ERROR msg="deployment ended" phase=function duration=0s error="faas: observe: custom: no such function"`},
		{"nothing there", serverless.Event{Kind: serverless.EventEnded, Phase: serverless.PhaseObserve, Err: missing},
			`level=INFO msg="deployment ended" phase=observe duration=0s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			report.Slog(text(&out, slog.LevelDebug))(tt.event)
			if diff := cmp.Diff(tt.want+"\n", out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestADeploymentIsALinePerStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blueprint")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := serverless.DefaultPolicy().Serverless.Config()
	cloud := faastest.NewMemory(faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		if c.Op == faastest.OpConverge && c.Unit == "svc/job2" {
			return &faastest.Fault{Kind: faastest.Denied}
		}
		return nil
	}))
	var out bytes.Buffer
	_, err := serverless.DeployServerless(t.Context(),
		serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: path}, []uint32{0, 1, 2}, cfg,
		serverless.WithExecutor(cloud.Executor("svc")), serverless.WithEvents(report.Lines(&out)),
		serverless.WithStateDir(t.TempDir()), serverless.WithoutRunner())
	if err == nil {
		t.Fatal("no error")
	}
	got := out.String()
	for _, want := range []string{"package ", "observe      svc/job2 ", "(3 done, 0 running)", "create       svc/job2 ",
		"FAILED: faas: ", "denied"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if !strings.Contains(got, "FAILED") { // of the others, those fail that were under way when the deployment was given up
		t.Errorf("no failure is told:\n%s", got)
	}
}

func ExampleSlog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{} // so that the output is the same every time
			}
			return a
		}}))
	policy := serverless.DefaultPolicy() // serverless is off: the hook runs the jobs
	run := func(context.Context, serverless.ServiceSpec, []uint32, serverless.Sizing) (orchestrator.Runner, error) {
		return nil, fmt.Errorf("no machine is free")
	}
	_, err := serverless.Deploy(context.Background(), serverless.ServiceSpec{Name: "svc", BinaryPath: "blueprint"},
		serverless.WithPolicy(policy),
		serverless.WithMetadata(&serverless.Metadata{}), serverless.WithTraditional(run),
		serverless.WithEvents(report.Slog(logger)))
	fmt.Println(err)
	// Output:
	// level=INFO msg="deployment ended" phase=analysis
	// level=ERROR msg="deployment ended" phase=orchestrator action=start error="no machine is free"
	// faas: run traditionally: no machine is free
}
