package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// checkJSON refuses what is not one JSON object in valid UTF-8 of at most limit bytes. The walking below relies on it.
func checkJSON(data []byte, limit int) error {
	switch {
	case len(data) > limit:
		return fmt.Errorf("the JSON is %d bytes long, more than the limit of %d", len(data), limit)
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("the JSON begins with a byte order mark, which has to be removed")
	case !utf8.Valid(data):
		return errors.New("the JSON is not valid UTF-8")
	}
	if !json.Valid(data) {
		var v json.RawMessage
		err := json.Unmarshal(data, &v) // only for its text, which says where
		if err == nil {
			err = errors.New("malformed")
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("not JSON: %w (at byte %d of %d)", err, syntax.Offset, len(data))
		}
		return fmt.Errorf("not JSON: %w", err)
	}
	if kind(trim(data)) != "an object" {
		return fmt.Errorf("the JSON is %s, not an object", kind(trim(data)))
	}
	return nil
}

// members calls f for every member of a JSON object in the order of the text. The object has to be part of valid JSON. Names are compared by
// the caller as they are: unlike encoding/json, the formats tell upper from lower case.
func members(object []byte, f func(name string, value []byte) error) error {
	rest := trim(object)[1:]
	for {
		rest = trim(rest)
		if len(rest) == 0 || rest[0] == '}' {
			return nil
		}
		if rest[0] == ',' {
			rest = trim(rest[1:])
		}
		end := valueEnd(rest)
		name := unquote(rest[:end])
		rest = trim(rest[end:])
		rest = trim(rest[1:]) // the colon
		end = valueEnd(rest)
		if err := f(name, rest[:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
}

// valueEnd returns the length of the JSON value that valid JSON begins with.
func valueEnd(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
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

func trim(data []byte) []byte { return bytes.Trim(data, " \t\r\n") }

func unquote(raw []byte) string {
	if len(raw) < 2 {
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

// kind names the kind of a JSON value, with its article.
func kind(raw []byte) string {
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

func readString(raw []byte) (string, error) {
	if kind(raw) != "a string" {
		return "", fmt.Errorf("is %s, not a string", kind(raw))
	}
	return unquote(raw), nil
}

func readBool(raw []byte) (bool, error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("is %s, not a boolean", kind(raw))
}

// readUint reads an integer that fits bits. Like the existing readers it takes no sign, fraction or exponent.
func readUint(raw []byte, bits int) (uint64, error) {
	n, err := strconv.ParseUint(string(raw[:min(len(raw), 32)]), 10, bits)
	if err != nil {
		if kind(raw) != "a number" {
			return 0, fmt.Errorf("is %s, not a number", kind(raw))
		}
		return 0, fmt.Errorf("is %s, not an integer between 0 and %d", clip(string(raw[:min(len(raw), 64)])), ^uint64(0)>>(64-bits))
	}
	return n, nil
}

func readUint32(raw []byte) (uint32, error) {
	n, err := readUint(raw, 32)
	return uint32(n), err
}

// clip shortens foreign text for a message.
func clip(s string) string {
	const limit = 40
	if len(s) <= limit {
		return s
	}
	for n := limit; ; n-- {
		if utf8.RuneStart(s[n]) {
			return s[:n] + "..."
		}
	}
}
