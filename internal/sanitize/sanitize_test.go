package sanitize

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLineIsHarmlessAndShort(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                       "plain",
		" \r\n spaces\tinside\n":      "spaces inside",
		"red \x1b[31malert\x07":       "red \uFFFD[31malert\uFFFD",
		"no \xff UTF-8":               "no \uFFFD UTF-8",
		"a\u2028b\u202Ec":             "a b\uFFFDc", // a line separator, and what turns the direction of text
		strings.Repeat("ü", 11):       strings.Repeat("ü", 10) + "...",
		"x" + strings.Repeat("ü", 10): "x" + strings.Repeat("ü", 9) + "...",
		"":                            "",
	} {
		if got := Line(text, 20); got != want {
			t.Errorf("Line(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTailKeepsTheEndAndTheLines(t *testing.T) {
	if got, want := Tail("first\nsecond \x1b[2J\r\n  third", 20), "second \uFFFD[2J\n  third"; got != want {
		t.Errorf("Tail = %q, want %q", got, want)
	}
}

func TestExcerptOfNothingSaysSo(t *testing.T) {
	if got := Excerpt(nil); got != "(empty answer)" {
		t.Errorf("Excerpt(nil) = %q", got)
	}
	if got := Excerpt([]byte(strings.Repeat("x", 1000))); len(got) != excerptSize+len("...") {
		t.Errorf("an excerpt of 1000 bytes has %d", len(got))
	}
}

func TestACleanerHidesWholeSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"one is the beginning of another": {[]string{"abcd", "abcdefgh"}, "abcdefgh and abcd", "(hidden) and (hidden)"},
		"one is the end of another":       {[]string{"efgh", "abcdefgh"}, "abcdefgh and efgh", "(hidden) and (hidden)"},
		"as it stands in JSON":            {[]string{`say "hi" & go`}, `{"m":"say \"hi\" \u0026 go"}`, `{"m":"(hidden)"}`},
		"short ones are left":             {[]string{"a", "1", ""}, "a 1", "a 1"},
		"none":                            {nil, "text", "text"},
	} {
		for range 20 { // the order of what was a map must not matter
			if got := NewCleaner(c.secrets...).Clean(c.text); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x00b\r\n\xff", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = min(max(limit, 0), 1<<16)
		got := Line(text, limit)
		if len(got) > limit+len("...") || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b\x00") {
			t.Errorf("Line(%q, %d) = %q", text, limit, got)
		}
	})
}
