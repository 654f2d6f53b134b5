package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Rotating is a log file: path is the current file, path.1 the one before, up to path.N. It is safe
// for concurrent use.
type Rotating struct {
	path string
	max  int64
	keep int

	mu   sync.Mutex
	file *os.File // nil after a failure; the next line tries again
	size int64
	shut bool
}

// OpenRotating opens or creates the file at path, whose directory must exist. A file that would
// grow beyond max bytes is set aside first. keep is how many files are kept besides the current
// one.
func OpenRotating(path string, max int64, keep int) (*Rotating, error) {
	f := &Rotating{path: path, max: max, keep: keep}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f, f.open()
}

// The caller of open holds mu.
func (f *Rotating) open() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}

// WriteLine appends line and a newline.
func (f *Rotating) WriteLine(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return fs.ErrClosed
	}
	text := append(append(make([]byte, 0, len(line)+1), line...), '\n')
	if f.file != nil && f.size > 0 && f.size+int64(len(text)) > f.max {
		err := f.file.Close()
		f.file = nil
		if err = errors.Join(err, Shift(f.path, f.keep)); err != nil {
			return err
		}
	}
	if f.file == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	n, err := f.file.Write(text)
	f.size += int64(n)
	return err
}

// Close closes the file. It is idempotent.
func (f *Rotating) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// Aside returns the existing files that were set aside from the file at path, the oldest first.
func Aside(path string) (paths []string) {
	for i := 1; ; i++ {
		name := fmt.Sprintf("%s.%d", path, i)
		if _, err := os.Stat(name); err != nil {
			slices.Reverse(paths)
			return paths
		}
		paths = append(paths, name)
	}
}

// Shift sets the file at path aside: it becomes path.1, path.1 becomes path.2, and so on up to
// keep. The oldest is removed.
func Shift(path string, keep int) error {
	name := func(i int) string { return fmt.Sprintf("%s.%d", path, i) }
	if keep < 1 {
		return missingIsFine(os.Remove(path))
	}
	for i := keep - 1; i >= 1; i-- {
		if err := missingIsFine(os.Rename(name(i), name(i+1))); err != nil {
			return err
		}
	}
	return missingIsFine(os.Rename(filepath.Clean(path), name(1)))
}

func missingIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
