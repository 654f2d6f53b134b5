// Package suggest finds the name that a misspelled one was meant to be.
package suggest

import (
	"strings"
	"unicode/utf8"
)

// Name returns the known name of which name seems to be a misspelling: it differs only in case,
// hyphens and underscores, or by at most two typing errors (one, for names of up to four letters).
// A known name is not a misspelling, and neither is one with an extra word, such as enable_logs.
func Name(name string, known []string) (string, bool) {
	best, bestDistance := "", 3
	lower := strings.ToLower(name)
	for _, k := range known {
		if k == name {
			return "", false
		}
		target := strings.ToLower(k)
		limit := 2
		if utf8.RuneCountInString(target) <= 4 {
			limit = 1
		}
		d := distance(lower, target, limit)
		switch {
		case separators.Replace(lower) == separators.Replace(target):
			d = 0
		case strings.HasPrefix(lower, target+"_") || strings.HasPrefix(lower, target+"-") ||
			strings.HasSuffix(lower, "_"+target) || strings.HasSuffix(lower, "-"+target):
			continue
		}
		if d <= limit && d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best, best != ""
}

var separators = strings.NewReplacer("_", "", "-", "", " ", "")

// distance counts the letters to add, drop or replace, and the neighbors to swap, that turn a into
// b. It does not distinguish counts above most.
func distance(a, b string, most int) int {
	if d := utf8.RuneCountInString(a) - utf8.RuneCountInString(b); d > most || -d > most {
		return most + 1
	}
	s, t := []rune(a), []rune(b)
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			replace := last[j-1]
			if s[i-1] != t[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}
