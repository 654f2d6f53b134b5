package profiles

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReadFile reads a file, but no more than MaxJSON+1 bytes. Anything but a regular file is an error,
// because opening a pipe blocks.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxJSON+1))
}

// BlueprintName returns the name of a blueprint that has no other: that of its binary.
func BlueprintName(binary string) string { return strings.TrimSuffix(filepath.Base(binary), ".exe") }
