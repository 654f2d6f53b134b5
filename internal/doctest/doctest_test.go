package doctest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocksAreFoundWithTheirSection(t *testing.T) {
	text := "# One\n\n```sh\na\n```\n\n## Two\n\n1. item\n\n   ```go\n   x := 1\n   ```\n\n```\nplain\n```\n"
	want := []Block{
		{Document: "d", Line: 3, Section: "One", Language: "sh", Text: "a\n"},
		{Document: "d", Line: 11, Section: "Two", Language: "go", Text: "x := 1\n"},
		{Document: "d", Line: 15, Section: "Two", Text: "plain\n"},
	}
	if diff := cmp.Diff(want, parse("d", text)); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

func TestWhatIsShownIsComparedUpToWhatIsVolatile(t *testing.T) {
	for _, tt := range []struct {
		shown, printed string
		want           bool
	}{
		{"{\"a\":1,\n \"b\":2}\n", "{\"a\":1,\"b\":2}\n", true},
		{`{"execution_ms":4,"at":"2026-01-02T03:04:05.6Z"}`, `{"execution_ms":17,"at":"2027-01-02T03:04:05Z"}`, true},
		{`{"id":"x",...,"end":1}`, `{"id":"x","more":[1,2],"end":1}`, true},
		{`"0bfd15d1..."`, `"99fd15d1aabbccdd"`, true},
		{`done in 3 ms`, `failed in 3 ms`, false},
		{`{"a":1}`, `{"a":2}`, false},
	} {
		if got := matches(tt.shown, tt.printed); got != tt.want {
			t.Errorf("matches(%q, %q) = %t", tt.shown, tt.printed, got)
		}
	}
}

// recorder keeps what a test would have failed with.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func TestACommandThatNobodySaysHowToRunFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo hello; greet you":   "",
		"curl https://x.example":  "no test says how to run this command",
		"greet nobody && greet x": "exit status 1",
		"echo $UNSET":             "unbound variable",
		"if true; then":           "must be followed",
		"launch rocket":           "",
	} {
		r := &recorder{TB: t}
		s := &Shell{
			Dir: t.TempDir(), Home: t.TempDir(), Instead: []Instead{{Prefix: "launch", Why: "it would do harm"}},
			Commands: map[string]Command{"greet": func(_ context.Context, c Call) error {
				if c.Args[1] == "nobody" {
					return fmt.Errorf("there is nobody")
				}
				fmt.Fprintln(c.Stdout, "hello", c.Args[1])
				return nil
			}},
		}
		func() {
			defer func() {
				if p := recover(); p != nil && p != any(r) {
					panic(p)
				}
			}()
			s.Run(r, Block{Document: "d", Language: "sh", Text: script})
		}()
		got := strings.Join(r.failures, "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q fails with %q, want %q in it", script, got, want)
		}
	}
}
