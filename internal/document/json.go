package document

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

type jsonParser struct {
	src  []byte
	pos  int
	path []string // names of the members that enclose pos
}

func parseJSON(src []byte) (*Value, error) {
	p := &jsonParser{src: src}
	p.space()
	var root Value
	if err := p.value(&root, 0); err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(src) {
		return nil, p.fail(p.pos, "the document ends here, but %s follows", describeRune(src, p.pos))
	}
	return &root, nil
}

func (p *jsonParser) fail(offset int, format string, args ...any) error {
	return &SyntaxError{Offset: offset, Field: strings.Join(p.path, "."), Msg: fmt.Sprintf(format, args...)}
}

func (p *jsonParser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end. Valid JSON contains no NUL.
func (p *jsonParser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *jsonParser) value(v *Value, depth int) error {
	if depth > maxDepth {
		return p.fail(p.pos, "nested more than %d levels deep", maxDepth)
	}
	v.Start = p.pos
	var err error
	switch c := p.peek(); {
	case c == '{':
		v.Kind = Object
		err = p.object(v, depth)
	case c == '[':
		v.Kind = Array
		err = p.array(v, depth)
	case c == '"':
		v.Kind = String
		v.Text, v.Damaged, err = p.str()
	case c == '-' || c >= '0' && c <= '9':
		v.Kind = Number
		err = p.number()
		v.Text = string(p.src[v.Start:p.pos])
	default:
		return p.word(v)
	}
	v.End = p.pos
	return err
}

func (p *jsonParser) word(v *Value) error {
	for _, w := range []struct {
		text string
		kind Kind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		end := p.pos + len(w.text)
		if end <= len(p.src) && string(p.src[p.pos:end]) == w.text {
			p.pos = end
			v.Kind, v.Text, v.End = w.kind, w.text, end
			return nil
		}
	}
	return p.fail(p.pos, "a value is expected here, not %s", describeRune(p.src, p.pos))
}

func (p *jsonParser) object(v *Value, depth int) error {
	p.pos++
	p.space()
	if p.peek() == '}' {
		p.pos++
		return nil
	}
	for {
		if p.peek() != '"' {
			return p.fail(p.pos, "a name in double quotes is expected here, not %s", describeRune(p.src, p.pos))
		}
		m := Member{NameStart: p.pos}
		var err error
		if m.Name, m.Damaged, err = p.str(); err != nil {
			return err
		}
		p.path = append(p.path, m.Name)
		p.space()
		if p.peek() != ':' {
			return p.fail(p.pos, "a colon is expected after the name, not %s", describeRune(p.src, p.pos))
		}
		p.pos++
		p.space()
		if err := p.value(&m.Value, depth+1); err != nil {
			return err
		}
		v.Members = append(v.Members, m)
		p.space()
		c := p.peek()
		if c != ',' && c != '}' {
			return p.fail(p.pos, "a comma or a closing brace is expected after the value, not %s", describeRune(p.src, p.pos))
		}
		p.path = p.path[:len(p.path)-1]
		p.pos++
		if c == '}' {
			return nil
		}
		p.space()
	}
}

func (p *jsonParser) array(v *Value, depth int) error {
	p.pos++
	p.space()
	if p.peek() == ']' {
		p.pos++
		return nil
	}
	for {
		v.Elems = append(v.Elems, Value{})
		if err := p.value(&v.Elems[len(v.Elems)-1], depth+1); err != nil {
			return err
		}
		p.space()
		c := p.peek()
		if c != ',' && c != ']' {
			return p.fail(p.pos, "a comma or a closing bracket is expected after the value, not %s", describeRune(p.src, p.pos))
		}
		p.pos++
		if c == ']' {
			return nil
		}
		p.space()
	}
}

func (p *jsonParser) number() error {
	if p.peek() == '-' {
		p.pos++
	}
	switch c := p.peek(); {
	case c == '0':
		p.pos++
		if c := p.peek(); c >= '0' && c <= '9' {
			return p.fail(p.pos-1, "a number cannot begin with a zero")
		}
	case c >= '1' && c <= '9':
		p.digits()
	default:
		return p.fail(p.pos, "a digit is expected here, not %s", describeRune(p.src, p.pos))
	}
	if p.peek() == '.' {
		p.pos++
		if p.digits() == 0 {
			return p.fail(p.pos, "a digit is expected after the decimal point, not %s", describeRune(p.src, p.pos))
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if p.digits() == 0 {
			return p.fail(p.pos, "a digit is expected in the exponent, not %s", describeRune(p.src, p.pos))
		}
	}
	return nil
}

func (p *jsonParser) digits() (n int) {
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.pos++
		n++
	}
	return n
}

// str parses a string. It accepts a damaged string, which is valid JSON in a foreign member;
// callers that need the text check for it.
func (p *jsonParser) str() (text string, damaged bool, err error) {
	start := p.pos
	escaped := false
	for p.pos++; p.pos < len(p.src); p.pos++ {
		switch c := p.src[p.pos]; {
		case c == '"':
			p.pos++
			if !escaped {
				return string(p.src[start+1 : p.pos-1]), false, nil
			}
			if err := json.Unmarshal(p.src[start:p.pos], &text); err != nil {
				return "", false, p.fail(start, "the string cannot be read: %v", err)
			}
			return text, damaged, nil
		case c == '\\':
			escaped = true
			half, err := p.escape()
			if err != nil {
				return "", false, err
			}
			damaged = damaged || half
		case c < 0x20:
			return "", false, p.fail(p.pos, "%s is not escaped in a string: is the closing quote missing?",
				describeRune(p.src, p.pos))
		}
	}
	return "", false, p.fail(start, "the string that begins here has no closing quote")
}

// escape stops at the last byte of the escape sequence. It reports half a surrogate pair.
func (p *jsonParser) escape() (half bool, err error) {
	at := p.pos
	p.pos++
	c := p.peek()
	if c == 'u' {
		unit, ok := p.hex4()
		if !ok {
			return false, p.fail(at, `\u is not followed by four hexadecimal digits`)
		}
		p.pos += 4
		switch {
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true, nil
		case unit >= 0xd800 && unit <= 0xdbff:
			if p.pos+2 >= len(p.src) || p.src[p.pos+1] != '\\' || p.src[p.pos+2] != 'u' {
				return true, nil
			}
			high := p.pos
			p.pos += 2
			if low, ok := p.hex4(); !ok || low < 0xdc00 || low > 0xdfff {
				p.pos = high
				return true, nil
			}
			p.pos += 4
		}
		return false, nil
	}
	if c == 0 || !strings.ContainsRune(`"\/bfnrt`, rune(c)) {
		return false, p.fail(at, "a backslash cannot precede %s", describeRune(p.src, p.pos))
	}
	return false, nil
}

// hex4 parses the four digits after the u at pos.
func (p *jsonParser) hex4() (uint64, bool) {
	if p.pos+5 > len(p.src) {
		return 0, false
	}
	digits := string(p.src[p.pos+1 : p.pos+5])
	if strings.ContainsAny(digits, "+-_") {
		return 0, false
	}
	unit, err := strconv.ParseUint(digits, 16, 32)
	return unit, err == nil
}
