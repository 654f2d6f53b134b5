package faastest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/faastest/internal/testjobs"
)

// The jobs of [JobBinary] and [RunJob]. A number in arguments or output is decimal text unless
// noted otherwise.
const (
	JobEcho    = testjobs.Echo    // answers its arguments
	JobSquare  = testjobs.Square  // answers the square of a uint64 (8 bytes, little-endian), as the same
	JobFail    = testjobs.Fail    // fails with its arguments as the message
	JobPanic   = testjobs.Panic   // panics with its arguments as the value
	JobSleep   = testjobs.Sleep   // answers its arguments after that many milliseconds
	JobEnv     = testjobs.Env     // answers the value of the environment variable of that name
	JobExit    = testjobs.Exit    // ends the process with that exit code
	JobAlloc   = testjobs.Alloc   // allocates and touches that many MiB, and answers its arguments
	JobCount   = testjobs.Count   // appends one byte to the file of that name, and answers how many it holds
	JobAnswer  = testjobs.Answer  // answers that many zero bytes
	JobVersion = testjobs.Version // answers the version of a binary made by AddVersion, or nothing
	JobLog     = testjobs.Log     // writes its arguments to standard error, as a line, and answers them
	Jobs       = testjobs.N       // the number of jobs; their ids are 0 to Jobs-1
)

// JobBinary returns the path of a job binary for this machine that links faas/job and has the
// jobs listed with the constants. It is built once for all tests that run at the same time, and
// removed when the last of them has ended.
func JobBinary(t testing.TB) string {
	return JobBinaryFor(t, runtime.GOOS, runtime.GOARCH)
}

// JobBinaryFor is [JobBinary] for another machine. It is static.
func JobBinaryFor(t testing.TB, goos, goarch string) string {
	t.Helper()
	path, err := built.acquire(goos, goarch)
	t.Cleanup(func() {
		if err := built.release(goos, goarch); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatalf("build the test job binary: %v", err)
	}
	return path
}

// built is the test binaries that are in use.
var built = binaries{m: map[string]*testBinary{}}

type binaries struct {
	mu sync.Mutex
	m  map[string]*testBinary
}

type testBinary struct {
	users int
	build func() (string, error)
	dir   string
}

func (b *binaries) acquire(goos, goarch string) (string, error) {
	b.mu.Lock()
	one := b.m[goos+"/"+goarch]
	if one == nil {
		one = &testBinary{}
		one.build = sync.OnceValues(func() (string, error) {
			dir, err := os.MkdirTemp("", "faastest-")
			if err != nil {
				return "", err
			}
			one.dir = dir
			return build(dir, goos, goarch)
		})
		b.m[goos+"/"+goarch] = one
	}
	one.users++
	b.mu.Unlock()
	return one.build()
}

func (b *binaries) release(goos, goarch string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.m[goos+"/"+goarch]
	if one.users--; one.users > 0 {
		return nil
	}
	delete(b.m, goos+"/"+goarch)
	if one.dir == "" {
		return nil
	}
	return os.RemoveAll(one.dir)
}

func build(dir, goos, goarch string) (string, error) {
	path := filepath.Join(dir, "testjob")
	if goos == "windows" {
		path += ".exe"
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path,
		"github.com/tangle-network/blueprint-serverless/faas/faastest/testjob")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", &buildError{err, strings.TrimSpace(stderr.String())}
	}
	return path, nil
}

type buildError struct {
	err    error
	output string
}

func (e *buildError) Error() string { return e.err.Error() + ": " + e.output }
func (e *buildError) Unwrap() error { return e.err }

// AddVersion writes a copy of a binary into a directory of the test. The copy differs only in its
// [JobVersion], which answers version, of at most 40 bytes.
func AddVersion(t testing.TB, path, version string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(copied, append(text, testjobs.VersionMark+version...), 0o755); err != nil {
		t.Fatal(err)
	}
	return copied
}
