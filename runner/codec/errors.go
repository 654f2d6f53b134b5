package codec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Error tells which value does not fit a schema, or which bytes.
type Error struct {
	// Path is where, such as "jobs[0].result.fields[2]": the names in the schema, and "fields[i]"
	// for a field without one. It is empty if the error is about all of the data.
	Path string
	// Offset is the place in the data, in bytes. It is 0 for errors of Encode.
	Offset int
	// Reason is what is wrong.
	Reason string
}

// Error returns the path and the reason.
func (e *Error) Error() string {
	if e.Path == "" {
		return "codec: " + e.Reason
	}
	return "codec: " + e.Path + ": " + e.Reason
}

func fail(offset int, format string, args ...any) *Error {
	return &Error{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// in adds the element to the front of the path. Paths are made only when something is wrong.
func (e *Error) in(element string) *Error {
	if element != "" && e.Path != "" && e.Path[0] != '[' {
		element += "."
	}
	e.Path = element + e.Path
	return e
}

// element names the i-th of fields. A name comes from whoever wrote the blueprint.
func element(fields []Field, i int) string {
	const limit = 64
	name := fields[i].Name
	if name == "" {
		return "fields[" + strconv.Itoa(i) + "]"
	}
	if len(name) > limit {
		name = name[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// element names the i-th value within a field. The value of an optional has its name.
func (f *Field) element(i int) string {
	switch f.Kind {
	case Struct:
		return element(f.Fields, i)
	case Optional:
		return ""
	default:
		return "[" + strconv.Itoa(i) + "]"
	}
}
