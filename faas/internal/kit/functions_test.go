package kit

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestFunctionsThatTheProviderWouldRefuseAreRefused(t *testing.T) {
	rules := FunctionRules{
		Provider: faas.Custom, MinMemoryMB: 128, Reserved: []string{"PORT"}, Prefixes: []string{"CLOUD_"},
		Name: regexp.MustCompile(`^[A-Z_]+$`), NameHelp: "capital letters", MaxEnvironment: 20,
		Special: func(f faas.Function) error {
			if f.KeepWarm > 3 {
				return faas.JobErrorf(faas.ErrTooLarge, "units", faas.Custom, f.JobID, "keep_warm is %d", f.KeepWarm)
			}
			return nil
		},
	}
	good := faas.Function{JobID: 7, MemoryMB: 128, TimeoutSecs: 1, Env: faas.NewEnv(map[string]string{"A": "b"})}
	for name, tt := range map[string]struct {
		change func(*faas.Function)
		code   faas.Code
		says   string
	}{
		"fits":            {func(*faas.Function) {}, "", ""},
		"too much memory": {func(f *faas.Function) { f.MemoryMB = 2049 }, faas.ErrTooLarge, "2048 MB"},
		"too little":      {func(f *faas.Function) { f.MemoryMB = 127 }, faas.ErrInvalidArgument, "128 MB"},
		"too long":        {func(f *faas.Function) { f.TimeoutSecs = 301 }, faas.ErrTooLarge, "300 s"},
		"no time":         {func(f *faas.Function) { f.TimeoutSecs = 0 }, faas.ErrInvalidArgument, "1 s"},
		"special":         {func(f *faas.Function) { f.KeepWarm = 4 }, faas.ErrTooLarge, "keep_warm is 4"},
		"reserved": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"PORT": "1"}) },
			faas.ErrInvalidArgument, "PORT is reserved"},
		"reserved prefix": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"cloud_x": "1"}) },
			faas.ErrInvalidArgument, "cloud_x is reserved"},
		"a bad name": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"a": "1"}) },
			faas.ErrInvalidArgument, "capital letters"},
		"an empty name": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"": "1"}) },
			faas.ErrInvalidArgument, "not empty"},
		"not text": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"A": "\xff"}) },
			faas.ErrInvalidArgument, "UTF-8"},
		"a NUL": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"A": "x\x00"}) },
			faas.ErrInvalidArgument, "NUL"},
		"at the limit": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"A": strings.Repeat("x", 19)}) },
			"", ""},
		"a byte above it": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"A": strings.Repeat("x", 20)}) },
			faas.ErrTooLarge, "21 bytes"},
	} {
		f := good
		tt.change(&f)
		_, err := rules.Check([]faas.Function{f})
		if faas.CodeOf(err) != tt.code || tt.code != "" && !strings.Contains(err.Error(), "job 7: ") ||
			tt.code != "" && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want code %q and %q", name, err, tt.code, tt.says)
		}
	}
	other := good
	other.JobID = 2
	sorted, err := rules.Check([]faas.Function{good, other})
	if err != nil || sorted[0].JobID != 2 || sorted[1].JobID != 7 {
		t.Errorf("got %+v, %v", sorted, err)
	}
	sorted[1].Env["B"] = faas.NewSecret("c")
	if len(good.Env) != 1 {
		t.Error("the environment is shared with the caller's")
	}
	if _, err := rules.Check([]faas.Function{good, good}); faas.CodeOf(err) != faas.ErrInvalidArgument ||
		!strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: %v", err)
	}
}

func TestWarmCountsWhatAnswered(t *testing.T) {
	no := faas.Errorf(faas.ErrUnavailable, "warm", faas.Custom, "no")
	var calls chan int
	probe := func(failing int) func(context.Context) error {
		calls = make(chan int, 200)
		return func(context.Context) error {
			calls <- 1
			if len(calls) <= failing {
				return no
			}
			return nil
		}
	}
	if n, err := Warm(t.Context(), faas.Custom, 1, 100, probe(0)); n != 100 || err != nil {
		t.Errorf("all: %d, %v", n, err)
	}
	if n, err := Warm(t.Context(), faas.Custom, 1, 2, probe(2)); n != 0 || !errors.Is(err, no) {
		t.Errorf("none: %d, %v", n, err)
	}
	for _, n := range []int{0, -1} {
		if got, err := Warm(t.Context(), faas.Custom, 1, n, probe(0)); got != 0 ||
			faas.CodeOf(err) != faas.ErrInvalidArgument || len(calls) > 0 {
			t.Errorf("%d: %d, %v", n, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := Warm(ctx, faas.Custom, 1, 3, probe(0)); n != 0 || faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("with a context that has ended: %d, %v", n, err)
	}
}

func TestHideKeepsTheCause(t *testing.T) {
	cause := errors.New("the token abc is wrong")
	clean := func(text string) string { return strings.ReplaceAll(text, "abc", "(hidden)") }
	if got := Hide(cause, clean); got.Error() != "the token (hidden) is wrong" || !errors.Is(got, cause) {
		t.Errorf("got %v", got)
	}
	if other := errors.New("no secret"); Hide(other, clean) != other || Hide(nil, clean) != nil {
		t.Error("what holds no secret is wrapped")
	}
}
