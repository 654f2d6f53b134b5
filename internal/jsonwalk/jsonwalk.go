// Package jsonwalk walks over JSON without building values: it returns parts of the text. Unlike
// encoding/json it distinguishes members whose names differ in case, reports duplicate members,
// and spends nothing on what the caller skips.
//
// The text must have passed [Valid] or [json.Valid]. Then no call panics or reads beyond the text.
package jsonwalk

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Valid reports whether data is a JSON value. Unlike [encoding/json.Valid], it requires strings to
// be UTF-8, and is many times as fast. Values may be nested 10000 levels deep.
func Valid(data []byte) bool {
	return utf8.Valid(data) &&
		jsontext.Value(data).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// Members calls f for every member of an object in the order of the text, with its unescaped name.
// It stops at the first error of f and returns it.
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

// Elements calls f for every element of an array in order. It stops at the first error of f and
// returns it.
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

// inside skips the opening bracket of an object or an array.
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

// ValueEnd returns the length of the value at the start of the text.
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
				return i // the end of the enclosing object or array, after a number or a word
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

// stringEnd returns the index of the closing quote of the string that begins at i, or the length
// of data if there is none.
func stringEnd(data []byte, i int) int { return stringEndBy(bytes.IndexByte, data, i) }

// stringEndBy searches for quotes and backslashes with index. Tests replace bytes.IndexByte to
// count the bytes searched, because strings may be millions of bytes long. A quote that was found
// is remembered while the backslashes before it are skipped, so no byte is searched more than
// twice.
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

// Trim removes leading white space.
func Trim(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\n' || data[0] == '\t' || data[0] == '\r') {
		data = data[1:]
	}
	return data
}

// Unquote returns the text of a JSON string, or the empty string for any other value.
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

// Kind names the kind of a value with its article.
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
