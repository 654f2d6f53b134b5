//go:build unix

package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// startRunner keeps the test binary running in a mode, or a shell script.
func startRunner(t *testing.T, mode, script string) (p *Pool, gate string, lines func() string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	gate = filepath.Join(t.TempDir(), "gate")
	var mu sync.Mutex
	var text strings.Builder
	cfg := Config{
		Path: self, Env: []string{"JOB_MODE=" + mode, "JOB_GATE=" + gate}, Dir: t.TempDir(), Frames: true, Runner: true,
		MinWorkers: 1, MaxWorkers: 1, Grace: 30 * time.Second,
		Log: func(l Line) {
			mu.Lock()
			defer mu.Unlock()
			text.WriteString(string(l.Text) + "\n")
		},
	}
	if script != "" {
		cfg.Path, cfg.Args = "/bin/sh", []string{"-c", script}
	}
	if p, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // by force
		_ = p.Close(ctx)
	})
	return p, gate, func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not written", path)
		}
	}
}

func moment(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestARunnerThatSaysHelloTakesCalls(t *testing.T) {
	for _, mode := range []string{"frames", "older", "busy"} {
		t.Run(mode, func(t *testing.T) {
			p, gate, _ := startRunner(t, mode, "")
			if spoke, err := p.AwaitHello(t.Context()); !spoke || err != nil {
				t.Fatalf("it says hello: %t, %v", spoke, err)
			}
			if output, _, err := p.Invoke(t.Context(), jobEcho, []byte("x"), time.Minute); err != nil || string(output) != "x" {
				t.Errorf("%q, %v", output, err)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if mode == "busy" && awaitFile(t, gate) != "told" {
				t.Error("a runner that goes on at the end of its input was not asked to end")
			}
		})
	}
}

func TestARunnerMaySayHelloLate(t *testing.T) {
	p, gate, _ := startRunner(t, "late", "")
	if spoke, err := p.AwaitHello(moment(t)); spoke || err != nil || p.Speaks() {
		t.Fatalf("it says hello: %t, %v", spoke, err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if spoke, err := p.AwaitHello(t.Context()); !spoke || err != nil {
		t.Fatalf("it says hello: %t, %v", spoke, err)
	}
	if output, _, err := p.Invoke(t.Context(), jobEcho, []byte("x"), time.Minute); err != nil || string(output) != "x" {
		t.Errorf("%q, %v", output, err)
	}
}

func TestARunnerOfItsOwnKindIsKeptRunning(t *testing.T) {
	const stay = `trap 'echo told >"$JOB_GATE"; exit' TERM; echo $$ >pid; while :; do sleep 0.01; done`
	for name, tt := range map[string]struct{ script, says string }{
		"silent":                     {stay, ""},
		"it prints":                  {"echo I am a runner; " + stay, "I am a runner\n"},
		"it prints a zero byte":      {`printf '\000 and more\n'; ` + stay, "\x00 and more\n"},
		"it closes its output":       {"exec >&-; " + stay, ""},
		"its output goes elsewhere":  {`exec >log 2>&1; echo I am elsewhere; ` + stay, ""},
		"it prints nothing but that": {`printf '\000\000\000\000\001\000\000\000xxxxxxxxxxxxxxxxxx\n'; ` + stay, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, gate, lines := startRunner(t, "", tt.script)
			if spoke, err := p.AwaitHello(moment(t)); spoke || err != nil || p.Speaks() {
				t.Fatalf("it says hello: %t, %v", spoke, err)
			}
			pid := awaitFile(t, filepath.Join(p.cfg.Dir, "pid"))
			up := func() bool { return strings.Contains(lines(), tt.says) && len(p.Stats().PIDs) > 0 }
			for deadline := time.Now().Add(30 * time.Second); !up() && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if s := p.Stats(); len(s.PIDs) != 1 || strconv.Itoa(s.PIDs[0]) != pid || s.Failures > 0 ||
				!strings.Contains(lines(), tt.says) {
				t.Errorf("it is process %s, the pool has %+v and the lines %q", pid, s, lines())
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if awaitFile(t, gate) != "told" {
				t.Error("it was not asked to end")
			}
		})
	}
}

func TestARunnerThatEndsAtOnceIsToldOf(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		code   int
	}{"with an error": {"echo why >&2; exit 7", 7}, "and prints before": {"echo usage; exit 3", 3},
		"without one": {"exit 0", 0}} {
		t.Run(name, func(t *testing.T) {
			p, _, _ := startRunner(t, "", tt.script)
			spoke, err := p.AwaitHello(t.Context())
			var ended *faas.FunctionError
			if spoke || !errors.As(err, &ended) || ended.ExitCode != tt.code {
				t.Errorf("it says hello: %t, %v, want exit code %d", spoke, err, tt.code)
			}
		})
	}
}
