package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Write replaces the content of the file at path with data, and its permissions with mode. The
// directory must exist. prepare may change the new file, which is still a temporary one, before it
// replaces the other. After an error the file is unchanged.
func Write(path string, data []byte, mode fs.FileMode, prepare ...func(*os.File)) error {
	return Replace(path, mode, func(tmp *os.File) error {
		_, err := tmp.Write(data)
		for _, f := range prepare {
			f(tmp)
		}
		return err
	})
}

// Replace is [Write] for content that need not be in memory: fill writes it to the new file, and
// its error keeps the old one.
func Replace(path string, mode fs.FileMode, fill func(tmp *os.File) error) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close() // the first error counts
			_ = os.Remove(tmp.Name())
		}
	}()
	if err = fill(tmp); err != nil {
		return err
	}
	if err = tmp.Chmod(mode); err != nil && runtime.GOOS != "windows" {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes a new or renamed file in a directory survive a crash.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // where directories cannot be opened for that, and need not be
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
