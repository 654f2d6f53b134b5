package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

var (
	jsonSyntax   = syntax{colon: ": ", name: jsonString, value: jsonValue}
	inlineSyntax = syntax{colon: " = ", name: tomlKey, value: func(v any, _ layout) string { return tomlValue(v) }}
)

func jsonString(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // keep the & of an endpoint readable
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func jsonValue(v any, l layout) string {
	fields, ok := v.(Fields)
	if !ok {
		return scalar(v, jsonString)
	}
	inner, outer, between := "", "", ","
	switch {
	case l.multiline:
		inner, outer = "\n"+l.indent+l.unit, "\n"+l.indent
		between = "," + inner
	case strings.Contains(l.colon, " "):
		between = ", "
	}
	parts := make([]string, len(fields))
	below := l
	below.indent += l.unit
	for i, f := range fields {
		parts[i] = jsonString(f.Name) + l.colon + jsonValue(f.Value, below)
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{" + inner + strings.Join(parts, between) + outer + "}"
}

func tomlValue(v any) string {
	fields, ok := v.(Fields)
	if !ok {
		return scalar(v, tomlString)
	}
	if len(fields) == 0 {
		return "{}"
	}
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = tomlKey(f.Name) + " = " + tomlValue(f.Value)
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func tomlKey(name string) string {
	bare := name != ""
	for _, r := range name {
		bare = bare && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}
	if bare {
		return name
	}
	return tomlString(name)
}

// tomlString renders a basic string: a JSON string in which one more control character is escaped.
func tomlString(s string) string { return strings.ReplaceAll(jsonString(s), "\x7f", `\u007f`) }

func scalar(v any, str func(string) string) string {
	switch v := v.(type) {
	case string:
		return str(v)
	case bool:
		return strconv.FormatBool(v)
	case uint32:
		return strconv.FormatUint(uint64(v), 10)
	case []string:
		items := make([]string, len(v))
		for i := range v {
			items[i] = str(v[i])
		}
		return "[" + strings.Join(items, ", ") + "]"
	case Literal:
		return string(v)
	}
	panic(fmt.Sprintf("document: a change cannot have a value of type %T", v))
}

// JSON returns the value as compact JSON. Numbers keep their digits. Dates, times and the TOML
// numbers that JSON lacks become strings.
func (v *Value) JSON() string {
	var b strings.Builder
	v.writeJSON(&b)
	return b.String()
}

func (v *Value) writeJSON(b *strings.Builder) {
	switch v.Kind {
	case Object:
		b.WriteByte('{')
		for i := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(jsonString(v.Members[i].Name) + ":")
			v.Members[i].Value.writeJSON(b)
		}
		b.WriteByte('}')
	case Array:
		b.WriteByte('[')
		for i := range v.Elems {
			if i > 0 {
				b.WriteByte(',')
			}
			v.Elems[i].writeJSON(b)
		}
		b.WriteByte(']')
	case Null:
		b.WriteString("null")
	case Bool:
		b.WriteString(v.Text)
	case Number:
		if number := strings.TrimPrefix(v.Text, "+"); json.Valid([]byte(number)) {
			b.WriteString(number)
		} else {
			b.WriteString(jsonString(v.Text))
		}
	default:
		b.WriteString(jsonString(v.Text))
	}
}

// AsJSON returns the document if it is JSON, or else its content as JSON.
func (d *Document) AsJSON() (*Document, error) {
	if d.Format == JSON {
		return d, nil
	}
	return Parse([]byte(d.Root.JSON()))
}

// Raw returns the literal of a value, or the empty string for a TOML table without one.
func (d *Document) Raw(v *Value) Literal {
	if v.End == 0 {
		return ""
	}
	return Literal(d.src[v.Start:v.End])
}
