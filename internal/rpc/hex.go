package rpc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// DecodeHex decodes 0x and an even number of hexadecimal digits, the byte strings of nodes. It
// decodes in place: answers are long, and nobody needs their digits afterwards.
func DecodeHex(s []byte) ([]byte, error) {
	if len(s) < 2 || s[0] != '0' || s[1] != 'x' && s[1] != 'X' {
		return nil, errors.New("not hexadecimal: it does not begin with 0x")
	}
	n, err := hex.Decode(s, s[2:]) // Decode writes no byte before it has read it
	if err != nil {
		return nil, fmt.Errorf("not hexadecimal: %w", err)
	}
	return s[:n:n], nil
}

// ParseQuantity parses 0x and hexadecimal digits, the numbers of nodes. If the text is too long
// for a number, the error does not show any of it.
func ParseQuantity(s string) (uint64, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	switch {
	case len(s) > 40:
		return 0, fmt.Errorf("a text of %d bytes is not a number in hexadecimal", len(s))
	case !ok:
		return 0, fmt.Errorf("%q is not a number in hexadecimal", Clip(s))
	case err != nil || digits[0] == '+':
		return 0, fmt.Errorf("%q is not a number of 64 bits in hexadecimal", Clip(s))
	}
	return n, nil
}

// Quantity returns 0x and the hexadecimal digits of a number.
func Quantity(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// Clip makes foreign text fit for a message: short, valid UTF-8, and without control characters
// that a terminal would obey.
func Clip(s string) string {
	const limit = 200
	more := ""
	if len(s) > limit {
		s, more = strings.ToValidUTF8(s[:limit], ""), "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s) + more
}
