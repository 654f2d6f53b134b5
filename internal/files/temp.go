package files

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// lockSuffix ends the name of the file beside a directory that is locked as long as the directory's owner lives.
const lockSuffix = ".lock"

// Dir is a temporary directory of this process.
type Dir struct {
	path string
	lock *Lock
}

// TempDir makes a directory of a kind, which its name begins with, in the system's directory for temporary files, for this user alone. It first removes what
// processes that were killed have left of that kind, and calls abandoned, unless it is nil, before with the path of each.
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
		// Locked before it is there, so that nobody takes it for one that was left.
		var err error
		if lock, err = AcquireLock(context.Background(), path+lockSuffix, 0); err == nil {
			break
		}
		if !errors.Is(err, ErrLockHeld) {
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

// maxEntries bounds how many names in the directory for temporary files are looked at, which everybody can fill.
const maxEntries = 1 << 16

// sweep removes what was left. Everybody may write to the directory for temporary files: what is not this user's own, and for nobody else to read or
// change, is left alone, and so is what this user cannot remove.
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
