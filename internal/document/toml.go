package document

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

func parseTOML(src []byte) (*Document, error) {
	index, scanErr := scanTOML(src)
	if limit, ok := errors.AsType[*errTooMuch](scanErr); ok {
		return nil, &limit.SyntaxError
	}
	var tree map[string]any
	if err := toml.Unmarshal(src, &tree); err != nil {
		return nil, tomlError(src, index, err)
	}
	if scanErr != nil {
		return nil, scanErr
	}
	d := &Document{Format: TOML, src: src, toml: index, Root: &Value{}}
	index.root.build(src, tree, d.Root)
	return d, nil
}

// tomlError adds the position and the field to an error of the decoder, which often lacks the
// field.
func tomlError(src []byte, index *tomlIndex, err error) error {
	out := &SyntaxError{Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := decode.Position()
		for ; line > 1; line-- {
			out.Offset += bytes.IndexByte(src[out.Offset:], '\n') + 1
		}
		out.Offset += column - 1
		out.Field = strings.Join(decode.Key(), ".") // for a duplicate without the enclosing table
		for _, st := range index.statements {
			if st.start <= out.Offset && (out.Offset < st.end || out.Field == "") {
				out.Field = strings.Join(st.path, ".")
			}
		}
	}
	if len(index.statements) == 0 {
		out.Msg = "neither JSON, which would begin with {, nor TOML: " + out.Msg
	}
	return out
}

// build converts a decoded value and adds its position. A nil node has no position.
func (n *tomlNode) build(src []byte, decoded any, v *Value) {
	if n != nil {
		v.Start, v.End = n.start, n.end
	}
	switch decoded := decoded.(type) {
	case map[string]any:
		v.Kind = Object
		for name, child := range decoded {
			m := Member{Name: name}
			place := n.child(name)
			if place != nil {
				m.NameStart = place.name
			}
			place.build(src, child, &m.Value)
			v.Members = append(v.Members, m)
		}
		slices.SortFunc(v.Members, func(a, b Member) int {
			if a.NameStart != b.NameStart {
				return a.NameStart - b.NameStart
			}
			return strings.Compare(a.Name, b.Name) // two parts of a dotted key
		})
	case []any:
		v.Kind = Array
		v.Elems = make([]Value, len(decoded))
		for i, elem := range decoded {
			(*tomlNode)(nil).build(src, elem, &v.Elems[i])
		}
	case string:
		v.Kind, v.Text = String, decoded
	case bool:
		v.Kind, v.Text = Bool, strconv.FormatBool(decoded)
	case int64:
		v.Kind, v.Text = Number, strconv.FormatInt(decoded, 10)
	case float64:
		v.Kind, v.Text = Number, strconv.FormatFloat(decoded, 'g', -1, 64)
		if v.End > 0 {
			v.Text = strings.ReplaceAll(string(src[v.Start:v.End]), "_", "")
		}
	case time.Time:
		v.Kind, v.Text = Time, decoded.Format(time.RFC3339Nano)
	default: // the decoder's local dates and times
		v.Kind, v.Text = Time, fmt.Sprint(decoded)
	}
}
