//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// pictures are the blocks that cannot be run or compared, by document and first line.
var pictures = map[string]string{
	"docs/architecture.md: policy file ──▶ Policy ─────────────┐": "a drawing",
	"docs/architecture.md: deploy.go":                 "a drawing that internal/moduletest compares with the code",
	"docs/architecture.md: chain ──▶ watch":           "a drawing",
	"docs/platform.md: scrape_configs:":               "configuration of Prometheus, which these tests have no parser for",
	"docs/platform.md: time=2026-11-25T06:40:00.000Z": "a record of a log; the platform's tests look at those",
}

// TestTheCommandsOfTheDocumentsWork runs the blocks of commands. This test checks every other
// block, so none can be forgotten.
func TestEveryBlockInTheDocumentsIsOneThatIsChecked(t *testing.T) {
	sources := doctest.ReadSources(t)
	shown := map[string]bool{}
	programs := 0
	for _, d := range doctest.All(t) {
		for _, b := range d.Blocks {
			switch {
			case b.Language == "sh", b.Language == "console":
				if _, ok := sessions[d.Name]; !ok {
					t.Errorf("%s:%d has commands, and no session in sessions runs them", d.Name, b.Line)
				}
			case b.Language == "json":
				checkJSON(t, b)
			case b.Language == "go" && strings.HasPrefix(b.Text, "package main"):
				programs++
				checkProgram(t, b)
			case b.Language == "go":
				if _, ok := sources.Holds(b); !ok {
					t.Errorf("%s:%d: this block of Go is neither a program nor in any file of the module, word for word:\n%s", d.Name,
						b.Line, b.Text)
				}
			default:
				first, _, _ := strings.Cut(strings.TrimSpace(b.Text), "\n")
				found := false
				for picture := range pictures {
					if strings.HasPrefix(d.Name+": "+first, picture) {
						found, shown[picture] = true, true
					}
				}
				if !found {
					t.Errorf("%s:%d: a block of %q, which nothing checks", d.Name, b.Line, b.Language)
				}
			}
		}
	}
	for picture := range pictures {
		if !shown[picture] {
			t.Errorf("%q is not there any more", picture)
		}
	}
	if programs == 0 {
		t.Error("there is no program")
	}
}

// checkJSON reads a block as JSON, and as a policy where it is one.
func checkJSON(t *testing.T, b doctest.Block) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(b.Text), &members); err != nil {
		t.Errorf("%s:%d: %v", b.Document, b.Line, err)
		return
	}
	// whose provider is not linked here; its own test loads such a policy
	if _, ok := members["serverless"]; !ok || b.Document == "docs/providers.md" {
		return
	}
	path := filepath.Join(t.TempDir(), "deployment-policy.json")
	if err := os.WriteFile(path, []byte(b.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err == nil {
		err = policy.Validate()
	}
	if err != nil {
		t.Errorf("%s:%d: %v", b.Document, b.Line, err)
	}
}

// checkProgram compiles a whole program, as part of this module.
func checkProgram(t *testing.T, b doctest.Block) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(b.Text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", filepath.Join(dir, "main.go"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s:%d: %v\n%s", b.Document, b.Line, err, bytes.ReplaceAll(out, []byte(dir), nil))
	}
}

var inline = regexp.MustCompile("`((?:[A-Z_]+=\\S+ )?tangle-cloud [^`]*)`")

// words splits a command as a shell does, as far as the documents need it.
func words(line string) []string {
	line, _, _ = strings.Cut(line, " #")
	return strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), "&"))
}

// Commands within sentences, in the help and in examples are not run. They must exist and have the
// flags that they are shown with.
func TestEveryCommandInSentencesExists(t *testing.T) {
	var lines []string
	for _, d := range doctest.All(t) {
		for _, m := range inline.FindAllStringSubmatch(d.Text, -1) {
			lines = append(lines, m[1])
		}
	}
	for _, cmd := range (&app{}).root().Commands() {
		lines = append(lines, strings.Split(cmd.Example, "\n")...)
		lines = append(lines, strings.Split(cmd.Long, "\n")...)
	}
	checked := 0
	for _, line := range lines {
		line = regexp.MustCompile(`^[A-Z_]+=\S+ `).ReplaceAllString(
			strings.ReplaceAll(strings.TrimSpace(line), " && ", " # "), "")
		if !strings.HasPrefix(line, "tangle-cloud ") {
			continue
		}
		checked++
		if err := parses(words(line)[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if checked < 40 {
		t.Errorf("only %d commands were found", checked)
	}
}

// parses says whether the program would take the arguments.
func parses(args []string) error {
	root := (&app{}).root()
	root.InitDefaultHelpFlag()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == pflag.ErrHelp {
		return nil
	}
	if err == nil && cmd == root && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return usagef("there is no such command")
	}
	return err
}
