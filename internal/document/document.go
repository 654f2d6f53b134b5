// Package document parses a configuration document, JSON or TOML, into a tree of values with their
// positions, and rewrites single members without changing any other byte. It never converts a
// number to a float, and never reorders or reformats a foreign section.
package document

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Format is the notation of a document.
type Format string

// The formats.
const (
	JSON Format = "JSON"
	TOML Format = "TOML"
)

// maxDepth limits the nesting of a document, so that a hostile one cannot exhaust the stack.
const maxDepth = 100

// maxTOML limits how many keys and values a TOML document has, because its decoder looks each key
// up in a list of the earlier ones. Policies have a few dozen.
const maxTOML = 4096

// Document is a parsed document. It is immutable.
type Document struct {
	Format Format
	Root   *Value // of Kind Object in TOML; of any kind in JSON

	src  []byte
	toml *tomlIndex
}

// Source returns the parsed text. The caller must not change it.
func (d *Document) Source() []byte { return d.src }

// SyntaxError describes why a text is not a document.
type SyntaxError struct {
	Offset int    // in bytes
	Field  string // path of the innermost enclosing member, joined with dots; empty at the top
	Msg    string
}

// Error returns the message without the position, which the caller reports together with the file.
func (e *SyntaxError) Error() string { return e.Msg }

var bom = []byte("\xef\xbb\xbf")

// Parse parses a document and retains src. Text that is valid JSON or begins like a JSON object is
// JSON; all other text is TOML. The error is always a *SyntaxError.
//
// JSON must conform to RFC 8259. Parse does not refuse duplicate members: see [Value.Duplicate].
func Parse(src []byte) (*Document, error) {
	if bytes.HasPrefix(src, bom) {
		return nil, &SyntaxError{Msg: "the file begins with a byte order mark: save it as UTF-8 without one"}
	}
	if i := invalidUTF8(src); i >= 0 {
		return nil, &SyntaxError{Offset: i, Msg: fmt.Sprintf("byte 0x%02x is not valid UTF-8", src[i])}
	}
	text := bytes.TrimLeft(src, " \t\r\n")
	if len(text) == 0 {
		return nil, &SyntaxError{Msg: "the file is empty: write {} for the defaults, or remove it"}
	}
	root, jsonErr := parseJSON(src)
	if jsonErr == nil {
		return &Document{Format: JSON, Root: root, src: src}, nil
	}
	if text[0] == '{' {
		return nil, jsonErr
	}
	return parseTOML(src)
}

func invalidUTF8(src []byte) int {
	if utf8.Valid(src) {
		return -1
	}
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// Position returns the line and the column, in characters, of a byte offset. Both count from 1.
func Position(src []byte, offset int) (line, column int) {
	offset = min(max(offset, 0), len(src))
	before := src[:offset]
	line = 1 + bytes.Count(before, []byte{'\n'})
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}

// Kind is the kind of a value.
type Kind uint8

// The kinds. Time covers the dates and times of TOML.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
	Time
)

// String returns the kind with its article, for error messages.
func (k Kind) String() string {
	return [...]string{"null", "true or false", "a number", "a string", "an array", "an object", "a date or time"}[k]
}

// Value is a value of a document.
type Value struct {
	Kind Kind
	// Text is the decoded string, or the literal of a number, a boolean or a time.
	Text string
	// Damaged is true for a string with half a surrogate pair, which no decoding preserves.
	Damaged bool
	Members []Member // of an Object, in document order
	Elems   []Value  // of an Array

	// Start and End are the byte offsets of the literal. A TOML table that is not inline has no
	// literal: its End is 0, and its Start is where it is first named.
	Start, End int
}

// Member is a member of an object.
type Member struct {
	Name      string
	Damaged   bool // like Value.Damaged, for the name
	NameStart int  // byte offset
	Value     Value
}

// Get returns the member with exactly that name, or nil.
func (v *Value) Get(name string) *Value {
	if v == nil {
		return nil
	}
	for i := range v.Members {
		if v.Members[i].Name == name {
			return &v.Members[i].Value
		}
	}
	return nil
}

// Duplicate returns the first member whose name occurs earlier in the object.
func (v *Value) Duplicate() (Member, bool) {
	seen := make(map[string]bool, len(v.Members))
	for _, m := range v.Members {
		if seen[m.Name] {
			return m, true
		}
		seen[m.Name] = true
	}
	return Member{}, false
}

// describeRune describes a character of the document for an error message.
func describeRune(src []byte, offset int) string {
	if offset >= len(src) {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRune(src[offset:])
	if unicode.IsGraphic(r) {
		return fmt.Sprintf("%q", r)
	}
	return fmt.Sprintf("the character U+%04X", r)
}
