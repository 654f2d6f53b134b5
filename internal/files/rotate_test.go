package files_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/files"
)

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(text)
	}
	return got
}

func TestAFullFileIsSetAsideAndTheOldestIsDropped(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep int
		want map[string]string
	}{
		{"none kept", 0, map[string]string{"log": "line7\n"}},
		{"two kept", 2, map[string]string{"log": "line7\n", "log.1": "line5\nline6\n", "log.2": "line3\nline4\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			for i := range 2 { // what an earlier program wrote counts, too
				f, err := files.OpenRotating(path, 13, tt.keep)
				if err != nil {
					t.Fatal(err)
				}
				for n := 4*i + 1; n <= 3+4*i; n++ {
					if err := f.WriteLine(fmt.Appendf(nil, "line%d", n)); err != nil {
						t.Fatal(err)
					}
				}
				if i == 0 {
					if err := f.WriteLine([]byte("line4")); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					if err := f.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.WriteLine(nil); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("a line after the end: %v", err)
				}
			}
			if diff := cmp.Diff(tt.want, contents(t, filepath.Dir(path))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALineLargerThanAFileIsKeptWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := files.OpenRotating(path, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if err := f.WriteLine([]byte("much larger")); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"log": "much larger\n", "log.1": "much larger\n"}
	if diff := cmp.Diff(want, contents(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

func TestLinesOfSeveralGoroutinesStayWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := files.OpenRotating(path, 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := f.WriteLine([]byte("0123456789")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) != 8*50*11 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
