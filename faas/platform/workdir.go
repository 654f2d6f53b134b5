package platform

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// workDir is a directory that is one function's own: no other one, and none that had the id before it, has files there.
type workDir struct {
	path string
	// task is where the function runs: a directory with links to what is in the package, so that relative paths find that, while what the function writes is its own.
	task string
}

// temp is HOME and TMPDIR.
func (w workDir) temp() string { return filepath.Join(w.path, "tmp") }

func (w workDir) all() []string { return []string{w.path, w.task, w.temp()} }

// newWorkDir makes the directory of a function with the package in packageDir.
func (s *store) newWorkDir(id, packageDir string) (w workDir, err error) {
	if w.path, err = os.MkdirTemp(filepath.Join(s.dir, "work"), hashName(id)+"-"); err != nil {
		return w, storeError("%w", err)
	}
	w.task = filepath.Join(w.path, "task")
	err = errors.Join(os.Mkdir(w.task, 0o700), os.Mkdir(w.temp(), 0o700))
	if err == nil {
		if err = link(packageDir, w.task); err != nil && runtime.GOOS == "windows" {
			w.task, err = packageDir, nil // not everybody may make links there
		}
	}
	if err != nil {
		return w, storeError("%w", errors.Join(err, os.RemoveAll(w.path)))
	}
	return w, nil
}

// link makes links in dir to what is in from.
func link(from, dir string) error {
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		if err == nil {
			err = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name()))
		}
	}
	return err
}
