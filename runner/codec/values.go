package codec

import (
	"encoding/binary"
	"math/big"
	"reflect"
)

var bigInt = reflect.TypeFor[big.Int]()

// goType returns the type of the values of a kind where the caller names none.
func goType(k Kind) reflect.Type {
	switch k {
	case Bool:
		return reflect.TypeFor[bool]()
	case Uint8:
		return reflect.TypeFor[uint8]()
	case Int8:
		return reflect.TypeFor[int8]()
	case Uint16:
		return reflect.TypeFor[uint16]()
	case Int16:
		return reflect.TypeFor[int16]()
	case Uint32:
		return reflect.TypeFor[uint32]()
	case Int32:
		return reflect.TypeFor[int32]()
	case Uint64:
		return reflect.TypeFor[uint64]()
	case Int64:
		return reflect.TypeFor[int64]()
	case Uint128, Int128, Uint256, Int256:
		return reflect.TypeFor[*big.Int]()
	case Address:
		return reflect.TypeFor[[20]byte]()
	case Bytes32:
		return reflect.TypeFor[[32]byte]()
	case FixedBytes, Bytes:
		return reflect.TypeFor[[]byte]()
	case String:
		return reflect.TypeFor[string]()
	default:
		return reflect.TypeFor[[]any]()
	}
}

// store stores the bytes of a value that has no parts. It reports whether the value fits.
func store(k Kind, b []byte, dst reflect.Value) bool {
	switch {
	case k == Bool:
		if dst.Kind() != reflect.Bool {
			return false
		}
		dst.SetBool(b[0] != 0)
	case k == String:
		if dst.Kind() != reflect.String {
			return false
		}
		dst.SetString(string(b))
	case k.integer():
		return storeInteger(k, b, dst)
	case dst.Kind() == reflect.Slice && dst.Type().Elem().Kind() == reflect.Uint8:
		dst.SetBytes(append([]byte{}, b...))
	case dst.Kind() == reflect.Array && dst.Type().Elem().Kind() == reflect.Uint8 && dst.Len() == len(b):
		for i, c := range b {
			dst.Index(i).SetUint(uint64(c))
		}
	default:
		return false
	}
	return true
}

func storeInteger(k Kind, b []byte, dst reflect.Value) bool {
	negative := k.signed() && b[0] >= 0x80
	if dst.Type() == bigInt {
		n := dst.Addr().Interface().(*big.Int).SetBytes(b)
		if negative {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
		}
		return true
	}
	// The value is the last 8 bytes, if those before them only continue the sign.
	var fill byte
	if negative {
		fill = 0xFF
	}
	for len(b) > 8 {
		if b[0] != fill {
			return false
		}
		b = b[1:]
	}
	var word [8]byte
	for i := range word {
		word[i] = fill
	}
	copy(word[8-len(b):], b)
	n := binary.BigEndian.Uint64(word[:])
	switch signed := int64(n); {
	case dst.CanInt():
		if signed < 0 != negative || dst.OverflowInt(signed) {
			return false
		}
		dst.SetInt(signed)
	case dst.CanUint():
		if negative || dst.OverflowUint(n) {
			return false
		}
		dst.SetUint(n)
	default:
		return false
	}
	return true
}

// integer returns a Go value as a number; nil if it is none.
func integer(v reflect.Value) *big.Int {
	switch {
	case v.CanInt():
		return big.NewInt(v.Int())
	case v.CanUint():
		return new(big.Int).SetUint64(v.Uint())
	case v.Type() == bigInt:
		n := v.Interface().(big.Int)
		return new(big.Int).Set(&n) // with digits of its own
	default:
		return nil
	}
}

// byteString returns a Go value as bytes, if it is a slice or an array of bytes.
func byteString(v reflect.Value) ([]byte, bool) {
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array || v.Type().Elem().Kind() != reflect.Uint8 {
		return nil, false
	}
	if v.Kind() == reflect.Slice {
		return v.Bytes(), true
	}
	b := make([]byte, v.Len())
	for i := range b {
		b[i] = byte(v.Index(i).Uint())
	}
	return b, true
}

// layouts holds, by type, which fields of Go structs stand for the fields of a Struct.
type layouts map[reflect.Type][]int

// members returns access to the parts of a Go value that stands for a Struct of n fields: a Go
// struct, a slice or an array. It reports whether the value has n.
func (l *layouts) members(v reflect.Value, n int) (func(i int) reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		return v.Index, v.Len() == n
	case reflect.Struct:
		layout := l.of(v.Type())
		return func(i int) reflect.Value { return v.Field(layout[i]) }, len(layout) == n
	default:
		return nil, false
	}
}

func (l *layouts) of(t reflect.Type) []int {
	layout, known := (*l)[t]
	if !known {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("codec") != "-" {
				layout = append(layout, i)
			}
		}
		if *l == nil {
			*l = layouts{}
		}
		(*l)[t] = layout
	}
	return layout
}
