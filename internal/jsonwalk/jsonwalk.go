// Package jsonwalk walks over JSON without building values from it: what it hands out are parts of the text. Unlike encoding/json it tells
// members apart whose names differ in case, shows a member that is there twice, and costs nothing for what the caller skips.
//
// The text must have passed [Valid] or [json.Valid]; then no call panics and none reads beyond the text.
package jsonwalk

import (
	"bytes"
	"encoding/json"
)

// Members calls f for every member of an object, in the order of the text, with its name unescaped. It ends with the first error of f.
func Members(object []byte, f func(name string, value []byte) error) error {
	rest := inside(object)
	for len(rest) > 0 && rest[0] != '}' {
		end := ValueEnd(rest)
		name := Unquote(rest[:end])
		rest = Trim(rest[end:])
		rest = Trim(rest[1:]) // the colon
		end = ValueEnd(rest)
		if err := f(name, rest[:end]); err != nil {
			return err
		}
		rest = next(rest[end:])
	}
	return nil
}

// Elements calls f for every element of an array, in order. It ends with the first error of f.
func Elements(array []byte, f func(value []byte) error) error {
	rest := inside(array)
	for len(rest) > 0 && rest[0] != ']' {
		end := ValueEnd(rest)
		if err := f(rest[:end]); err != nil {
			return err
		}
		rest = next(rest[end:])
	}
	return nil
}

// inside skips the bracket that an object or an array begins with.
func inside(data []byte) []byte {
	data = Trim(data)
	if len(data) == 0 {
		return nil
	}
	return Trim(data[1:])
}

// next skips the comma before the next member or element.
func next(rest []byte) []byte {
	rest = Trim(rest)
	if len(rest) > 0 && rest[0] == ',' {
		rest = Trim(rest[1:])
	}
	return rest
}

// ValueEnd returns the length of the value that the text begins with.
func ValueEnd(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
			if depth == 0 {
				return min(i+1, len(data))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what holds a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(data)
}

// stringEnd returns where the quote stands that ends the string that begins at i, or the length of
// data if none does.
func stringEnd(data []byte, i int) int { return stringEndBy(bytes.IndexByte, data, i) }

// stringEndBy looks for quotes and backslashes with index, which is bytes.IndexByte but for tests
// that count what it looks at: strings may be millions of bytes long. A quote that was found stays
// found while the backslashes before it are passed, so that no byte is looked at more than twice.
func stringEndBy(index func([]byte, byte) int, data []byte, i int) int {
	for i++; i < len(data); {
		quote := index(data[i:], '"')
		if quote < 0 {
			break
		}
		quote += i
		for i < quote {
			escape := index(data[i:quote], '\\')
			if escape < 0 {
				return quote
			}
			i += escape + 2
		}
		if i == quote {
			return quote
		}
	}
	return len(data)
}

// Trim removes white space from the beginning of the text.
func Trim(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\n' || data[0] == '\t' || data[0] == '\r') {
		data = data[1:]
	}
	return data
}

// Unquote returns what a string says, and the empty string for a value that is none.
func Unquote(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// Kind names the kind of a value, with its article.
func Kind(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
