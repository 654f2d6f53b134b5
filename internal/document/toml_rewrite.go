package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// tomlWriter collects the replacements in a TOML text.
type tomlWriter struct {
	d      *Document
	edits  []tomlEdit
	failed error
}

type tomlEdit struct {
	start, end int
	text       string
}

func (d *Document) rewriteTOML(changes []Change) ([]byte, error) {
	w := &tomlWriter{d: d}
	w.table(nil, d.Root, changes)
	if w.failed != nil {
		return nil, w.failed
	}
	slices.SortStableFunc(w.edits, func(a, b tomlEdit) int { return cmp.Compare(a.start, b.start) })
	var b strings.Builder
	at := 0
	for _, e := range w.edits {
		if e.start < at {
			return nil, fmt.Errorf("two changes meet at byte %d", e.start)
		}
		b.Write(d.src[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.Write(d.src[at:])
	return []byte(b.String()), nil
}

func (w *tomlWriter) edit(start, end int, text string) {
	w.edits = append(w.edits, tomlEdit{start, end, text})
}

func (w *tomlWriter) fail(path []string, why string) {
	if w.failed == nil {
		w.failed = fmt.Errorf("%s %s", strings.Join(path, "."), why)
	}
}

// table changes the table at path. It may have a header, dotted keys, only tables below it, or be
// inline.
func (w *tomlWriter) table(path []string, v *Value, changes []Change) {
	if v.End > 0 {
		inline := &braceWriter{src: w.d.src, syntax: inlineSyntax}
		text, err := inline.object(v, changes, "", false)
		if err != nil {
			w.fail(path, "cannot be changed in place: "+err.Error())
			return
		}
		w.edit(v.Start, v.End, text)
		return
	}
	children := make(map[string]*Value, len(v.Members))
	for i := range v.Members {
		children[v.Members[i].Name] = &v.Members[i].Value
	}
	var added Fields
	removed := map[string]bool{}
	for _, c := range changes {
		childPath := append(slices.Clip(path), c.Name)
		child := children[c.Name]
		switch {
		case c.Within != nil:
			if child == nil || child.Kind != Object {
				w.fail(childPath, "is not a table")
				continue
			}
			w.table(childPath, child, c.Within)
		case c.Value == nil:
			removed[c.Name] = true
		case child == nil:
			added = append(added, Field{c.Name, c.Value})
		case child.End > 0:
			w.edit(child.Start, child.End, tomlValue(c.Value))
		default:
			w.fail(childPath, "is a table")
		}
	}
	if len(removed) > 0 {
		w.remove(path, removed)
	}
	if len(added) > 0 {
		w.add(path, added)
	}
}

// remove deletes the lines of every statement that defines one of the names in the table at path,
// or something below it.
func (w *tomlWriter) remove(path []string, names map[string]bool) {
	for _, st := range w.d.toml.statements {
		if len(st.path) > len(path) && hasPrefix(st.path, path) && names[st.path[len(path)]] {
			w.edit(st.start, st.end, "")
		}
	}
}

func hasPrefix(path, prefix []string) bool {
	return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// add adds members to the table at path, after its other members.
func (w *tomlWriter) add(path []string, fields Fields) {
	if len(path) == 0 {
		for _, f := range fields {
			w.section(f)
		}
		return
	}
	header, last, below := -1, -1, -1
	for i, st := range w.d.toml.statements {
		switch {
		case st.header && !st.array && slices.Equal(st.path, path):
			header = i
			last = i
		case st.header && below < 0 && hasPrefix(st.path, path):
			below = i
		case st.header || !hasPrefix(st.path, path) || len(st.path) == len(path):
		case st.table <= len(path) && (header < 0 || st.table == len(path)):
			last = i
		}
	}
	if last < 0 && below < 0 {
		w.fail(path, "is written in a form that cannot be added to in place")
		return
	}
	if last < 0 {
		w.edit(w.d.toml.statements[below].start, w.d.toml.statements[below].start,
			"["+tomlPath(path)+"]\n"+tomlLines("", "", fields)+"\n")
		return
	}
	st := w.d.toml.statements[last]
	relative := ""
	if !st.header && st.table < len(path) {
		relative = tomlPath(path[st.table:]) + "."
	}
	line := string(w.d.src[st.start:st.end])
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	text := tomlLines(indent, relative, fields)
	if !strings.HasSuffix(line, "\n") {
		text = "\n" + text
	}
	w.edit(st.end, st.end, text)
}

// section appends a top-level table and the tables in it, each with its own header.
func (w *tomlWriter) section(f Field) {
	text := ""
	if src := string(w.d.src); !strings.HasSuffix(src, "\n") {
		text = "\n"
	}
	fields, ok := f.Value.(Fields)
	if !ok {
		w.fail([]string{f.Name}, "is not a table, and only tables can be added at the end of a file")
		return
	}
	var plain Fields
	below := ""
	for _, f2 := range fields {
		if inner, ok := f2.Value.(Fields); ok {
			below += "\n[" + tomlPath([]string{f.Name, f2.Name}) + "]\n" + tomlLines("", "", inner)
		} else {
			plain = append(plain, f2)
		}
	}
	w.edit(len(w.d.src), len(w.d.src), text+"\n["+tomlPath([]string{f.Name})+"]\n"+tomlLines("", "", plain)+below)
}

func tomlPath(path []string) string {
	keys := make([]string, len(path))
	for i, name := range path {
		keys[i] = tomlKey(name)
	}
	return strings.Join(keys, ".")
}

func tomlLines(indent, relative string, fields Fields) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(indent + relative + tomlKey(f.Name) + " = " + tomlValue(f.Value) + "\n")
	}
	return b.String()
}
