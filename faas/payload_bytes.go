package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
)

// maxNumberSize is the most characters of one byte in a list: "255,".
const maxNumberSize = 4

// listItem is the text of a byte in a list with the comma after it: its characters,
// little-endian, and their number.
type listItem struct {
	text uint32
	size uint8
}

var listItems = func() (items [256]listItem) {
	for i := range items {
		text := append(strconv.AppendUint(nil, uint64(i), 10), ',')
		items[i].size = uint8(len(text))
		items[i].text = binary.LittleEndian.Uint32(append(text, 0, 0, 0))
	}
	return items
}()

func appendByteList(dst, data []byte) []byte {
	dst = append(dst, '[')
	if len(data) == 0 {
		return append(dst, ']')
	}
	n := len(dst)
	dst = slices.Grow(dst, maxNumberSize*len(data))
	out := dst[:n+maxNumberSize*len(data)]
	for _, c := range data {
		item := &listItems[c]
		binary.LittleEndian.PutUint32(out[n:], item.text) // writes past a short number; the next one overwrites that
		n += int(item.size)
	}
	out[n-1] = ']' // over the last comma
	return out[:n]
}

// byteListSize returns how many bytes appendByteList appends.
func byteListSize(data []byte) int {
	n := len("[]") + max(0, len(data)-1)
	for _, c := range data {
		n += int(listItems[c].size) - len(",")
	}
	return n
}

// decimalSize returns the number of digits of n.
func decimalSize(n uint32) int {
	digits := 1
	for ; n >= 10; n /= 10 {
		digits++
	}
	return digits
}

const base64Open, base64Close = `{"base64":"`, `"}`

// base64Size returns how many bytes appendBase64 appends.
func base64Size(n int) int {
	return len(base64Open) + base64.StdEncoding.EncodedLen(n) + len(base64Close)
}

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, base64Open...)
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, base64Close...)
}

// bytes reads a job's bytes: a list of integers from 0 to 255 or, with compactToo, an object with
// the one member "base64".
func (s *scanner) bytes(field string, dst []byte, compactToo bool) (out []byte, compact bool, err error) {
	if !compactToo || s.next() != '{' {
		out, err = s.byteList(field, dst)
		return out, false, err
	}
	s.pos++
	name, ok, err := s.nameIn(true)
	if err == nil && (!ok || string(name) != "base64") {
		err = s.fail(s.pos, field, `an object that does not begin with "base64"`)
	}
	if err == nil {
		out, err = s.base64(field, dst)
	}
	if err == nil && s.next() != '}' {
		err = s.unexpected(field, "the end of the object")
	}
	if err != nil {
		return dst, false, err
	}
	s.pos++
	return out, true, nil
}

// strict refuses a text that is not the only encoding of its bytes.
var strict = base64.StdEncoding.Strict()

// base64 reads a string of base64 and appends the decoded bytes to dst.
func (s *scanner) base64(field string, dst []byte) ([]byte, error) {
	if s.next() != '"' {
		return dst, s.unexpected(field, "a string of base64")
	}
	start := s.pos + 1
	size := bytes.IndexByte(s.text[start:], '"')
	if size < 0 {
		return dst, s.fail(len(s.text), field, "the text ends in a string")
	}
	text := s.text[start : start+size]
	s.pos = start + size + 1
	if out, ok := appendDecoded(dst, text); ok {
		return out, nil
	}
	if bytes.IndexByte(text, '\\') >= 0 { // something on the way has written the JSON anew
		s.pos = start - 1
		raw, _, err := s.raw(field)
		if err != nil {
			return dst, err
		}
		if out, ok := appendDecoded(dst, []byte(unquote(raw))); ok {
			return out, nil
		}
	}
	return dst, s.fail(start, field, "the string is not base64")
}

// appendDecoded appends the bytes that a text of base64 encodes, and reports whether the text is
// valid.
func appendDecoded(dst, text []byte) ([]byte, bool) {
	size := strict.DecodedLen(len(text))
	n := len(dst)
	dst = slices.Grow(dst, size)
	m, err := strict.Decode(dst[n:n+size], text)
	for rest := text; size > 0 && bytes.HasSuffix(rest, []byte{'='}); rest = rest[:len(rest)-1] {
		size--
	}
	// The decoder skips line breaks, which no JSON string has; m is then less than size.
	return dst[:n+m], err == nil && m == size && len(text)%4 == 0
}

// byteList reads a list of integers from 0 to 255 and appends them to dst.
func (s *scanner) byteList(field string, dst []byte) ([]byte, error) {
	if s.next() != '[' {
		return dst, s.unexpected(field, "a list of bytes")
	}
	s.pos++
	size := bytes.IndexByte(s.text[s.pos:], ']')
	if size < 0 {
		size = len(s.text) - s.pos // to find what is wrong before the end
	}
	list := s.text[:s.pos+size]
	if s.next() == ']' {
		s.pos++
		return dst, nil
	}
	// The exact number of bytes, if this is a list: counting commas costs far less than growing the
	// slice, or than keeping one that is too large.
	n := len(dst)
	dst = slices.Grow(dst, bytes.Count(list[s.pos:], []byte{','})+1)
	out := dst[:cap(dst)]
	for {
		n, s.pos = scanPairs(out, n, list, s.pos)
		v, err := s.listByte(field, n-len(dst))
		if err != nil {
			return dst, err
		}
		out[n] = v
		n++
		switch s.next() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return out[:n], nil
		default:
			return dst, s.unexpected(field, "a comma or the end of the list")
		}
	}
}

// listByte reads one item of a list of bytes, the slow way.
func (s *scanner) listByte(field string, index int) (byte, error) {
	s.space()
	start := s.pos
	v := 0
	for s.pos < len(s.text) && isDigit(s.text[s.pos]) && v <= 255 {
		v = v*10 + int(s.text[s.pos]-'0')
		s.pos++
	}
	leadingZero := s.pos-start > 1 && s.text[start] == '0'
	if s.pos > start && v <= 255 && !leadingZero && (s.pos == len(s.text) || !isNumberByte(s.text[s.pos])) {
		return byte(v), nil
	}
	s.pos = start
	if s.pos == len(s.text) || !isNumberByte(s.text[s.pos]) {
		return 0, s.unexpected(field+"["+strconv.Itoa(index)+"]", "an integer from 0 to 255")
	}
	end := start
	for end < len(s.text) && isNumberByte(s.text[end]) {
		end++
	}
	return 0, s.fail(start, field+"["+strconv.Itoa(index)+"]",
		abbreviate(s.text[start:end])+" is not an integer from 0 to 255")
}

func isNumberByte(c byte) bool {
	return isDigit(c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// scanPairs reads items of the form "1,22," from list[pos:] into out[n:], two at a time, while at
// least eight bytes are left and all items are plain. The caller reads or refuses the item it
// stops at. It has no branch that depends on the number of digits, which no processor can
// predict, and is therefore several times as fast as a loop over digits.
func scanPairs(out []byte, n int, list []byte, pos int) (int, int) {
	const (
		ones = 0x0101010101010101
		top  = 0x80 * ones
		max  = 0x020505 // the digits of 255, a byte each
	)
	for pos+8 <= len(list) && n+2 <= len(out) {
		v := binary.LittleEndian.Uint64(list[pos:]) ^ '0'*ones // digits become 0 to 9
		stops := ((v&^top + (0x80-10)*ones) | v) & top         // the top bit of every byte that is not a digit
		first := uint(bits.TrailingZeros64(stops)) - 7         // 8 times the digits of the first item
		stops &= stops - 1
		second := uint(bits.TrailingZeros64(stops)) - 7 // 8 times the digits of both items and the comma between them
		if first-8 > 16 || second-first-16 > 16 {
			break // not one to three digits each
		}
		commas := (byte(v>>(first&63)) ^ (',' ^ '0')) | (byte(v>>(second&63)) ^ (',' ^ '0')) // 0 if both are
		// The digits of each item as a number with one byte per digit, so that comparing the numbers
		// compares the items; and the smallest number of as many digits. (The masks change no value,
		// but save the code for shifts beyond 63.)
		digits := bits.ReverseBytes64(v)
		a, leastA := digits>>((64-first)&63), uint64(1)<<((first-8)&63)&^1
		b, leastB := digits<<((first+8)&63)>>((72+first-second)&63), uint64(1)<<((second-first-16)&63)&^1
		if commas != 0 || a-leastA > max-leastA || b-leastB > max-leastB {
			break
		}
		out[n] = byte(a) + byte(a>>8)*10 + byte(a>>16)*100
		out[n+1] = byte(b) + byte(b>>8)*10 + byte(b>>16)*100
		n += 2
		pos += int(second/8) + 1
	}
	return n, pos
}
