package codec

import (
	"math/big"
	"reflect"
)

// Encode returns the values in the compact form, one value for each field of the schema; see the
// package comment for their types. The contract accepts what Encode returns. The error is an
// [*Error], or [ErrNoSchema].
func (s *Schema) Encode(values ...any) ([]byte, error) {
	if s.none {
		return nil, ErrNoSchema
	}
	if len(values) != len(s.fields) {
		return nil, fail(0, "%d values for %d fields", len(values), len(s.fields))
	}
	var w writer
	for i := range s.fields {
		if err := w.value(&s.fields[i], reflect.ValueOf(values[i]), 0); err != nil {
			return nil, err.in(element(s.fields, i))
		}
	}
	return w.out, nil
}

type writer struct {
	out     []byte
	values  int
	layouts layouts
}

// appendLength appends the shortest form of a length or count.
func appendLength(b []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n < 0x4000:
		return append(b, 0x80|byte(n>>8), byte(n))
	}
	digits := big.NewInt(int64(n)).Bytes()
	return append(append(b, 0xC0|byte(len(digits))), digits...)
}

func (w *writer) value(f *Field, v reflect.Value, depth int) *Error {
	if err := usable(f, depth); err != nil {
		return err
	}
	if w.values++; w.values > maxValues {
		return fail(0, "more than %d values, too many for a transaction", maxValues)
	}
	switch f.Kind {
	case Void:
		if !absent(v) && (v.Kind() != reflect.Struct || v.NumField() > 0) {
			return misfit(f.Kind, v)
		}
		return nil
	case Optional:
		return w.optional(f, v, depth)
	}
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return fail(0, "a value of kind %v cannot be nil", f.Kind)
	}
	switch f.Kind {
	case Bool:
		if v.Kind() != reflect.Bool {
			return misfit(f.Kind, v)
		}
		bit := byte(0)
		if v.Bool() {
			bit = 1
		}
		w.out = append(w.out, bit)
	case String:
		if v.Kind() != reflect.String {
			return misfit(f.Kind, v)
		}
		w.out = append(appendLength(w.out, v.Len()), v.String()...)
	case Bytes:
		b, ok := byteString(v)
		if !ok {
			return misfit(f.Kind, v)
		}
		w.out = append(appendLength(w.out, len(b)), b...)
	case Address, Bytes32, FixedBytes:
		size := kinds[f.Kind].size
		if f.Kind == FixedBytes {
			size = f.Length
		}
		b, ok := byteString(v)
		if !ok {
			return misfit(f.Kind, v)
		}
		if len(b) != size {
			return fail(0, "%d bytes for a field of %d", len(b), size)
		}
		w.out = append(w.out, b...)
	case Array, List:
		return w.elements(f, v, depth)
	case Struct:
		return w.fields(f, v, depth)
	default:
		return w.integer(f.Kind, v)
	}
	return nil
}

// absent reports whether a value is nil, which means none for an Optional.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Interface, reflect.Slice:
		return v.IsNil()
	default:
		return false
	}
}

func misfit(k Kind, v reflect.Value) *Error {
	return fail(0, "a Go value of type %v is no value of kind %v", v.Type(), k)
}

func (w *writer) integer(k Kind, v reflect.Value) *Error {
	n := integer(v)
	if n == nil {
		return misfit(k, v)
	}
	size := kinds[k].size
	bits := uint(size) * 8
	// Two's complement: the range of a signed kind is moved to begin at zero, and back.
	least, limit := new(big.Int), new(big.Int).Lsh(big.NewInt(1), bits)
	if k.signed() {
		least.Neg(least.Lsh(big.NewInt(1), bits-1))
	}
	if n.Cmp(least) < 0 || n.Cmp(new(big.Int).Add(least, limit)) >= 0 {
		return fail(0, "the number does not fit %v", k)
	}
	if n.Sign() < 0 {
		n.Add(n, limit)
	}
	start := len(w.out)
	w.out = append(w.out, make([]byte, size)...)
	n.FillBytes(w.out[start:])
	return nil
}

func (w *writer) optional(f *Field, v reflect.Value, depth int) *Error {
	// What an Optional of an Optional holds may be nil in turn.
	for v.Kind() == reflect.Interface && !v.IsNil() {
		v = v.Elem()
	}
	if absent(v) {
		w.out = append(w.out, 0)
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	outer := w.out
	w.out = nil
	if err := w.value(&f.Fields[0], v, depth+1); err != nil {
		return err
	}
	if len(w.out) == 0 {
		return fail(0, "a value of kind %v without bytes cannot be told from none", f.Fields[0].Kind)
	}
	w.out = append(appendLength(outer, len(w.out)), w.out...)
	return nil
}

func (w *writer) elements(f *Field, v reflect.Value, depth int) *Error {
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return misfit(f.Kind, v)
	}
	switch n := v.Len(); {
	case f.Kind == Array && n != f.Length:
		return fail(0, "%d elements for an array of %d", n, f.Length)
	case f.Kind == List && n > maxList:
		return fail(0, "a list of %d elements, and the contract accepts at most %d", n, maxList)
	case f.Kind == List:
		w.out = appendLength(w.out, n)
	}
	for i := range v.Len() {
		if err := w.value(&f.Fields[0], v.Index(i), depth+1); err != nil {
			return err.in(f.element(i))
		}
	}
	return nil
}

func (w *writer) fields(f *Field, v reflect.Value, depth int) *Error {
	member, ok := w.layouts.members(v, len(f.Fields))
	if !ok {
		return fail(0, "a Go value of type %v does not have the %d fields of the struct", v.Type(), len(f.Fields))
	}
	w.out = appendLength(w.out, len(f.Fields))
	for i := range f.Fields {
		if err := w.value(&f.Fields[i], member(i), depth+1); err != nil {
			return err.in(f.element(i))
		}
	}
	return nil
}
