//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// session says how to run the commands of one document: all of them, in order, in one shell.
type session struct {
	// repository says that the reader is in a checkout of this module.
	repository bool
	// binary puts a built and profiled job binary where the document has one: bin/my-blueprint.
	binary bool
	// lambda has a Lambda on loopback, which AWS's variables lead to.
	lambda bool
	// program is the name under which a program in the document is saved.
	program string
	// elsewhere are sections whose commands other tests run, with the test.
	elsewhere map[string]string
	instead   []doctest.Instead
	// quick is a section that takes fewer than ten commands, the last of which prints answer.
	quick, answer string
}

var sessions = map[string]session{
	"README.md":            {repository: true},
	"docs/architecture.md": {repository: true},
	"docs/aws.md":          {repository: true},
	"docs/benchmarks.md": {repository: true, instead: []doctest.Instead{{
		Prefix: "cd internal/tangle/oracle && go test",
		Why:    "it needs go-ethereum, which a fresh machine has not downloaded; .ci/run runs it",
		Check: func(t testing.TB, _ string) {
			files, err := filepath.Glob(filepath.Join(doctest.Root(t), "internal", "tangle", "oracle", "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range files {
				if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "func Benchmark") {
					return
				}
			}
			t.Error("there are no benchmarks")
		},
	}}},
	"docs/embedder.md": {repository: true},
	"docs/google-cloud.md": {elsewhere: map[string]string{
		"Before the first deployment": "faas/gcp TestTheCommandsOfTheDocument"}},
	"docs/jobs.md": {program: "main.go"},
	"docs/operator.md": {binary: true, lambda: true,
		elsewhere: map[string]string{
			"Google Cloud Functions": "faas/gcp TestTheOperatorGuide",
			"Azure Functions":        "faas/azure TestTheOperatorGuide",
		},
		instead: []doctest.Instead{{
			Prefix: "source <(tangle-cloud completion bash)",
			Why:    "it is for a shell that completes; what it would read is parsed as bash",
			Check: func(t testing.TB, _ string) {
				out := (&desk{t: t, dir: t.TempDir()}).ok("completion", "bash")
				if _, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(
					strings.NewReader(out), "completion"); err != nil {
					t.Error(err)
				}
			},
		}},
	},
	"docs/platform.md":  {},
	"docs/providers.md": {repository: true},
	"docs/runner.md":    {repository: true},
}

// A reader who types the commands of a document gets what it shows.
func TestTheCommandsOfTheDocumentsWork(t *testing.T) {
	documents := map[string]doctest.Document{}
	for _, d := range doctest.All(t) {
		documents[d.Name] = d
	}
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".md"), func(t *testing.T) {
			sessions[name].run(t, documents[name])
		})
	}
}

func (s session) run(t *testing.T, d doctest.Document) {
	desk := newDesk(t)
	shell := &doctest.Shell{
		Dir: t.TempDir(), Home: t.TempDir(), Env: map[string]string{}, Instead: s.instead,
		System: []string{"base64", "cat", "chmod", "cut", "head", "mkdir", "tr"},
		Commands: map[string]doctest.Command{"tangle-cloud": cloudCommand, "curl": curlCommand, "zip": zipCommand,
			"sha256sum": sha256sumCommand, "go": goCommand(t)},
		Replace: map[string]string{"http://127.0.0.1:8080": desk.endpoint,
			"https://my-faas.example": strings.Replace(desk.endpoint, "127.0.0.1", "localhost", 1)},
	}
	if s.repository {
		shell.Dir = doctest.Root(t)
	}
	if s.binary {
		placeBinary(t, shell.Dir)
	}
	if s.lambda {
		server := lambdatest.New(lambdatest.Config{Errorf: t.Errorf})
		t.Cleanup(server.Close)
		maps.Copy(shell.Env, server.Environment())
	}
	commands, quick, last := 0, 0, ""
	for _, b := range d.Blocks {
		switch {
		case s.elsewhere[b.Section] != "":
		case b.Language == "go" && s.program != "":
			shell.Write(t, s.program, b.Text)
		case b.Language == "sh" || b.Language == "console":
			n, printed := shell.Run(t, b)
			commands += n
			if b.Section == s.quick {
				quick, last = quick+n, printed
			}
		}
	}
	shell.Unused(t)
	if commands == 0 && len(s.elsewhere) == 0 {
		t.Error("there is no command")
	}
	if s.quick != "" && (quick >= 10 || !strings.HasPrefix(last, s.answer)) {
		t.Errorf("%q takes %d commands, of which the last prints %q; want fewer than ten, and %q", s.quick, quick, last,
			s.answer)
	}
}

// placeBinary puts a job binary with profiles where the operator's guide has it.
func placeBinary(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(faastest.JobBinary(t))
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "bin"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bin", "my-blueprint"), text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	(&desk{t: t, dir: dir}).ok("profile", filepath.Join(dir, "bin", "my-blueprint"), "--input", "0=text:hi", "--input",
		"1=hex:0500000000000000", "--runs", "1", "--warmups", "0", "-q")
}

// cloudCommand runs this program. The platform that documents start already runs: it is the desk's.
func cloudCommand(ctx context.Context, c doctest.Call) error {
	if len(c.Args) > 1 && c.Args[1] == "platform" {
		return parses(c.Args[1:])
	}
	if len(c.Args) > 1 && c.Args[1] == "prices" {
		return readPrices(ctx, c)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if slices.Contains(c.Args, "--follow") {
		return follow(ctx, c, self)
	}
	return c.Run(ctx, self, c.Args[1:], playProgram+"=1")
}

// readPrices refreshes prices in this process, where the lists are not on the internet.
func readPrices(ctx context.Context, c doctest.Call) error {
	args := slices.Clone(c.Args[1:])
	if i := slices.Index(args, "--save"); i >= 0 {
		args[i+1] = filepath.Join(c.Dir, args[i+1])
	}
	if code := run(ctx, args, streams{in: c.Stdin, out: c.Stdout, err: c.Stderr,
		transport: priceLists{}}); code != exitOK {
		return fmt.Errorf("tangle-cloud %s: exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

// follow presses Ctrl-C once a command that runs until then has printed something, or had the time
// to.
func follow(ctx context.Context, c doctest.Call, self string) error {
	cmd := exec.CommandContext(ctx, self, c.Args[1:]...)
	printed := make(chan struct{})
	out := &stopper{at: "\n", stop: sync.OnceFunc(func() { close(printed) })}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, append(c.Env, playProgram+"=1"), out, c.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	select {
	case <-printed:
	case <-time.After(3 * time.Second):
	}
	_ = cmd.Process.Signal(os.Interrupt)
	err := cmd.Wait()
	fmt.Fprint(c.Stdout, out.String())
	var exit *exec.ExitError
	if errors.As(err, &exit) && (exit.ExitCode() == exitInterrupted || exit.ExitCode() == -1) {
		return nil
	}
	return err
}
