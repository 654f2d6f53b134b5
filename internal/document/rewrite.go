package document

import (
	"bytes"
	"fmt"
	"strings"
)

// Change changes a member of an object. Members without a Change keep their bytes.
type Change struct {
	Name string
	// Value is the new value: a string, bool, uint32, []string, Fields or Literal. If it is nil, the
	// member is removed. A new member is added after the others.
	Value any
	// Within changes the inside of the member, which must be an object. Value is then ignored.
	Within []Change
}

// Fields is the value of a new object.
type Fields []Field

// Field is a member of a new object.
type Field struct {
	Name  string
	Value any
}

// Literal is the text of a value in another document of the same format.
type Literal string

// Rewrite returns the document's text with the changes. It fails if they cannot be made in place.
func (d *Document) Rewrite(changes []Change) ([]byte, error) {
	if d.Root.Kind != Object {
		return nil, fmt.Errorf("the document is %s, not an object", d.Root.Kind)
	}
	if d.Format == TOML {
		return d.rewriteTOML(changes)
	}
	w := &braceWriter{src: d.src, unit: "  ", syntax: jsonSyntax}
	multiline := len(d.Root.Members) == 0
	if !multiline {
		w.syntax.colon = w.colon(d.Root.Members[0])
		lead := string(d.src[d.Root.Start+1 : d.Root.Members[0].NameStart])
		if i := strings.LastIndexByte(lead, '\n'); i >= 0 && i+1 < len(lead) {
			w.unit = lead[i+1:]
		}
	}
	text, err := w.object(d.Root, changes, "", multiline)
	if err != nil {
		return nil, err
	}
	return splice(d.src, d.Root.Start, d.Root.End, text), nil
}

func splice(src []byte, start, end int, text string) []byte {
	out := make([]byte, 0, len(src)+len(text))
	out = append(out, src[:start]...)
	out = append(out, text...)
	return append(out, src[end:]...)
}

// syntax is the notation between braces: JSON, or an inline table of TOML.
type syntax struct {
	colon string
	name  func(string) string
	value func(v any, l layout) string
}

// layout is the layout of a new value: one line, or several of which the first has this indent.
type layout struct {
	multiline    bool
	indent, unit string
	colon        string
}

// braceWriter rewrites objects between braces in the style of their members.
type braceWriter struct {
	src    []byte
	unit   string // a single step of indentation
	syntax syntax
}

// piece is a member with the white space around it.
type piece struct{ lead, name, value, tail string }

// object returns the new text of obj, which begins on a line with the given indent. If obj is
// empty, multiline tells the layout of its first member.
func (w *braceWriter) object(obj *Value, changes []Change, indent string, multiline bool) (string, error) {
	pieces := make([]piece, 0, len(obj.Members)+len(changes))
	names := map[string]int{}
	at := obj.Start + 1
	for i, m := range obj.Members {
		if m.Value.End == 0 {
			return "", fmt.Errorf("%q is written with a dotted key inside braces", m.Name)
		}
		end := obj.End - 1
		if comma := bytes.IndexByte(w.src[m.Value.End:end], ','); comma >= 0 {
			end = m.Value.End + comma
		}
		names[m.Name] = i
		pieces = append(pieces, piece{
			string(w.src[at:m.NameStart]), string(w.src[m.NameStart:m.Value.Start]),
			string(w.src[m.Value.Start:m.Value.End]), string(w.src[m.Value.End:end]),
		})
		at = min(end+1, obj.End-1)
	}
	style := piece{tail: string(w.src[at : obj.End-1])} // of an empty object: the space between its braces
	if n := len(pieces); n > 0 {
		style = piece{lead: pieces[n-1].lead, name: w.colon(obj.Members[n-1]), tail: pieces[n-1].tail}
		if n == 1 && style.lead == "" && strings.HasSuffix(style.name, " ") {
			style.lead = " " // {"a": 1} has no comma that would show whether a space follows one
		}
	} else if style.name = w.syntax.colon; multiline {
		style.lead, style.tail = "\n"+indent+w.unit, "\n"+indent
	}
	first := style.lead
	if len(pieces) > 0 {
		first = pieces[0].lead
	}
	removed := map[int]bool{}
	for _, c := range changes {
		i, there := names[c.Name]
		switch {
		case c.Within != nil:
			if !there || obj.Members[i].Value.Kind != Object {
				return "", fmt.Errorf("%q is not an object", c.Name)
			}
			text, err := w.object(&obj.Members[i].Value, c.Within, lastLine(pieces[i].lead, indent),
				strings.Contains(pieces[i].lead, "\n"))
			if err != nil {
				return "", err
			}
			pieces[i].value = text
		case c.Value == nil:
			if there {
				removed[i] = true
			}
		case there:
			pieces[i].value = w.syntax.value(c.Value, w.layout(pieces[i].lead, indent, style.name))
		default:
			pieces = append(pieces, piece{lead: style.lead, name: w.syntax.name(c.Name) + style.name,
				value: w.syntax.value(c.Value, w.layout(style.lead, indent, style.name))})
		}
	}
	var b strings.Builder
	b.WriteByte('{')
	written := 0
	for i, p := range pieces {
		if removed[i] {
			continue
		}
		if written > 0 {
			b.WriteByte(',')
		} else {
			p.lead = first
		}
		b.WriteString(p.lead + p.name + p.value)
		if i < len(obj.Members)-1 {
			b.WriteString(p.tail)
		}
		written++
	}
	if written > 0 || len(obj.Members) == 0 {
		b.WriteString(style.tail)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// colon returns the text between the name and the value of a member.
func (w *braceWriter) colon(m Member) string {
	text := w.src[m.NameStart:m.Value.Start]
	name := bytes.TrimRight(text[:bytes.LastIndexAny(text, ":=")], " \t\r\n")
	return string(text[len(name):])
}

func (w *braceWriter) layout(lead, indent, colon string) layout {
	return layout{multiline: strings.Contains(lead, "\n"), indent: lastLine(lead, indent), unit: w.unit, colon: colon}
}

// lastLine returns the indentation at the end of a lead. If the lead contains no line break, it
// returns around.
func lastLine(lead, around string) string {
	if i := strings.LastIndexByte(lead, '\n'); i >= 0 {
		return lead[i+1:]
	}
	return around
}
