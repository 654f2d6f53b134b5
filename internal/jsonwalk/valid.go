package jsonwalk

import (
	"bytes"
	"unicode/utf8"
)

// maxDepth is the maximum nesting of values.
const maxDepth = 1000

// Valid reports whether data is a JSON value. Unlike [encoding/json.Valid], it requires strings to
// be UTF-8, allows no more than 1000 levels of nesting, and is many times as fast for long
// strings.
func Valid(data []byte) bool {
	rest, ok := value(Trim(data), maxDepth)
	return ok && len(Trim(rest)) == 0
}

// value skips a value and returns the rest. The data begins with the value's first byte.
func value(data []byte, depth int) (rest []byte, ok bool) {
	if len(data) == 0 || depth == 0 {
		return nil, false
	}
	switch data[0] {
	case '{':
		return list(data, '}', func(data []byte) ([]byte, bool) {
			data, ok := text(data)
			if !ok {
				return nil, false
			}
			if data = Trim(data); len(data) == 0 || data[0] != ':' {
				return nil, false
			}
			return value(Trim(data[1:]), depth-1)
		})
	case '[':
		return list(data, ']', func(data []byte) ([]byte, bool) { return value(data, depth-1) })
	case '"':
		return text(data)
	case 't':
		return bytes.CutPrefix(data, []byte("true"))
	case 'f':
		return bytes.CutPrefix(data, []byte("false"))
	case 'n':
		return bytes.CutPrefix(data, []byte("null"))
	default:
		return number(data)
	}
}

// list skips an object or an array.
func list(data []byte, end byte, element func([]byte) ([]byte, bool)) (rest []byte, ok bool) {
	data = Trim(data[1:])
	if len(data) > 0 && data[0] == end {
		return data[1:], true
	}
	for {
		if data, ok = element(data); !ok {
			return nil, false
		}
		data = Trim(data)
		switch {
		case len(data) == 0:
			return nil, false
		case data[0] == end:
			return data[1:], true
		case data[0] != ',':
			return nil, false
		}
		data = Trim(data[1:])
	}
}

// text skips a string.
func text(data []byte) (rest []byte, ok bool) {
	if len(data) == 0 || data[0] != '"' {
		return nil, false
	}
	end := stringEnd(data, 0)
	if end >= len(data) {
		return nil, false
	}
	inner := data[1:end]
	if !utf8.Valid(inner) {
		return nil, false
	}
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c < ' ':
			return nil, false
		case c == '\\':
			i++ // the closing quote guarantees that a byte follows
			switch inner[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(inner)-i < 5 || !allHex(inner[i+1:i+5]) {
					return nil, false
				}
			default:
				return nil, false
			}
		}
	}
	return data[end+1:], true
}

func allHex(digits []byte) bool {
	for _, c := range digits {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// number skips a number.
func number(data []byte) (rest []byte, ok bool) {
	if data[0] == '-' {
		data = data[1:]
	}
	whole := digits(data)
	if whole == 0 || whole > 1 && data[0] == '0' {
		return nil, false
	}
	data = data[whole:]
	if len(data) > 0 && data[0] == '.' {
		n := digits(data[1:])
		if n == 0 {
			return nil, false
		}
		data = data[1+n:]
	}
	if len(data) > 0 && data[0]|0x20 == 'e' {
		data = data[1:]
		if len(data) > 0 && (data[0] == '+' || data[0] == '-') {
			data = data[1:]
		}
		n := digits(data)
		if n == 0 {
			return nil, false
		}
		data = data[n:]
	}
	return data, true
}

// digits counts the leading digits.
func digits(data []byte) int {
	for i, c := range data {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(data)
}
