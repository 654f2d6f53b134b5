package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// example is the path of the built example. A test binary would end slowly under the race detector.
var example string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "example-test-")
	if err == nil {
		example = filepath.Join(dir, "example.exe") // any system takes that name
		// small: packing it is slow under the race detector
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", example, ".")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the example:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// temp gives the test its own directory for temporary files, and fails the test if anything is left
// in it.
func temp(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
}

func TestTheStoryIsToldToItsEnd(t *testing.T) {
	temp(t)
	var out bytes.Buffer
	if err := run(t.Context(), example, nil, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"serverless on", "Analysed: hybrid", "example-job0", "example-job1", "local runner",
		"it is stateful", "answered 9000000000000000", "Nothing is left"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story does not say %q:\n%s", want, out.String())
		}
	}
}

func TestTheReportIsJSON(t *testing.T) {
	temp(t)
	var out bytes.Buffer
	if err := run(t.Context(), example, []string{"-json"}, &out); err != nil {
		t.Fatal(err)
	}
	var got report
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !got.Removed || got.Error != "" || len(got.Invocations) != 3 ||
		got.Analysis.Strategy.Kind != serverless.StrategyHybrid {
		t.Errorf("report %+v", got)
	}
}

func TestFailuresEndTheProgramWithTheReason(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(bad, []byte(`{"serverless":{"enable":"yes"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want error
		says string
	}{
		{"a provider that is not linked", []string{"-provider", "aws-lambda"}, faas.ErrNotLinked, "faas/aws"},
		{"an unknown provider", []string{"-provider", "acme"}, faas.ErrInvalidArgument, "acme"},
		{"a policy that cannot be read", []string{"-policy", bad}, faas.ErrInvalidArgument, "serverless.enable"},
		{"an argument", []string{"now"}, nil, `"now"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			temp(t)
			err := run(t.Context(), example, tt.args, &bytes.Buffer{})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

// stopper ends the program, as Ctrl-C does, once it has printed a text.
type stopper struct {
	at   string
	stop context.CancelFunc
	bytes.Buffer
}

func (s *stopper) Write(b []byte) (int, error) {
	n, err := s.Buffer.Write(b)
	if strings.Contains(s.String(), s.at) {
		s.stop()
	}
	return n, err
}

func TestCtrlCLeavesNothing(t *testing.T) {
	for _, at := range []string{"1. ", "2. ", "3. ", "4. "} {
		t.Run(at, func(t *testing.T) {
			temp(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &stopper{at: at, stop: cancel}
			if err := run(ctx, example, nil, out); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that of the cancelled context", err)
			}
			if strings.Contains(out.String(), "4. ") && !strings.Contains(out.String(), "Nothing is left") {
				t.Errorf("it was deployed and not removed:\n%s", out.String())
			}
		})
	}
}
