package files

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const kind = "scratch-test"

func TestMain(m *testing.M) {
	if os.Getenv("SCRATCH_CRASH") != "" { // a process that ends without removing its directory
		d, err := TempDir(kind, nil)
		if err == nil {
			err = os.WriteFile(filepath.Join(d.Path(), "package"), []byte("x"), 0o600)
		}
		if err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestWhatACrashLeftIsRemovedByTheNext(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	t.Setenv("TMP", parent) // Windows
	crash := exec.Command(os.Args[0])
	crash.Env = append(os.Environ(), "SCRATCH_CRASH=1")
	if out, err := crash.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if entries(t, parent) == 0 {
		t.Fatal("the process that crashed left nothing, so that this test shows nothing")
	}
	for _, name := range []string{"scratch-tester-of-another-kind", kind + "-a-file"} {
		if err := os.WriteFile(filepath.Join(parent, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	living, err := TempDir(kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := TempDir(kind, nil) // does not take the first for one that was left
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Dir{living, second} {
		if info, err := os.Stat(d.Path()); err != nil || !info.IsDir() {
			t.Errorf("a directory whose owner lives: %v", err)
		}
	}
	if err := living.Remove(); err != nil {
		t.Error(err)
	}
	if err := second.Remove(); err != nil {
		t.Error(err)
	}
	if n := entries(t, parent); n != 2 && os.PathSeparator == '/' { // Windows keeps the lock files
		t.Errorf("%d entries are left, want the two that are of no concern", n)
	}
}

func TestManyAreMadeAndSweptAtTheSameTime(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	t.Setenv("TMP", parent)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				d, err := TempDir(kind, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(d.Path()); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := entries(t, parent); n != 0 && os.PathSeparator == '/' {
		t.Errorf("%d entries are left", n)
	}
}
