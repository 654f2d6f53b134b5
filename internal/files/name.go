// Package files is what the library does with files beyond the standard library: it replaces them
// whole, locks them between processes, sets logs aside when they have grown, and makes temporary
// directories that do not outlive a crash for good.
package files

import "strings"

// ReadableName returns a part of a file name that is valid on every system and resembles name.
// Several names may give the same.
func ReadableName(name string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
	return readable[:min(len(readable), 80)]
}
