//go:build linux || darwin

package cli

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// screenTest is a terminal of a size: what programs write to tty, an emulator shows.
type screenTest struct {
	t        *testing.T
	tty, ptm *os.File
	read     chan struct{} // closed when nothing more comes

	mu     sync.Mutex
	screen *vt.Emulator
}

// Write shows what a program wrote.
func (s *screenTest) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.Write(b)
}

func newScreen(t *testing.T, columns, rows int) *screenTest {
	t.Helper()
	ptm, tty, err := pty.Open()
	if err == nil {
		err = pty.Setsize(tty, &pty.Winsize{Rows: uint16(rows), Cols: uint16(columns)})
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &screenTest{t: t, tty: tty, ptm: ptm, screen: vt.NewEmulator(columns, rows), read: make(chan struct{})}
	s.screen.SetScrollbackSize(10000)
	go func() {
		defer close(s.read)
		_, _ = io.Copy(s, ptm)
	}()
	t.Cleanup(s.close)
	return s
}

func (s *screenTest) close() {
	if s.tty != nil {
		s.tty.Close()
		s.tty = nil
		<-s.read // the last writer is gone
		s.ptm.Close()
		s.screen.Close()
	}
}

// lines are what scrolled off and what is there, without the empty lines at the end.
func (s *screenTest) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for i := range s.screen.ScrollbackLen() {
		var b strings.Builder
		for x := range s.screen.Width() {
			if cell := s.screen.ScrollbackCellAt(x, i); cell != nil {
				b.WriteString(cell.Content)
			}
		}
		all = append(all, strings.TrimRight(b.String(), " "))
	}
	for line := range strings.Lines(s.screen.String()) {
		all = append(all, strings.TrimRight(line, " \r\n"))
	}
	for len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// await waits until the terminal shows what it is to show.
func (s *screenTest) await(what string, shown func(lines []string) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !shown(s.lines()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the terminal never shows %s, but\n%s", what, strings.Join(s.lines(), "\n"))
		}
	}
}

func TestTwoHundredFunctionsScrollByOnATerminal(t *testing.T) {
	const functions = 200
	for _, columns := range []int{40, 80, 200} {
		screen := newScreen(t, columns, 24)
		a := &app{}
		a.log = &console{w: screen.tty, width: terminalWidth(screen.tty)}
		p := a.progress("")
		work(p, functions, func(done int) {
			if done%50 != 0 {
				return
			}
			// What is under way is seen, whole, with the total at the end.
			screen.await("what is under way", func(lines []string) bool {
				if len(lines) < maxLiveLines+1 {
					return false
				}
				for _, line := range lines[len(lines)-1-maxLiveLines : len(lines)-1] {
					if !strings.HasPrefix(line, "  create service-with") || !strings.HasSuffix(line, " s") ||
						columns >= 80 && !strings.Contains(line, ": upload 5.0 of 10.0 MB (50%)") {
						return false
					}
				}
				last := lines[len(lines)-1]
				return strings.Contains(last, "done, 12 under way, ") && strings.HasSuffix(last, " s")
			})
		})
		p.end()
		a.log.printf("that is all\n")
		screen.await("the last line", func(lines []string) bool {
			return len(lines) > 0 && lines[len(lines)-1] == "that is all"
		})
		done := 0
		for _, line := range screen.lines() {
			switch {
			case strings.HasPrefix(line, "done create service-with-a-long-name-job"):
				done++
			// of what stays, the terminal wraps what is too long
			case columns == 40 && strings.TrimLeft(line, "0123456789 in") != line, line == "that is all":
			default:
				t.Errorf("%d columns: %q stays", columns, line)
			}
		}
		if done != functions {
			t.Errorf("%d columns: %d lines stay, want %d", columns, done, functions)
		}
		screen.close()
	}
}

// Ctrl-C is pressed where an operator presses it: on the terminal, in the middle of a deployment.
func TestCtrlCOnATerminalUndoesTheDeployment(t *testing.T) {
	for _, columns := range []int{40, 80, 200} {
		d := ready(t)
		reached, goOn := make(chan struct{}, 1), make(chan struct{})
		d.before.Store(new(func(r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "job1") {
				return true
			}
			select {
			case reached <- struct{}{}:
			default:
			}
			<-goOn
			return true // the platform does what was sent, which is waited for and then undone
		}))
		screen := newScreen(t, columns, 24)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, d.args([]string{"deploy", "--name", "regret", "--binary", d.binary})...)
		cmd.Env = append(os.Environ(), playProgram+"=1", "HOME="+d.dir, "NO_COLOR=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = screen.tty, screen.tty, screen.tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-reached:
		case <-time.After(time.Minute):
			t.Fatalf("the deployment never gets to job 1:\n%s", strings.Join(screen.lines(), "\n"))
		}
		screen.await("the function that is being created", func(lines []string) bool {
			return strings.Contains(strings.Join(lines, "\n"), "  create regret-job1")
		})
		if _, err := screen.ptm.Write([]byte{3}); err != nil { // what the key sends
			t.Fatal(err)
		}
		screen.await("that it is undone", func(lines []string) bool {
			return strings.Contains(strings.Join(lines, ""), "interrupted:")
		})
		close(goOn)
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
			t.Errorf("%d columns: the program ends with %v, want exit code %d", columns, err, exitInterrupted)
		}
		screen.close()
		shown := strings.Join(strings.Fields(strings.Join(screen.lines(), " ")), " ")
		for _, want := range []string{"interrupted: undoing what this deployment changed", "error:"} {
			if !strings.Contains(strings.ReplaceAll(shown, " ", ""), strings.ReplaceAll(want, " ", "")) {
				t.Errorf("%d columns: %q is not shown:\n%s", columns, want, strings.Join(screen.lines(), "\n"))
			}
		}
		if !slices.ContainsFunc(screen.lines(), func(line string) bool { return strings.HasPrefix(line, "interrupted: ") }) {
			t.Errorf("%d columns: no line begins with the interruption:\n%s", columns, strings.Join(screen.lines(), "\n"))
		}
		if strings.Contains(shown, "under way") {
			t.Errorf("%d columns: a live line stays:\n%s", columns, strings.Join(screen.lines(), "\n"))
		}
		if list := d.ok("list"); strings.Contains(list, "regret") {
			t.Errorf("the ledger still has it:\n%s", list)
		}
		left, err := filepath.Glob(filepath.Join(d.dir, "state", "*regret*"))
		if err != nil || len(left) > 0 && !strings.HasSuffix(left[0], ".lock") {
			t.Errorf("left in the state directory: %v, %v", left, err)
		}
		resp, err := http.Get(d.endpoint + "/api/functions?service=regret")
		if err != nil {
			t.Fatal(err)
		}
		functions, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if err != nil || strings.Contains(string(functions), "regret-job") {
			t.Errorf("left on the platform: %s, %v", functions, err)
		}
	}
}

// On a terminal the first removal is asked for.
func TestARemovalIsAskedForOnATerminal(t *testing.T) {
	d := deployedDesk(t)
	d.profileOne("--stateful", "1")
	screen := newScreen(t, 200, 24)
	for _, tt := range []struct {
		answer string
		code   int
	}{{"n", exitCodes[faas.ErrInvalidArgument]}, {"", exitCodes[faas.ErrInvalidArgument]}, {"y", exitOK}} {
		asked := func(lines []string) bool {
			return len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], "go on? [y/N]")
		}
		code := make(chan int, 1)
		var out lockedBuffer
		go func() {
			code <- run(t.Context(), d.args([]string{"deploy", "--service-id", "123"}),
				streams{in: screen.tty, out: &out, err: screen.tty, terminal: terminalWidth(screen.tty)})
		}()
		screen.await("the question", asked)
		if _, err := screen.ptm.WriteString(tt.answer + "\r"); err != nil {
			t.Fatal(err)
		}
		if got := <-code; got != tt.code {
			t.Errorf("answered %q: exit code %d, want %d\n%s", tt.answer, got, tt.code, strings.Join(screen.lines(), "\n"))
		}
		screen.await("the end of the line", func(lines []string) bool { return !asked(lines) })
		if removed := strings.Contains(out.String(), "1 removed"); removed != (tt.code == exitOK) {
			t.Errorf("answered %q: removed: %t\n%s", tt.answer, removed, out.String())
		}
	}
}
