//go:build linux

// Package job is the source that Google builds in front of a job binary that serves HTTP itself.
// The program becomes that binary before anything else happens, so that nothing stands between the
// platform and the binary: no second process, no proxy.
//
// It uses the standard library only, and must compile with every version of Go that Google offers.
package job

import (
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// places are where the build leaves the files of the package, the likeliest first.
var places = []string{
	"serverless_function_source_code/bootstrap", "bootstrap", "/workspace/serverless_function_source_code/bootstrap",
	"/workspace/bootstrap",
}

func init() {
	if os.Getenv("K_SERVICE") == "" { // not on the platform, but perhaps in a build step
		return
	}
	log.Fatal("start the job binary: ", start()) // start returns only if it failed
}

func start() error {
	for _, path := range places {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		path, err := executable(path)
		if err != nil {
			return err
		}
		return syscall.Exec(path, []string{path}, os.Environ())
	}
	return errors.New("bootstrap is not in the package")
}

// executable makes a file executable, in place or as a copy, if its permission was lost on the way.
func executable(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&0o111 != 0 || os.Chmod(path, 0o755) == nil {
		return path, err
	}
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	copied := filepath.Join(os.TempDir(), "bootstrap")
	out, err := os.OpenFile(copied, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return copied, err
}

// Job is the entry point that the build asks for. It is not reached if the job binary runs.
func Job(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "the job binary did not start", http.StatusInternalServerError)
}
