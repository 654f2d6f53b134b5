// Package sanitize makes texts that others wrote fit for errors and logs: short, without control
// characters, and without secrets.
package sanitize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns a text as one line of at most limit bytes, with single spaces and without anything
// that would disturb a terminal or a log. Three dots mark a cut.
func Line(text string, limit int) string { return cut(strings.Join(strings.Fields(text), " "), limit) }

// cut is Line for a text that keeps its spaces.
func cut(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return '\uFFFD'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "..."
}

// Tail returns the end of a log, at most limit bytes of the original. It makes each line as
// harmless as Line does, and keeps the indentation.
func Tail(log string, limit int) string {
	var clean []string
	for line := range strings.Lines(log[max(0, len(log)-limit):]) {
		clean = append(clean, cut(strings.TrimRightFunc(line, unicode.IsSpace), limit))
	}
	return strings.Join(clean, "\n")
}

// excerptSize is how much of an answer an excerpt shows, in bytes.
const excerptSize = 200

// Excerpt returns the beginning of an answer whose form is unknown.
func Excerpt(body []byte) string {
	if len(body) == 0 {
		return "(empty answer)"
	}
	// A little more than fits, so that the cut is marked.
	return Line(string(body[:min(len(body), excerptSize+utf8.UTFMax)]), excerptSize)
}

// Hidden replaces a secret.
const Hidden = "(hidden)"

// shortest is the length of the shortest secret that is hidden, in bytes. Hiding shorter ones would
// garble every text.
const shortest = 4
