package detached_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

func runs(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func TestNothingOfItIsLeftHoweverItTriesToStay(t *testing.T) {
	const stay = `echo $$ >pid; while :; do sleep 0.02; done`
	for name, script := range map[string]string{
		"it has a session of its own": `exec setsid sh -c '` + stay + `'`,
		"a child has one":             `setsid sh -c '` + stay + `' & while :; do sleep 0.02; done`,
		"it is nobody's child":        `(setsid sh -c '` + stay + `' &); while :; do sleep 0.02; done`,
		"it has cleared its environment": `(setsid env -i PATH="$PATH" sh -c '` + stay +
			`' >/dev/null 2>&1 &); exit`,
		"it is deaf and has left the one": `(setsid sh -c 'trap "" TERM HUP; ` + stay + `' &); exit`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(t, script)
			c.Mark = proctree.New()
			p := start(t, c)
			pidFile := filepath.Join(c.Dir, "pid")
			await(t, "it is up", func() bool { text, _ := os.ReadFile(pidFile); return strings.HasSuffix(string(text), "\n") })
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid := strings.TrimSpace(string(text))
			if !runs(pid) {
				t.Fatalf("process %s does not run", pid)
			}
			if err := p.Stop(t.Context(), 300*time.Millisecond); err != nil {
				t.Error(err)
			}
			if runs(pid) || p.Alive() || c.Mark.Exists() {
				t.Errorf("it runs: %t, what keeps it running: %t, anything of it: %t", runs(pid), p.Alive(), c.Mark.Exists())
			}
		})
	}
}

func TestWhatHasItsOwnSessionIsAskedToEndToo(t *testing.T) {
	c := config(t, `exec setsid sh -c 'trap "echo graceful; exit" TERM; echo up; while :; do sleep 0.02; done'`)
	c.Mark = proctree.New()
	p := start(t, c)
	await(t, "it is up", logs(c, "up"))
	if err := p.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if !logs(c, "graceful\n")() || strings.Count(read(t, c.Output), "graceful") != 1 {
		t.Errorf("it was not asked once: %q", read(t, c.Output))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
