package tangle

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unsafe"
)

const wordSize = 32

// Decoder decodes ABI-encoded data. It keeps the first error, after which every read returns zero,
// so callers check for an error only at the end.
//
// Every head and every tail that is read is charged against a budget of the data's length.
// Encoders never let values overlap, so honest data stays within the budget. Data that refers to
// the same bytes repeatedly is refused before it costs more than its size.
type Decoder struct {
	data   []byte
	text   string // the same bytes without a copy: decoded strings are substrings of it
	budget int
	where  []place // the arrays being read, outermost first
	err    *DecodeError
}

// place is an element of an array.
type place struct {
	array string
	index int
}

// NewDecoder returns a decoder. What it returns are parts of the data, so nobody may change it.
func NewDecoder(data []byte) *Decoder {
	text := unsafe.String(unsafe.SliceData(data), len(data)) // callers promise not to change the data
	return &Decoder{data: data, text: text, budget: len(data), where: make([]place, 0, 2)}
}

// DecodeError describes where an answer is malformed.
type DecodeError struct {
	Field  string // path in the contract's names: "jobs[3].name"
	Offset int    // of the bad word, in bytes
	Reason string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("malformed at %s (byte %d): %s", e.Field, e.Offset, e.Reason)
}

func (d *Decoder) fail(field string, at int, format string, args ...any) {
	if d.err != nil {
		return
	}
	path := ""
	for _, p := range d.where {
		path += p.array + "[" + strconv.Itoa(p.index) + "]."
	}
	d.err = &DecodeError{Field: path + field, Offset: at, Reason: fmt.Sprintf(format, args...)}
}

// Head checks that the given number of words can be read at the offset, and charges them.
func (d *Decoder) Head(at, words int, field string) bool {
	return d.err == nil && d.spend(at, at, words*wordSize, field)
}

// spend charges n bytes that begin at from. An error refers to the offset at.
func (d *Decoder) spend(at, from, n int, field string) bool {
	if n > len(d.data)-from {
		d.fail(field, at, "%d bytes from byte %d on reach beyond the answer's %d", n, from, len(d.data))
		return false
	}
	if n > d.budget {
		d.fail(field, at, "the answer uses the same bytes more than once: it decodes to more than its %d bytes", len(d.data))
		return false
	}
	d.budget -= n
	return true
}

// Word returns the word at the offset, which Head has checked.
func (d *Decoder) Word(at int) (w Word) {
	if d.err == nil {
		copy(w[:], d.data[at:at+wordSize])
	}
	return w
}

// Uint reads an unsigned integer of at most 64 bits at the offset, which Head has checked.
func (d *Decoder) Uint(at, bits int, field string) uint64 {
	if d.err != nil {
		return 0
	}
	w := d.data[at : at+wordSize]
	n := binary.BigEndian.Uint64(w[24:])
	if !allZero(w[:24]) || n>>(bits-1)>>1 != 0 {
		d.fail(field, at, "0x%x does not fit uint%d", trimZeros(w), bits)
		return 0
	}
	return n
}

// Bool reads 0 or 1 at the offset, which Head has checked.
func (d *Decoder) Bool(at int, field string) bool {
	n := d.Uint(at, 8, field)
	if n > 1 {
		d.fail(field, at, "%d is not a bool", n)
	}
	return n == 1
}

// Address reads an address at the offset, which Head has checked.
func (d *Decoder) Address(at int, field string) (a Address) {
	if d.err != nil {
		return a
	}
	w := d.data[at : at+wordSize]
	if !allZero(w[:12]) {
		d.fail(field, at, "0x%x is not an address", trimZeros(w))
		return a
	}
	copy(a[:], w[12:])
	return a
}

// offset reads the position of a value, which is relative to base. It fails if that position is
// outside the data.
func (d *Decoder) offset(base, at int, field string) int {
	n := d.Uint(at, 64, field)
	if d.err != nil {
		return 0
	}
	if n > uint64(len(d.data)-base) {
		d.fail(field, at, "the offset %d from byte %d points beyond the answer's %d bytes", n, base, len(d.data))
		return 0
	}
	return base + int(n)
}

// bytes reads a byte string and returns its start and end. The string's offset from base is stored
// at at.
func (d *Decoder) bytes(base, at int, field string) (from, to int) {
	begin := d.offset(base, at, field)
	if !d.Head(begin, 1, field) {
		return 0, 0
	}
	n := d.Uint(begin, 64, field)
	if d.err == nil && n > uint64(len(d.data)) {
		d.fail(field, begin, "a length of %d in an answer of %d bytes", n, len(d.data))
	}
	if d.err != nil || !d.spend(begin, begin+wordSize, int(n), field) {
		return 0, 0
	}
	return begin + wordSize, begin + wordSize + int(n)
}

func (d *Decoder) str(base, at int, field string) string {
	from, to := d.bytes(base, at, field)
	return d.text[from:to]
}

// Blob returns a byte string, or nil if it is empty. It is a part of the data. Its offset from base
// is stored at at.
func (d *Decoder) Blob(base, at int, field string) []byte {
	from, to := d.bytes(base, at, field)
	if from == to {
		return nil
	}
	return d.data[from:to:to]
}

// Array reads the length of an array and returns the start of its elements' heads. The array's
// offset from base is stored at at. An element takes at least least bytes, so the caller may
// allocate n elements.
func (d *Decoder) Array(base, at, limit, least int, field string) (elements, n int) {
	begin := d.offset(base, at, field)
	if !d.Head(begin, 1, field) {
		return 0, 0
	}
	length := d.Uint(begin, 64, field)
	switch {
	case d.err != nil:
		return 0, 0
	case length > uint64(limit):
		d.fail(field, begin, "%d elements, more than the limit of %d", length, limit)
		return 0, 0
	case int(length)*least > d.budget:
		d.fail(field, begin, "%d elements do not fit the answer's %d bytes", length, len(d.data))
		return 0, 0
	}
	return begin + wordSize, int(length)
}

func (d *Decoder) enter(array string) { d.where = append(d.where, place{array: array}) }
func (d *Decoder) at(index int)       { d.where[len(d.where)-1].index = index }
func (d *Decoder) leave()             { d.where = d.where[:len(d.where)-1] }

// Err returns the first error as an interface, which is nil if there was no error.
func (d *Decoder) Err() error {
	if d.err == nil {
		return nil
	}
	return d.err
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func trimZeros(b []byte) []byte {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}
