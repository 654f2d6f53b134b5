package tx

import (
	"encoding/binary"
	"errors"
	"math/big"
	"math/bits"
)

// RLP: a byte below 0x80 is itself; a short text is 0x80+length and the text; a text of more than
// 55 bytes is 0xb7+the length's length, the length and the text. Lists are the same from 0xc0 and
// 0xf7.
const (
	textBase = 0x80
	listBase = 0xc0
	short    = 55
)

func appendHeader(b []byte, base byte, size int) []byte {
	if size <= short {
		return append(b, base+byte(size))
	}
	n := (bits.Len(uint(size)) + 7) / 8
	b = append(b, base+short+byte(n))
	var be [8]byte
	binary.BigEndian.PutUint64(be[:], uint64(size))
	return append(b, be[8-n:]...)
}

func appendBytes(b, text []byte) []byte {
	if len(text) == 1 && text[0] < textBase {
		return append(b, text[0])
	}
	return append(appendHeader(b, textBase, len(text)), text...)
}

func appendInt(b []byte, n *big.Int) []byte {
	if n == nil {
		return appendBytes(b, nil)
	}
	return appendBytes(b, n.Bytes())
}

func appendUint(b []byte, n uint64) []byte { return appendInt(b, new(big.Int).SetUint64(n)) }

// list returns a list of encoded elements.
func list(elements []byte) []byte {
	b := make([]byte, 0, len(elements)+9)
	return append(appendHeader(b, listBase, len(elements)), elements...)
}

// decoder reads one element after another and keeps the first error. It accepts only the shortest
// encoding of each.
type decoder struct {
	rest []byte
	err  error
}

var (
	errCutOff   = errors.New("cut off")
	errKind     = errors.New("a list where a text belongs, or a text where a list belongs")
	errLonger   = errors.New("not the shortest encoding")
	errTooLarge = errors.New("a number is too large")
	errMore     = errors.New("something follows the end")
)

func (d *decoder) fail(err error) []byte {
	if d.err == nil {
		d.rest, d.err = nil, err
	}
	return nil
}

// element returns the next element's content.
func (d *decoder) element(isList bool) []byte {
	if d.err != nil || len(d.rest) == 0 {
		return d.fail(errCutOff)
	}
	first := d.rest[0]
	if isList != (first >= listBase) {
		return d.fail(errKind)
	}
	if first < textBase {
		content := d.rest[:1]
		d.rest = d.rest[1:]
		return content
	}
	base := byte(textBase)
	if isList {
		base = listBase
	}
	d.rest = d.rest[1:]
	size := uint64(first - base)
	if size > short {
		n := int(size - short)
		if len(d.rest) < n {
			return d.fail(errCutOff)
		}
		var be [8]byte
		copy(be[8-n:], d.rest[:n])
		size = binary.BigEndian.Uint64(be[:])
		if d.rest[0] == 0 || size <= short {
			return d.fail(errLonger)
		}
		d.rest = d.rest[n:]
	}
	if uint64(len(d.rest)) < size {
		return d.fail(errCutOff)
	}
	content := d.rest[:size]
	d.rest = d.rest[size:]
	if !isList && size == 1 && content[0] < textBase {
		return d.fail(errLonger)
	}
	return content
}

func (d *decoder) list() []byte  { return d.element(true) }
func (d *decoder) bytes() []byte { return d.element(false) }

// int never returns nil.
func (d *decoder) int() *big.Int {
	content := d.bytes()
	if len(content) > 0 && content[0] == 0 {
		content = d.fail(errLonger)
	}
	if len(content) > 32 {
		content = d.fail(errTooLarge)
	}
	return new(big.Int).SetBytes(content)
}

func (d *decoder) uint() uint64 {
	n := d.int()
	if !n.IsUint64() {
		d.fail(errTooLarge)
		return 0
	}
	return n.Uint64()
}

func (d *decoder) end() {
	if d.err == nil && len(d.rest) > 0 {
		d.fail(errMore)
	}
}
