package devchain

import "encoding/binary"

// The kinds of a schema's fields.
const (
	fieldVoid = iota
	fieldBool
	fieldUint8
	fieldInt8
	fieldUint16
	fieldInt16
	fieldUint32
	fieldInt32
	fieldUint64
	fieldInt64
	fieldUint128
	fieldInt128
	fieldUint256
	fieldInt256
	fieldAddress
	fieldBytes32
	fieldFixedBytes
	fieldString
	fieldBytes
	fieldOptional
	fieldArray
	fieldList
	fieldStruct
)

var fieldWidths = map[byte]int{
	fieldVoid: 0, fieldUint8: 1, fieldInt8: 1, fieldUint16: 2, fieldInt16: 2, fieldUint32: 4, fieldInt32: 4,
	fieldUint64: 8, fieldInt64: 8, fieldUint128: 16, fieldInt128: 16, fieldUint256: 32, fieldInt256: 32,
	fieldAddress: 20, fieldBytes32: 32,
}

type field struct {
	kind     byte
	length   int
	children []field
}

// conforms reports whether data is of a schema. An empty schema takes anything. path is where it
// is not: the number of the field, from zero.
func conforms(schema, data []byte) (path uint64, ok bool) {
	if len(schema) == 0 {
		return 0, true
	}
	fields, ok := parseSchema(schema)
	if !ok {
		return 0, false
	}
	for i, f := range fields {
		if data, ok = f.take(data); !ok {
			return uint64(i), false
		}
	}
	return 0, len(data) == 0
}

func parseSchema(b []byte) ([]field, bool) {
	if len(b) < 3 || b[0] != 2 {
		return nil, false
	}
	fields, rest, ok := parseFields(b[3:], int(binary.BigEndian.Uint16(b[1:])))
	return fields, ok && len(rest) == 0
}

func parseFields(b []byte, n int) (list []field, rest []byte, ok bool) {
	for range n {
		if len(b) < 6 {
			return nil, nil, false
		}
		f := field{kind: b[0], length: int(binary.BigEndian.Uint16(b[1:]))}
		children := int(binary.BigEndian.Uint16(b[3:]))
		name := int(b[5]) // names of 128 bytes or more are not supported here
		if name >= 0x80 || len(b) < 6+name {
			return nil, nil, false
		}
		if f.children, b, ok = parseFields(b[6+name:], children); !ok {
			return nil, nil, false
		}
		list = append(list, f)
	}
	return list, b, true
}

// take cuts a value of the field off data.
func (f field) take(data []byte) ([]byte, bool) {
	switch f.kind {
	case fieldBool:
		return cut(data, 1, len(data) > 0 && data[0] <= 1)
	case fieldFixedBytes:
		return cut(data, f.length, true)
	case fieldString, fieldBytes:
		n, rest, ok := compact(data)
		return cut(rest, n, ok)
	case fieldArray:
		return f.repeat(data, f.length)
	case fieldList:
		n, rest, ok := compact(data)
		if !ok || n > len(rest) {
			return nil, false
		}
		return f.repeat(rest, n)
	case fieldOptional:
		n, rest, ok := compact(data)
		if !ok || n > len(rest) || len(f.children) != 1 {
			return nil, false
		}
		if n == 0 {
			return rest, true
		}
		inner, ok := f.children[0].take(rest[:n])
		return rest[n:], ok && len(inner) == 0
	case fieldStruct:
		n, rest, ok := compact(data)
		if !ok || n != len(f.children) {
			return nil, false
		}
		for _, child := range f.children {
			if rest, ok = child.take(rest); !ok {
				return nil, false
			}
		}
		return rest, true
	}
	width, known := fieldWidths[f.kind]
	return cut(data, width, known)
}

func (f field) repeat(data []byte, n int) (rest []byte, ok bool) {
	if len(f.children) != 1 {
		return nil, false
	}
	for range n {
		if data, ok = f.children[0].take(data); !ok {
			return nil, false
		}
	}
	return data, true
}

func cut(data []byte, n int, ok bool) ([]byte, bool) {
	if !ok || n > len(data) {
		return nil, false
	}
	return data[n:], true
}

// compact cuts a compact length off data.
func compact(data []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(data) == 0:
		return 0, nil, false
	case data[0] < 0x80:
		return int(data[0]), data[1:], true
	case data[0] < 0xc0:
		if len(data) < 2 {
			return 0, nil, false
		}
		return int(data[0]&0x3f)<<8 | int(data[1]), data[2:], true
	}
	width := int(data[0] & 0x3f)
	if width > 4 || len(data) < 1+width {
		return 0, nil, false
	}
	for _, b := range data[1 : 1+width] {
		n = n<<8 | int(b)
	}
	return n, data[1+width:], true
}
