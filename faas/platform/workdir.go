package platform

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// workDir is the directory of one function. Neither another function, nor an earlier one of the
// same id, has files in it.
type workDir struct {
	path string
	// task is the function's working directory. It has links to the files of the package, so that
	// relative paths find these, while what the function writes stays its own.
	task string
}

// temp returns the directory for HOME and TMPDIR.
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

// link makes links in dir to the entries of from.
func link(from, dir string) error {
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		if err == nil {
			err = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name()))
		}
	}
	return err
}
