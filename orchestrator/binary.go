package orchestrator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// copyBinary copies the binary into dir, so that a runner executes the bytes that were inspected
// even if the file changes later. It returns ErrConflict if the file has other bytes by now, and
// ErrNotFound if it is gone. The copy keeps the file's name, by which programs and people know it.
func copyBinary(b *faas.Binary, dir string) (path string, err error) {
	bad := func(code faas.Code, format string, args ...any) (string, error) {
		return "", faas.Errorf(code, "start runner", "", format, args...)
	}
	info, err := os.Stat(b.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad(faas.ErrNotFound, "%w", err)
	case err != nil:
		return bad(faas.ErrInvalidArgument, "%w", err)
	case !info.Mode().IsRegular():
		return bad(faas.ErrInvalidArgument, "%s is not a regular file", b.Path)
	case runtime.GOOS != "windows" && info.Mode()&0o111 == 0:
		return bad(faas.ErrInvalidArgument, "%s is not executable: chmod +x it", b.Path)
	}
	from, err := os.Open(b.Path)
	if err != nil {
		return bad(faas.ErrInvalidArgument, "%w", err)
	}
	defer from.Close()
	path = filepath.Join(dir, filepath.Base(b.Path))
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return bad(faas.ErrInternal, "copy the binary: %w", err)
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, hash), from)
	if err = errors.Join(err, to.Close()); err != nil {
		return bad(faas.ErrInternal, "copy the binary: %w", err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); b.SHA256 != "" && sum != b.SHA256 {
		return bad(faas.ErrConflict, "%s changed after it was inspected: its SHA-256 was %s and is %s: deploy "+
			"again when it is complete", b.Path, b.SHA256, sum)
	}
	return path, nil
}

// holds reports whether the file at path has the hash.
func holds(path, sha256Hex string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return err == nil && hex.EncodeToString(hash.Sum(nil)) == sha256Hex
}

// executableDir returns the first of the directories, created if missing, from which programs can
// be executed. It tries the directories given, then one in the user's cache.
func executableDir(dirs ...string) (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(cache, "tangle"))
	}
	for _, dir := range dirs {
		if os.MkdirAll(dir, 0o700) == nil && files.CanExecute(dir) {
			return dir, nil
		}
	}
	return "", faas.Errorf(faas.ErrInvalidArgument, "start runner", "",
		"no program can be executed in any of %q: mount one without noexec, or set TMPDIR to a directory that is", dirs)
}
