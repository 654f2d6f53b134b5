//go:build unix

package worker

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// newSpoolFile creates a file without a name, so that nobody else finds it and it is gone when it
// is closed.
func newSpoolFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "answer-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func closeSpoolFile(f *os.File) { _ = f.Close() }

// mapFile maps the content of the file. The system can take that memory back at any time.
func mapFile(f *os.File, size int64) (text []byte, unmap func(), err error) {
	text, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	return text, func() { _ = unix.Munmap(text) }, err
}
