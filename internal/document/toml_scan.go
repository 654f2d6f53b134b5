package document

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// tomlIndex records the positions in a TOML text. The decoder, which validates the text and
// decodes its values, does not report them.
type tomlIndex struct {
	statements []tomlStatement
	root       tomlNode
}

// tomlStatement is a header, or a key with its value, together with the rest of its lines.
type tomlStatement struct {
	header, array bool
	path          []string // from the root
	table         int      // length of the path of the preceding header
	start, end    int      // from the first byte of its first line to the end of its last, newline included
}

// tomlNode is the position of the value at a path. If the path occurs in several elements of an
// array, it is the first one.
type tomlNode struct {
	placed bool
	// of the key and of the literal; for a table without a literal, end is 0 and start is where it is
	// first named
	name, start, end int
	children         map[string]*tomlNode
}

func (n *tomlNode) child(name string) *tomlNode {
	if n == nil {
		return nil
	}
	return n.children[name]
}

// descend returns the node below, and creates missing nodes. It places intermediate nodes at the
// key.
func (n *tomlNode) descend(names []string, key int) *tomlNode {
	for i, name := range names {
		next := n.children[name]
		if next == nil {
			if n.children == nil {
				n.children = map[string]*tomlNode{}
			}
			next = &tomlNode{}
			n.children[name] = next
		}
		if i < len(names)-1 {
			next.place(key, key, 0)
		}
		n = next
	}
	return n
}

func (n *tomlNode) place(name, start, end int) {
	if !n.placed {
		n.placed, n.name, n.start, n.end = true, name, start, end
	}
}

// tomlScanner scans a text, at least as leniently as the grammar: where it gives up, the decoder
// reports an error.
type tomlScanner struct {
	src   []byte
	pos   int
	parts int // keys and values so far
	index tomlIndex
}

func scanTOML(src []byte) (*tomlIndex, error) {
	s := &tomlScanner{src: src}
	var table []string
	node := &s.index.root
	for {
		s.blank()
		if s.pos >= len(src) {
			return &s.index, nil
		}
		st := tomlStatement{start: 1 + bytes.LastIndexByte(src[:s.pos], '\n'), table: len(table)}
		var err error
		if src[s.pos] == '[' {
			st.header = true
			node, err = s.header(&st)
			table = st.path
		} else {
			var names []string
			names, err = s.pair(node, len(table))
			st.path = append(slices.Clip(table), names...)
		}
		if err != nil {
			return &s.index, err
		}
		s.comment()
		if s.pos < len(src) {
			if src[s.pos] != '\n' {
				return &s.index, s.fail("a new line is expected here, not %s", describeRune(src, s.pos))
			}
			s.pos++
		}
		st.end = s.pos
		s.index.statements = append(s.index.statements, st)
	}
}

func (s *tomlScanner) fail(format string, args ...any) error {
	return &SyntaxError{Offset: s.pos, Msg: fmt.Sprintf(format, args...)}
}

// errTooMuch differs from other errors of the scanner, because the decoder would not report it.
type errTooMuch struct{ SyntaxError }

func (s *tomlScanner) tooMuch(format string, most int) error {
	return &errTooMuch{SyntaxError{Offset: s.pos, Msg: fmt.Sprintf(format, most)}}
}

// check counts a key or a value at a depth below the root.
func (s *tomlScanner) check(depth int) error {
	if depth > maxDepth {
		return s.tooMuch("nested more than %d levels deep", maxDepth)
	}
	if s.parts++; s.parts > maxTOML {
		return s.tooMuch("more than %d keys and values in one TOML file: write it as JSON", maxTOML)
	}
	return nil
}

func (s *tomlScanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *tomlScanner) space() {
	for c := s.peek(); c == ' ' || c == '\t' || c == '\r'; c = s.peek() {
		s.pos++
	}
}

// comment skips white space and a comment after a statement.
func (s *tomlScanner) comment() {
	s.space()
	if s.peek() == '#' {
		for s.pos < len(s.src) && s.src[s.pos] != '\n' {
			s.pos++
		}
	}
}

// blank skips white space, comments and newlines.
func (s *tomlScanner) blank() {
	for s.comment(); s.peek() == '\n'; s.comment() {
		s.pos++
	}
}

func (s *tomlScanner) header(st *tomlStatement) (*tomlNode, error) {
	s.pos++
	if st.array = s.peek() == '['; st.array {
		s.pos++
	}
	s.space()
	at := s.pos
	var err error
	if st.path, err = s.key(0); err != nil {
		return nil, err
	}
	closing := "]"
	if st.array {
		closing = "]]"
	}
	if !bytes.HasPrefix(s.src[s.pos:], []byte(closing)) {
		return nil, s.fail("%s is expected here, not %s", closing, describeRune(s.src, s.pos))
	}
	s.pos += len(closing)
	node := s.index.root.descend(st.path, at)
	node.place(at, at, 0)
	return node, nil
}

// pair parses key = value in the table at node, depth levels below the root. It returns the names
// of the key.
func (s *tomlScanner) pair(table *tomlNode, depth int) ([]string, error) {
	at := s.pos
	names, err := s.key(depth)
	if err != nil {
		return nil, err
	}
	if s.peek() != '=' {
		return nil, s.fail("an equals sign is expected after the key, not %s", describeRune(s.src, s.pos))
	}
	s.pos++
	s.space()
	node := table.descend(names, at)
	start := s.pos
	if err := s.value(node, depth+len(names)); err != nil {
		return nil, err
	}
	node.place(at, start, s.pos)
	return names, nil
}

// key parses a dotted key in a table depth levels below the root, and skips the space after it.
func (s *tomlScanner) key(depth int) ([]string, error) {
	var names []string
	for {
		s.space()
		start := s.pos
		switch s.peek() {
		case '"', '\'':
			if err := s.quoted(); err != nil {
				return nil, err
			}
			var decoded struct{ K string }
			if err := toml.Unmarshal(append([]byte("K = "), s.src[start:s.pos]...), &decoded); err != nil {
				s.pos = start
				return nil, s.fail("the quoted key cannot be read")
			}
			names = append(names, decoded.K)
		default:
			for s.pos < len(s.src) && !bytes.ContainsRune([]byte(" \t\r\n.=[]{}#\"',"), rune(s.src[s.pos])) {
				s.pos++
			}
			if s.pos == start {
				return nil, s.fail("a key is expected here, not %s", describeRune(s.src, s.pos))
			}
			names = append(names, string(s.src[start:s.pos]))
		}
		if err := s.check(depth + len(names)); err != nil {
			return nil, err
		}
		s.space()
		if s.peek() != '.' {
			return names, nil
		}
		s.pos++
	}
}

func (s *tomlScanner) value(node *tomlNode, depth int) error {
	if err := s.check(depth); err != nil {
		return err
	}
	switch s.peek() {
	case '"', '\'':
		return s.quoted()
	case '[':
		return s.list(']', func() error { return s.value(node, depth+1) })
	case '{':
		return s.list('}', func() error {
			_, err := s.pair(node, depth)
			return err
		})
	}
	start := s.pos
	for s.pos < len(s.src) && !bytes.ContainsRune([]byte(",]}#\r\n"), rune(s.src[s.pos])) {
		s.pos++
	}
	s.pos = start + len(bytes.TrimRight(s.src[start:s.pos], " \t"))
	if s.pos == start {
		return s.fail("a value is expected here, not %s", describeRune(s.src, s.pos))
	}
	return nil
}

// list skips an array or an inline table.
func (s *tomlScanner) list(closing byte, item func() error) error {
	s.pos++
	for {
		s.blank()
		if s.peek() == closing {
			s.pos++
			return nil
		}
		if err := item(); err != nil {
			return err
		}
		s.blank()
		switch s.peek() {
		case ',':
			s.pos++
		case closing:
		default:
			return s.fail("a comma or a closing bracket is expected after the value, not %s", describeRune(s.src, s.pos))
		}
	}
}

// quoted skips a string of any of the four kinds.
func (s *tomlScanner) quoted() error {
	start, quote := s.pos, s.src[s.pos]
	triple := bytes.Repeat([]byte{quote}, 3)
	multi := bytes.HasPrefix(s.src[s.pos:], triple)
	if multi {
		s.pos += 2
	}
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '\\' && quote == '"':
			s.pos++
		case c == '\n' && !multi:
			return s.fail("the string is not closed on its line")
		case c != quote:
		case !multi:
			s.pos++
			return nil
		case bytes.HasPrefix(s.src[s.pos:], triple):
			s.pos += 3
			for n := 0; n < 2 && s.peek() == quote; n++ { // up to two quotes may precede the closing ones
				s.pos++
			}
			return nil
		}
	}
	s.pos = start
	return s.fail("the string that begins here has no closing quote")
}
