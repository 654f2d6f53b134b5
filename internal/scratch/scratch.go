// Package scratch makes temporary directories that a crash does not leave behind for good: the next program that makes one of the same kind removes those
// whose owner is no more.
package scratch

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/filelock"
)

// lockSuffix ends the name of the file beside a directory that is locked as long as the directory's owner lives.
const lockSuffix = ".lock"

// Dir is a temporary directory of this process.
type Dir struct {
	path string
	lock *filelock.Lock
}

// New makes a directory of a kind, which its name begins with, in the system's directory for temporary files, for this user alone. It first removes what
// processes that were killed have left of that kind, and calls abandoned, unless it is nil, before with the path of each.
func New(kind string, abandoned func(path string)) (*Dir, error) {
	parent := os.TempDir()
	sweep(parent, kind, abandoned)
	var path string
	var lock *filelock.Lock
	for {
		path = filepath.Join(parent, kind+"-"+rand.Text())
		// Locked before it is there, so that nobody takes it for one that was left.
		var err error
		if lock, err = filelock.Acquire(context.Background(), path+lockSuffix, 0); err == nil {
			break
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
		// Somebody who sweeps saw the file before it was locked, and looks whose it is: another name will do.
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return &Dir{path, lock}, nil
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

// Remove removes the directory with all that is in it.
func (d *Dir) Remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Release())
}

// sweep removes what was left. What it cannot remove, such as another user's, it leaves.
func sweep(parent, kind string, abandoned func(path string)) {
	entries, _ := os.ReadDir(parent) // what can be read of it will do
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), lockSuffix)
		if !strings.HasPrefix(name, kind+"-") || !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(parent, name)
		if info, err := os.Lstat(path + lockSuffix); err == nil && !info.Mode().IsRegular() {
			continue // a link that somebody else may have laid
		}
		lock, err := filelock.Acquire(context.Background(), path+lockSuffix, 0)
		if err != nil {
			continue // its owner lives, or is somebody else
		}
		if info, err := os.Lstat(path); err == nil && info.IsDir() {
			if abandoned != nil {
				abandoned(path)
			}
			_ = os.RemoveAll(path)
		}
		_ = lock.Release()
	}
}
