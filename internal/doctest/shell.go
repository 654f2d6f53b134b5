package doctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Command runs one command of a block. An error, or an exit status other than 0, fails the test.
type Command func(ctx context.Context, c Call) error

// Call is one call of a command. The first of Args is its name.
type Call struct {
	Args           []string
	Dir            string
	Env            []string // NAME=VALUE
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run starts a program for the call, with more variables in its environment.
func (c Call) Run(ctx context.Context, program string, args []string, env ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, append(c.Env, env...), c.Stdin, c.Stdout, c.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return interp.ExitStatus(uint8(exit.ExitCode()))
	}
	return err
}

// Instead is a command that is not run, and what is checked in its place.
type Instead struct {
	Prefix string // of the command as it stands in the document
	Why    string
	Check  func(t testing.TB, command string) // nil where Why says what checks it elsewhere
}

// Shell runs the blocks of a document one after another, as a reader does. It keeps variables, the
// directory and files.
type Shell struct {
	Dir      string            // where it begins
	Home     string            // the user's directory; t.TempDir() is a good one
	Env      map[string]string // besides PATH and what the go command keeps
	Commands map[string]Command
	System   []string // programs of the system that may be run, such as cat
	Instead  []Instead
	// Replace replaces texts of the document, such as an address. Output is changed back.
	Replace map[string]string

	runner   *interp.Runner
	out      output // of the current command, both streams
	replaced *strings.Replacer
	back     *strings.Replacer
	used     map[string]bool
}

// patience is how long a command may take: it turns one that does not end into a failure.
const patience = 2 * time.Minute

// output is what the commands of a pipeline print, which run at the same time.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds what a command prints.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
}

// Run runs a block of sh, or of console, which must print what it shows. It returns the number of
// commands, and what the last one printed.
func (s *Shell) Run(t testing.TB, b Block) (commands int, last string) {
	t.Helper()
	if s.runner == nil {
		s.start(t)
	}
	var there, back []string
	for from, to := range s.Replace {
		there, back = append(there, from, to), append(back, to, from)
	}
	s.replaced, s.back = strings.NewReplacer(there...), strings.NewReplacer(back...)
	steps := []step{{text: b.Text}}
	if b.Language == "console" {
		steps = transcript(b.Text)
	}
	for _, step := range steps {
		s.out.reset()
		n := s.script(t, b, step.text)
		commands += n
		last = s.back.Replace(s.out.String())
		if b.Language == "console" && step.output != "" && !matches(step.output, last) {
			t.Errorf("%s:%d: %s\nprints\n%s\nand not, as it stands there,\n%s", b.Document, b.Line,
				strings.TrimSpace(step.text), last, step.output)
		}
	}
	return commands, last
}

// Unused fails the test for what Instead names and no block has.
func (s *Shell) Unused(t testing.TB) {
	t.Helper()
	for _, i := range s.Instead {
		if !s.used[i.Prefix] {
			t.Errorf("no block has the command %q: drop it from the list of what is not run", i.Prefix)
		}
	}
}

func (s *Shell) start(t testing.TB) {
	t.Helper()
	s.used = map[string]bool{}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Home, "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off",
		"GOTOOLCHAIN=local"}
	kept, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range strings.Fields(string(kept)) {
		env = append(env, []string{"GOCACHE=", "GOMODCACHE=", "GOPATH="}[i]+value)
	}
	for name, value := range s.Env {
		env = append(env, name+"="+value)
	}
	s.runner, err = interp.New(interp.Dir(s.Dir), interp.Env(expand.ListEnviron(env...)),
		interp.StdIO(strings.NewReader(""), &s.out, &s.out), interp.Params("-e", "-u"),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return s.exec }))
	if err != nil {
		t.Fatal(err)
	}
}

// exec runs a command that is no builtin of the shell.
func (s *Shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	c := Call{Args: args, Dir: hc.Dir, Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr}
	for name, v := range hc.Env.Each {
		if v.Exported && v.Kind == expand.String {
			c.Env = append(c.Env, name+"="+v.Str)
		}
	}
	if run, ok := s.Commands[args[0]]; ok {
		if err := run(ctx, c); err != nil {
			if status := interp.ExitStatus(0); !errors.As(err, &status) {
				fmt.Fprintf(c.Stderr, "%s: %v\n", args[0], err)
				return interp.ExitStatus(1)
			}
			return err
		}
		return nil
	}
	if slices.Contains(s.System, args[0]) {
		return c.Run(ctx, args[0], args[1:])
	}
	fmt.Fprintf(c.Stderr, "%s: no test says how to run this command\n", args[0])
	return interp.ExitStatus(127)
}

// script runs commands and returns how many there are, on both sides of && too.
func (s *Shell) script(t testing.TB, b Block, text string) (commands int) {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(s.replaced.Replace(text)), b.Document)
	if err != nil {
		t.Fatalf("%s:%d: %v", b.Document, b.Line, err)
	}
	source := s.replaced.Replace(text)
	for _, stmt := range file.Stmts {
		command := source[stmt.Pos().Offset():stmt.End().Offset()]
		syntax.Walk(stmt, func(node syntax.Node) bool {
			if _, ok := node.(*syntax.CallExpr); ok {
				commands++
			}
			return true
		})
		if s.instead(t, s.back.Replace(command)) {
			continue
		}
		before := len(s.out.String())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := s.runner.Run(ctx, stmt)
		cancel()
		if err != nil {
			t.Fatalf("%s:%d: %s\n%v\n%s", b.Document, b.Line, command, err, s.out.String()[before:])
		}
	}
	return commands
}

func (s *Shell) instead(t testing.TB, command string) bool {
	t.Helper()
	for _, i := range s.Instead {
		if strings.HasPrefix(command, i.Prefix) {
			s.used[i.Prefix] = true
			if i.Why == "" {
				t.Errorf("%s: the list of what is not run gives no reason", i.Prefix)
			}
			if i.Check != nil {
				i.Check(t, command)
			}
			return true
		}
	}
	return false
}

// step is a command of a console block, with what it prints.
type step struct{ text, output string }

func transcript(text string) []step {
	var steps []step
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{text: command})
		} else if len(steps) > 0 {
			steps[len(steps)-1].output += line
		}
	}
	return steps
}

// volatile matches what differs in every run: times, durations, sizes, hashes and revisions.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`"(\w+_ms|\w+_mb|\w+_bytes)":\d+(\.\d+)?`), `"$1":N`},
	{regexp.MustCompile(`"(revision|cursor)":"[^"]*"`), `"$1":"R"`},
	{regexp.MustCompile(`"pid":\d+`), `"pid":N`},
	{regexp.MustCompile(`\b[0-9a-f]{8}([0-9a-f]*\b|\.\.\.)`), "HASH"},
	{regexp.MustCompile(`\b[0-9.]+(ms|µs|s)\b`), "T"},
	{regexp.MustCompile(`\s+`), ""}, // lines are broken in documents
}

// matches reports whether the output is what the document shows, in which "..." matches anything.
func matches(shown, printed string) bool {
	mask := func(text string) string {
		for _, v := range volatile {
			text = v.pattern.ReplaceAllString(text, v.with)
		}
		return text
	}
	parts := strings.Split(mask(shown), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(mask(printed))
}

// Write writes a file where the reader is now.
func (s *Shell) Write(t testing.TB, name, text string) {
	t.Helper()
	if s.runner == nil {
		s.start(t)
	}
	dir := s.runner.Dir
	if dir == "" {
		dir = s.Dir
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
