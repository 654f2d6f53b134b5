// Package files does what the standard library does not do with files. It replaces them atomically,
// locks them between processes, rotates logs, and makes temporary directories that are cleaned up
// even after a crash.
package files

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ReadableName returns a part of a file name that is valid on every system and resembles name.
// Different names may give the same result.
func ReadableName(name string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
	return readable[:min(len(readable), 80)]
}

// UniqueName returns the name itself if ReadableName does, or else a readable name that no other
// name gives.
func UniqueName(name string) string {
	readable := ReadableName(name)
	if readable == name {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return readable + "-" + hex.EncodeToString(sum[:6])
}
