package files

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// lockSuffix ends the name of the file beside a directory that is locked while the directory's
// owner lives.
const lockSuffix = ".lock"

// Dir is a temporary directory of this process.
type Dir struct {
	path string
	lock *Lock
}

// TempDir creates a directory whose name begins with kind in the system's directory for temporary
// files, for this user alone. It first removes the directories of that kind that killed processes
// have left. If abandoned is not nil, TempDir calls it with the path of each before it removes it.
func TempDir(kind string, abandoned func(path string)) (*Dir, error) {
	return TempDirIn(os.TempDir(), kind, abandoned)
}

// TempDirIn is [TempDir] in another directory.
func TempDirIn(parent, kind string, abandoned func(path string)) (*Dir, error) {
	sweep(parent, kind, abandoned)
	var path string
	var lock *Lock
	for {
		path = filepath.Join(parent, kind+"-"+rand.Text())
		// Lock before the directory exists, so that nobody takes it for an abandoned one.
		var err error
		if lock, err = AcquireLock(context.Background(), path+lockSuffix, 0); err == nil {
			break
		}
		if !errors.Is(err, ErrLockHeld) {
			return nil, err
		}
		// Somebody who sweeps saw the file before it was locked and is checking its owner. Another name
		// will do.
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return &Dir{path, lock}, nil
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

// Remove removes the directory with everything in it.
func (d *Dir) Remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Release())
}

// maxEntries limits how many names are read in the directory for temporary files, which everybody
// can fill.
const maxEntries = 1 << 16

// sweep removes abandoned directories. Everybody may write to the directory for temporary files, so
// sweep leaves alone what belongs to another user, what others can read or change, and what this
// user cannot remove.
func sweep(parent, kind string, abandoned func(path string)) {
	dir, err := os.Open(parent)
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	for seen := 0; seen < maxEntries; {
		entries, err := dir.ReadDir(1024)
		seen += len(entries)
		for _, e := range entries {
			if name := strings.TrimSuffix(e.Name(), lockSuffix); strings.HasPrefix(name, kind+"-") {
				sweepOne(filepath.Join(parent, name), abandoned)
			}
		}
		if err != nil { // what could be read of it will do
			return
		}
	}
}

func sweepOne(path string, abandoned func(path string)) {
	there, err := os.Lstat(path)
	if err == nil && !(there.IsDir() && own(there) && private(there)) {
		return
	}
	lockFile, lockErr := os.Lstat(path + lockSuffix)
	switch {
	case lockErr == nil && !(lockFile.Mode().IsRegular() && own(lockFile)):
		return
	case lockErr != nil && err != nil: // both are gone by now
		return
	}
	lock, lockErr := AcquireLock(context.Background(), path+lockSuffix, 0)
	if lockErr != nil {
		return // its owner lives
	}
	if err == nil {
		if abandoned != nil {
			abandoned(path)
		}
		_ = os.RemoveAll(path)
	}
	_ = lock.Release()
}
