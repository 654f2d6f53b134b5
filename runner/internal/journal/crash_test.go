package journal

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

const crashDir = "JOURNAL_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		putUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// putUntilKilled takes calls through their phases, and prints each change once it was acknowledged.
func putUntilKilled(dir string) {
	j, err := Open(dir, testKey)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	first := uint64(0)
	for r := range j.Records() {
		first = max(first, r.ID.Call)
	}
	fmt.Println("open")
	var wg sync.WaitGroup
	for writer := range uint64(4) {
		wg.Go(func() {
			for n := first + 1 + writer; ; n += 4 {
				for phase := Started; phase <= Finished; phase++ {
					r := Record{ID: id(n), Number: n, Phase: phase}
					if phase == Answered {
						r.Output = fmt.Appendf(make([]byte, 0, 3000), "%02000d", n)
					}
					if err := j.Put(r); err != nil {
						fmt.Println("error", err)
						os.Exit(1)
					}
					fmt.Printf("%d %d\n", n, phase)
				}
				if n%50 == 0 {
					j.disk.Lock()
					if err := j.compact(); err != nil {
						fmt.Println("error", err)
						os.Exit(1)
					}
					j.disk.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	acknowledged := map[uint64]Phase{}
	for range 15 {
		child := exec.Command(self)
		child.Env = append(os.Environ(), crashDir+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatalf("the child says %q", lines.Text())
		}
		// It is killed after some changes: at which point of the next one depends on the machine.
		for range rand.IntN(300) {
			note(t, acknowledged, lines)
		}
		time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { _ = child.Process.Kill() })
		for note(t, acknowledged, lines) {
		}
		_, _ = io.Copy(io.Discard, out)
		_ = child.Wait() // it was killed

		j := open(t, dir)
		for n, phase := range acknowledged {
			r, ok := j.Get(id(n))
			if !ok && n+keepFinished > j.state.seq {
				t.Fatalf("call %d is lost; it was %d", n, phase)
			}
			if ok && r.Phase < phase {
				t.Fatalf("call %d is in phase %d; it was %d", n, r.Phase, phase)
			}
			if phase == Answered || phase == Sent {
				if out, err := j.Output(id(n)); err != nil || string(out) != fmt.Sprintf("%02000d", n) {
					t.Fatalf("output of call %d: %d bytes, %v", n, len(out), err)
				}
			}
		}
		must(t, j.Close())
	}
	if len(acknowledged) < 15 {
		t.Errorf("only %d calls were put", len(acknowledged))
	}
}

func note(t *testing.T, acknowledged map[uint64]Phase, lines *bufio.Scanner) bool {
	t.Helper()
	if !lines.Scan() {
		return false
	}
	var n uint64
	var phase Phase
	if _, err := fmt.Sscanf(lines.Text(), "%d %d", &n, &phase); err != nil {
		t.Fatalf("the child says %q", lines.Text())
	}
	acknowledged[n] = phase
	return true
}
