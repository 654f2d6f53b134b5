package sanitize

import (
	"html"
	"iter"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// view is the decoded form of a text or of a part of it, with the place in the text from which each
// of its bytes comes.
type view struct {
	text string
	// at is where each byte begins in the original, followed by the end of the original. If it is nil,
	// the text is the original.
	at []int32
	// from and to, if to is not 0, are the range that every byte stands for. If base64 encodes a
	// secret, all of it is hidden.
	from, to int
}

func (v view) start(i int) int {
	switch {
	case v.to > 0:
		return v.from
	case v.at == nil:
		return i
	}
	return int(v.at[i])
}

func (v view) end(i int) int {
	switch {
	case v.to > 0:
		return v.to
	case v.at == nil:
		return i + 1
	}
	return int(v.at[i+1])
}

// views yields the text, and its decoded forms for the encodings in which texts are sent. They
// never hold more than a few dozen bytes for a byte of the text.
func views(text string) iter.Seq[view] {
	return func(yield func(view) bool) {
		plain := view{text: text}
		all := []view{plain}
		for _, how := range []encoding{inJSON, inURL, inForm, inHTML} {
			outer, changed := plain.decode(how)
			if !changed {
				continue
			}
			all = append(all, outer)
			if inner, changed := outer.decode(inJSON); changed { // a JSON text that was encoded once more
				all = append(all, inner)
			}
		}
		for _, v := range all {
			if !yield(v) {
				return
			}
			for run := range v.base64() {
				if !yield(run) {
					return
				}
				if inner, changed := run.decode(inJSON); changed && !yield(inner) {
					return
				}
			}
		}
	}
}

// encoding writes some bytes as several others, which begin with one of the marks. decode returns
// what the beginning of a text stands for and how many bytes that takes, or 0 if it stands for
// itself.
type encoding struct {
	marks  string
	decode func(text string) (decoded string, size int)
}

var (
	inJSON = encoding{`\`, decodeBackslash}
	inURL  = encoding{"%", decodePercent}
	inForm = encoding{"%+", func(text string) (string, int) {
		if text[0] == '+' {
			return " ", 1
		}
		return decodePercent(text)
	}}
	inHTML = encoding{"&", decodeEntity}
)

// decode returns the view without the encoding, and whether it had any.
func (v view) decode(how encoding) (view, bool) {
	next := strings.IndexAny(v.text, how.marks)
	if next < 0 {
		return v, false
	}
	var b strings.Builder
	b.Grow(len(v.text))
	at := make([]int32, 0, len(v.text)+1)
	for i := 0; i < len(v.text); {
		decoded, size := "", 0
		if strings.IndexByte(how.marks, v.text[i]) >= 0 {
			decoded, size = how.decode(v.text[i:])
		}
		if size == 0 {
			decoded, size = v.text[i:i+1], 1
		}
		for range len(decoded) {
			at = append(at, int32(v.start(i)))
		}
		b.WriteString(decoded)
		i += size
	}
	at = append(at, int32(v.end(len(v.text)-1)))
	return view{text: b.String(), at: at, from: v.from, to: v.to}, true
}

// decodeBackslash decodes what JSON, Go and most other languages write with a backslash.
func decodeBackslash(text string) (string, int) {
	if len(text) < 2 {
		return "", 0
	}
	switch c := text[1]; c {
	case 'n':
		return "\n", 2
	case 'r':
		return "\r", 2
	case 't':
		return "\t", 2
	case 'b':
		return "\b", 2
	case 'f':
		return "\f", 2
	case 'x':
		if n, ok := hex(text, 2, 2); ok {
			return string([]byte{byte(n)}), 4
		}
	case 'u':
		high, ok := hex(text, 2, 4)
		if !ok {
			return "", 0
		}
		if low, ok := hex(text, 8, 4); ok && strings.HasPrefix(text[6:], `\u`) {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return string(r), 12
			}
		}
		return string(high), 6
	}
	return text[1:2], 2
}

func decodePercent(text string) (string, int) {
	n, ok := hex(text, 1, 2)
	if !ok {
		return "", 0
	}
	return string([]byte{byte(n)}), 3
}

// longestEntity is the longest entity that is decoded, in bytes. All entities for characters that
// HTML must escape are shorter.
const longestEntity = 10

func decodeEntity(text string) (string, int) {
	end := strings.IndexByte(text[:min(len(text), longestEntity)], ';') + 1
	if decoded := html.UnescapeString(text[:end]); decoded != text[:end] {
		return decoded, end
	}
	return "", 0
}

// hex reads n hexadecimal digits.
func hex(text string, from, n int) (rune, bool) {
	if len(text) < from+n {
		return 0, false
	}
	v, err := strconv.ParseUint(text[from:from+n], 16, 32)
	return rune(v), err == nil && text[from] != '+'
}

// shortestRun is the least number of base64 digits that encode a secret.
const shortestRun = (shortest*8 + 5) / 6

// base64 yields what every run of base64 digits in the view stands for. It reads each run from each
// of its first four digits on, because the text before an encoded text may consist of digits too.
// It skips line breaks.
func (v view) base64() iter.Seq[view] {
	return func(yield func(view) bool) {
		for i := 0; i < len(v.text); {
			from := i
			var digits []byte
			for ; i < len(v.text); i++ {
				if d := base64Digit[v.text[i]]; d < 64 {
					digits = append(digits, d)
				} else if d == notADigit {
					break
				}
			}
			end := i
			i++
			if len(digits) < shortestRun {
				continue
			}
			for end < len(v.text) && v.text[end] == '=' {
				end++
			}
			for phase := range min(4, len(digits)) {
				run := view{text: pack(digits[phase:]), from: v.start(from), to: v.end(end - 1)}
				if run.text != "" && !yield(run) {
					return
				}
			}
		}
	}
}

// pack returns the bytes for which base64 digits stand. It drops the rest of less than a byte.
func pack(digits []byte) string {
	out := make([]byte, 0, len(digits)*3/4)
	for ; len(digits) >= 2; digits = digits[min(4, len(digits)):] {
		out = append(out, digits[0]<<2|digits[1]>>4)
		if len(digits) > 2 {
			out = append(out, digits[1]<<4|digits[2]>>2)
		}
		if len(digits) > 3 {
			out = append(out, digits[2]<<6|digits[3])
		}
	}
	return string(out)
}

// The entries of base64Digit for characters that are not digits.
const (
	lineBreak = 0xfe
	notADigit = 0xff
)

// base64Digit holds the value of every digit, of the standard alphabet and of that for URLs.
var base64Digit = func() (table [256]byte) {
	for i := range table {
		table[i] = notADigit
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		table[c] = byte(i)
	}
	table['-'], table['_'], table['\r'], table['\n'] = table['+'], table['/'], lineBreak, lineBreak
	return table
}()
