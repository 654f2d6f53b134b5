package runner

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// asChild lets the environment look like that of a process that a host of this module started.
func asChild(t *testing.T, protocol string) {
	t.Helper()
	for _, name := range []string{"AWS_LAMBDA_RUNTIME_API", "FUNCTIONS_CUSTOMHANDLER_PORT", "K_SERVICE", serviceEnv} {
		t.Setenv(name, "")
	}
	t.Setenv(frame.Env, protocol)
}

// offer is what the parent of this process would offer a runner.
func offer() string {
	return strings.TrimSuffix(frame.Offer(), strconv.Itoa(os.Getpid())) + strconv.Itoa(os.Getppid())
}

func TestAStartIsToldApartByArgumentsAndEnvironment(t *testing.T) {
	if _, mine := frame.IsOffer(offer()); !mine {
		t.Fatalf("%q is no offer to this process", offer())
	}
	for _, tt := range []struct {
		name     string
		args     []string
		protocol string
		env      []string
		want     start
		err      string
	}{
		{name: "one request", want: start{kind: asJob}},
		{name: "one request of a host", args: []string{"run"}, protocol: frame.Stdio, want: start{kind: asJob}},
		{name: "frames", args: []string{"run"}, protocol: frame.Version, want: start{kind: asJob}},
		{name: "a protocol of the future", args: []string{"run"}, protocol: "frames/9", want: start{kind: asJob}},
		{name: "Lambda", args: []string{"run"}, env: []string{"AWS_LAMBDA_RUNTIME_API", "x", serviceEnv, "1"},
			want: start{kind: asJob}},
		{name: "a local runner without a service", args: []string{"run"}, protocol: offer(),
			want: start{kind: asJob, offered: true}},
		{name: "a local runner", args: []string{"run", "--pretty"}, protocol: offer(), env: []string{serviceEnv, "0"},
			want: start{kind: asRunner, offered: true, pretty: true}},
		{name: "a local runner without arguments", protocol: offer(), env: []string{serviceEnv, "0"},
			want: start{kind: asRunner, offered: true}},
		{name: "a child of a runner", args: []string{"run"}, protocol: frame.Offer(), want: start{kind: asRunner}},
		{name: "a request in a service's environment", env: []string{serviceEnv, "1"}, want: start{kind: asJob}},
		{name: "the manager", args: []string{"run", "--test-mode", "--pretty", "-vv"},
			want: start{kind: asRunner, testMode: true, pretty: true, verbosity: 2}},
		{name: "verbose", args: []string{"run", "-v", "--verbose", "--dry-run"},
			want: start{kind: asRunner, dryRun: true, verbosity: 2}},
		{name: "help", args: []string{"--help"}, want: start{kind: asHelp}},
		{name: "help of run", args: []string{"run", "-v", "-h"}, want: start{kind: asHelp}},
		{name: "version", args: []string{"-V"}, want: start{kind: asVersion}},
		{name: "unknown flag", args: []string{"run", "--testmode"}, want: start{kind: asMistake},
			err: `unknown argument "--testmode" of run (known: --dry-run, --help, --pretty, --test-mode, -v, -vv)`},
		{name: "a value", args: []string{"run", "now"}, want: start{kind: asMistake}, err: `unknown argument "now" of run`},
		{name: "nearly verbose", args: []string{"run", "-vx"}, want: start{kind: asMistake}, err: `"-vx"`},
		{name: "a dash", args: []string{"run", "-"}, want: start{kind: asMistake}, err: `"-"`},
		{name: "unknown verb", args: []string{"serve"}, want: start{kind: asMistake},
			err: `unknown argument "serve" (known: run, --help, --version)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asChild(t, tt.protocol)
			for i := 0; i < len(tt.env); i += 2 {
				t.Setenv(tt.env[i], tt.env[i+1])
			}
			got := startOf(tt.args, os.LookupEnv)
			err := got.err
			got.err = nil
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(start{})); diff != "" {
				t.Error(diff)
			}
			if tt.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestTheNullDeviceIsNotInteractive(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if interactive(null) || interactive(file) {
		t.Errorf("the null device: %v, a file: %v", interactive(null), interactive(file))
	}
}

func TestTheUsageNamesEveryVariable(t *testing.T) {
	text := usage("blueprint")
	for _, v := range variables {
		if !strings.Contains(text, "\n  "+v.name+" ") {
			t.Errorf("%s is missing", v.name)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 121 {
			t.Errorf("%d bytes are much for a terminal: %s", len(line), line)
		}
	}
}

func TestTheLog(t *testing.T) {
	for _, tt := range []struct {
		pretty    bool
		verbosity int
		want      string
	}{
		{false, 0, `"msg":"info"`}, {true, 0, "msg=info"}, {true, 1, "msg=debug"}, {true, 2, "msg=trace"},
		{true, 3, "msg=trace"},
	} {
		var b bytes.Buffer
		l := newLogger(&b, tt.pretty, tt.verbosity)
		l.Log(t.Context(), slog.LevelDebug-4, "trace")
		l.Debug("debug")
		l.Info("info")
		if first, _, _ := strings.Cut(b.String(), "\n"); !strings.Contains(first, tt.want) {
			t.Errorf("pretty %v, verbosity %d: got %s", tt.pretty, tt.verbosity, b.String())
		}
	}
}
