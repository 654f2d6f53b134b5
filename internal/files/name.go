// Package files holds what the library does with files beyond the standard library.
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
