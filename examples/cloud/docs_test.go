package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// blocks returns the fenced blocks of a language in a document.
func blocks(t *testing.T, document, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", document))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block of %s", document, language)
	}
	return out
}

// words splits a command as a shell does, as far as the documents need it.
func words(line string) []string {
	line, _, _ = strings.Cut(line, " #")
	return strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), "&"))
}

func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	var lines []string
	for _, document := range []string{"operator.md", "jobs.md"} {
		for _, block := range blocks(t, document, "sh") {
			lines = append(lines, strings.Split(block, "\n")...)
		}
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", document))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(cloud [^`]*)`").FindAllStringSubmatch(string(text), -1) {
			lines = append(lines, m[1])
		}
	}
	for _, cmd := range (&app{}).root().Commands() {
		lines = append(lines, strings.Split(cmd.Example, "\n")...)
		lines = append(lines, strings.Split(cmd.Long, "\n")...)
	}
	checked := 0
	for _, line := range lines {
		line = strings.ReplaceAll(strings.TrimSpace(line), " && ", " # ")
		if !strings.HasPrefix(line, "cloud ") {
			continue
		}
		checked++
		root := (&app{}).root()
		root.InitDefaultHelpFlag()
		cmd, rest, err := root.Find(words(line)[1:])
		if err == nil && cmd != root {
			err = cmd.ParseFlags(rest)
		}
		if err != nil && err != pflag.ErrHelp {
			t.Errorf("%s: %v", line, err)
		}
		if cmd == root && !strings.Contains(line, "--help") && !strings.Contains(line, "completion") {
			t.Errorf("%s: there is no such command", line)
		}
	}
	if checked < 40 {
		t.Errorf("only %d commands were found", checked)
	}
}

// Whoever follows the guide gets what it promises. The module is this checkout, and the program is the one under test.
func TestAJobIsWrittenAndInvokedAsTheGuideSays(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	setup, program, work := blocks(t, "jobs.md", "sh")[0], blocks(t, "jobs.md", "go")[0], blocks(t, "jobs.md", "sh")[1]
	d := newDesk(t)
	t.Chdir(d.dir)
	command := func(words ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
		}
	}
	commands := 0
	for _, line := range strings.Split(setup, "\n") {
		for _, part := range strings.Split(line, " && ") {
			commands++
			switch w := words(part); {
			case w[0] == "go" && w[1] == "install": // the program under test
			case w[0] == "mkdir":
				if err := os.Mkdir(w[1], 0o755); err != nil {
					t.Fatal(err)
				}
			case w[0] == "cd":
				t.Chdir(w[1])
			default:
				command(w...)
			}
		}
	}
	command("go", "mod", "edit", "-replace", "github.com/tangle-network/blueprint-serverless="+module, "-require", "github.com/tangle-network/blueprint-serverless@v0.0.0")
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err == nil {
		err = os.WriteFile("go.sum", sums, 0o644)
	}
	if err == nil {
		err = os.WriteFile("main.go", []byte(program), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	answer := ""
	for _, line := range strings.Split(work, "\n") {
		commands++
		w := words(strings.ReplaceAll(line, "http://127.0.0.1:8080", d.endpoint))
		switch {
		case w[0] == "go": // tidying reads the tests of dependencies, which takes the network
		case w[0] == "CGO_ENABLED=0":
			command(w[1:]...)
		case w[1] == "platform": // the desk has one
		default:
			answer = d.ok(w[1:]...)
		}
	}
	if answer != "HELLO\n" {
		t.Errorf("the last command answers %q", answer)
	}
	if commands > 11 {
		t.Errorf("the guide takes %d commands", commands)
	}
}
