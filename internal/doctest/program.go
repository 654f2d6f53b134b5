package doctest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// OperatorShell returns a shell in which "tangle-cloud" is that program, built with tags, and
// bin/my-blueprint is a profiled job binary. It serves packages whose fake of a cloud other
// packages cannot reach; env leads to the fake.
func OperatorShell(t testing.TB, tags, binary string, env map[string]string) *Shell {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "tangle-cloud")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-ldflags=-s -w", "-o", program,
		"./cmd/tangle-cloud")
	build.Dir = Root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	work := filepath.Join(dir, "work")
	text, err := os.ReadFile(binary)
	if err == nil {
		err = os.MkdirAll(filepath.Join(work, "bin"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(work, "bin", "my-blueprint"), text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &Shell{Dir: work, Home: t.TempDir(), Env: env, Commands: map[string]Command{
		"tangle-cloud": func(ctx context.Context, c Call) error { return c.Run(ctx, program, c.Args[1:]) },
	}}
	s.Run(t, Block{Document: "before the guide", Language: "sh",
		Text: "tangle-cloud profile bin/my-blueprint --input 0=text:hi --runs 1 --warmups 0 --quiet\n"})
	return s
}

// Section runs the blocks of a section, which has to have some.
func (s *Shell) Section(t testing.TB, d Document, section string) {
	t.Helper()
	commands := 0
	for _, b := range d.Blocks {
		if b.Section == section && (b.Language == "sh" || b.Language == "console") {
			n, _ := s.Run(t, b)
			commands += n
		}
	}
	if commands == 0 {
		t.Errorf("%s has no command in the section %q", d.Name, section)
	}
}
