package faas

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep the values of unknown members may nest, the payload's own object included.
const maxDepth = 64

// scanner reads the JSON text of a payload from front to back. Its methods leave pos after the
// text that they have read.
type scanner struct {
	op   string // for errors
	text []byte
	pos  int
	open bool // the payload's object has begun
}

// fail returns an error about a field (empty: about the text as a whole) at an offset.
func (s *scanner) fail(offset int, field, problem string) error {
	if field != "" {
		problem = field + ": " + problem
	}
	return Errorf(ErrInvalidArgument, s.op, "", "%s (at byte %d)", problem, offset)
}

// unexpected returns the error for the byte at pos, where want should be.
func (s *scanner) unexpected(field, want string) error {
	if s.pos >= len(s.text) {
		return s.fail(s.pos, field, "the text ends where "+want+" should be")
	}
	return s.fail(s.pos, field, strconv.QuoteToASCII(string(s.text[s.pos:s.pos+1]))+" where "+want+" should be")
}

func (s *scanner) missing(field string) error {
	return Errorf(ErrInvalidArgument, s.op, "", "%s: the member is missing", field)
}

func (s *scanner) space() {
	for s.pos < len(s.text) && isSpace(s.text[s.pos]) {
		s.pos++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }
func isDigit(c byte) bool { return c-'0' <= 9 }

// next skips white space and returns the byte then at pos, or 0 at the end of the text. (A 0 in
// the text is invalid everywhere, so the two need not differ.)
func (s *scanner) next() byte {
	s.space()
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// member reads the name of the payload's next member and the colon after it. It returns false
// after the last member.
func (s *scanner) member() (name []byte, ok bool, err error) {
	first := !s.open
	if first {
		if s.next() != '{' {
			return nil, false, s.unexpected("", "a JSON object")
		}
		s.pos++
		s.open = true
	}
	return s.nameIn(first)
}

// nameIn is member for any object whose brace has been read.
func (s *scanner) nameIn(first bool) (name []byte, ok bool, err error) {
	switch c := s.next(); {
	case c == '}':
		s.pos++
		return nil, false, nil
	case first:
	case c == ',':
		s.pos++
	default:
		return nil, false, s.unexpected("", "a comma or the end of the object")
	}
	if s.next() != '"' {
		return nil, false, s.unexpected("", "a member name")
	}
	name, escaped, err := s.raw("")
	if err != nil {
		return nil, false, err
	}
	if escaped {
		name = []byte(unquote(name))
	}
	if s.next() != ':' {
		return nil, false, s.unexpected("", "a colon")
	}
	s.pos++
	return name, true, nil
}

// once marks a member as seen and refuses it the second time.
func (s *scanner) once(seen *bool, field string) error {
	if *seen {
		return s.fail(s.pos, field, "the member is there twice")
	}
	*seen = true
	return nil
}

// end makes sure that nothing follows the payload's object.
func (s *scanner) end() error {
	if s.next(); s.pos < len(s.text) {
		return s.unexpected("", "the end of the text")
	}
	return nil
}

// null reads a null, if there is one.
func (s *scanner) null() bool {
	s.space()
	if !bytes.HasPrefix(s.text[s.pos:], []byte("null")) {
		return false
	}
	s.pos += len("null")
	return true
}

func (s *scanner) bool(field string) (bool, error) {
	s.space()
	switch rest := s.text[s.pos:]; {
	case bytes.HasPrefix(rest, []byte("true")):
		s.pos += len("true")
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		s.pos += len("false")
		return false, nil
	}
	return false, s.unexpected(field, "true or false")
}

func (s *scanner) uint32(field string) (uint32, error) {
	s.space()
	start := s.pos
	integer, err := s.number(field)
	if err != nil {
		return 0, err
	}
	text := s.text[start:s.pos]
	if !integer || text[0] == '-' {
		return 0, s.fail(start, field, abbreviate(text)+" is not an integer from 0 to 4294967295")
	}
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return 0, s.fail(start, field, abbreviate(text)+" is above 4294967295")
	}
	return uint32(n), nil
}

// measure reads a number from 0 to limit.
func (s *scanner) measure(field string, limit float64) (float64, error) {
	s.space()
	start := s.pos
	if _, err := s.number(field); err != nil {
		return 0, err
	}
	text := s.text[start:s.pos]
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f < 0 || f > limit {
		return 0, s.fail(start, field, abbreviate(text)+" is not between 0 and "+strconv.FormatFloat(limit, 'g', -1, 64))
	}
	return f, nil
}

func abbreviate(text []byte) string {
	if len(text) > 24 {
		return string(text[:24]) + "..."
	}
	return string(text)
}

// number reads a JSON number and says whether it is written as an integer.
func (s *scanner) number(field string) (integer bool, err error) {
	digits := func() bool {
		start := s.pos
		for s.pos < len(s.text) && isDigit(s.text[s.pos]) {
			s.pos++
		}
		return s.pos > start
	}
	at := func(c byte) bool { return s.pos < len(s.text) && s.text[s.pos] == c }
	if at('-') {
		s.pos++
	}
	if at('0') {
		s.pos++ // and no digit may follow it
		if s.pos < len(s.text) && isDigit(s.text[s.pos]) {
			return false, s.fail(s.pos-1, field, "a number has a leading zero")
		}
	} else if !digits() {
		return false, s.unexpected(field, "a number")
	}
	integer = true
	if at('.') {
		integer = false
		s.pos++
		if !digits() {
			return false, s.unexpected(field, "a digit")
		}
	}
	if at('e') || at('E') {
		integer = false
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if !digits() {
			return false, s.unexpected(field, "a digit")
		}
	}
	return integer, nil
}

func (s *scanner) string(field string) (string, error) {
	if s.next() != '"' {
		return "", s.unexpected(field, "a string")
	}
	text, escaped, err := s.raw(field)
	if err != nil {
		return "", err
	}
	if !escaped && utf8.Valid(text) {
		return string(text), nil
	}
	return unquote(text), nil
}

// raw reads a string and returns the text between its quotes, checked but not unescaped, and
// whether it has escapes.
func (s *scanner) raw(field string) (text []byte, escaped bool, err error) {
	s.pos++
	for start := s.pos; s.pos < len(s.text); s.pos++ {
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return s.text[start : s.pos-1], escaped, nil
		case c < ' ':
			return nil, false, s.fail(s.pos, field, "a control character in a string")
		case c == '\\':
			escaped = true
			s.pos++
			if s.pos == len(s.text) {
				break
			}
			switch s.text[s.pos] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(s.text[s.pos+1:]); !ok {
					return nil, false, s.fail(s.pos-1, field, `\u without four hexadecimal digits`)
				}
				s.pos += 4
			default:
				return nil, false, s.fail(s.pos-1, field, "an unknown escape in a string")
			}
		}
	}
	return nil, false, s.fail(len(s.text), field, "the text ends in a string")
}

func hex4(text []byte) (r rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for _, c := range text[:4] {
		switch lower := c | 0x20; {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= lower && lower <= 'f':
			r = r<<4 | rune(lower-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unquote resolves the escapes of a string that raw has checked. Invalid UTF-8 and every half of
// a surrogate pair become U+FFFD.
func unquote(text []byte) string {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		if text[0] != '\\' {
			r, size := utf8.DecodeRune(text)
			out, text = utf8.AppendRune(out, r), text[size:]
			continue
		}
		c := text[1]
		text = text[2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(text)
			text = text[4:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(text) >= 6 && text[0] == '\\' && text[1] == 'u' {
					low, _ := hex4(text[2:])
					if pair = utf16.DecodeRune(r, low); pair != utf8.RuneError {
						text = text[6:]
					}
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// skip reads one value of any kind. depth is how many objects and lists it is in.
func (s *scanner) skip(depth int) error {
	c := s.next()
	if depth >= maxDepth && (c == '{' || c == '[') {
		return s.fail(s.pos, "", "values are nested deeper than "+strconv.Itoa(maxDepth)+" levels")
	}
	switch c {
	case '{':
		s.pos++
		for first := true; ; first = false {
			_, ok, err := s.nameIn(first)
			if err == nil && ok {
				err = s.skip(depth + 1)
			}
			if err != nil || !ok {
				return err
			}
		}
	case '[':
		s.pos++
		if s.next() == ']' {
			s.pos++
			return nil
		}
		for {
			if err := s.skip(depth + 1); err != nil {
				return err
			}
			switch s.next() {
			case ',':
				s.pos++
			case ']':
				s.pos++
				return nil
			default:
				return s.unexpected("", "a comma or the end of the list")
			}
		}
	case '"':
		_, _, err := s.raw("")
		return err
	case 't', 'f':
		_, err := s.bool("")
		return err
	case 'n':
		if s.null() {
			return nil
		}
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		_, err := s.number("")
		return err
	}
	return s.unexpected("", "a value")
}
