//go:build unix

package worker

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// newSpoolFile makes a file that has no name, so that it is gone when it is closed, and nobody else finds it.
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

// mapFile returns what is in the file without taking memory for it that the system could not take back.
func mapFile(f *os.File, size int64) (text []byte, unmap func(), err error) {
	text, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	return text, func() { _ = unix.Munmap(text) }, err
}
