package codec

import (
	"math"
	"reflect"
)

// Check returns nil if and only if the contract would accept the data. The error is an [*Error].
//
// It refuses data of more than 262,144 values, which the contract cannot check with the gas that a
// transaction may use.
func (s *Schema) Check(data []byte) error {
	if s.none {
		return nil
	}
	return s.read(data, func(int) reflect.Value { return reflect.Value{} })
}

// Decode returns the value of each field of the schema; see the package comment for their types. It
// accepts what [Schema.Check] accepts. In a value of an Optional of an Optional, both nones are
// nil.
func (s *Schema) Decode(data []byte) ([]any, error) {
	if s.none {
		return nil, ErrNoSchema
	}
	values := make([]any, len(s.fields))
	err := s.read(data, func(i int) reflect.Value { return reflect.ValueOf(&values[i]).Elem() })
	if err != nil {
		return nil, err
	}
	return values, nil
}

// Unmarshal stores the value of each field of the schema in what the destination of the same place
// points to; nil skips a field. It accepts what [Schema.Check] accepts if the values fit the
// destinations. After an error, destinations may have been changed.
func (s *Schema) Unmarshal(data []byte, destinations ...any) error {
	if s.none {
		return ErrNoSchema
	}
	if len(destinations) != len(s.fields) {
		return fail(0, "%d destinations for %d fields", len(destinations), len(s.fields))
	}
	for i, d := range destinations {
		if v := reflect.ValueOf(d); d != nil && (v.Kind() != reflect.Pointer || v.IsNil()) {
			return fail(0, "a destination of type %T is not a pointer to a value", d).in(element(s.fields, i))
		}
	}
	return s.read(data, func(i int) reflect.Value {
		if destinations[i] == nil {
			return reflect.Value{}
		}
		return reflect.ValueOf(destinations[i]).Elem()
	})
}

// read reads all fields, each into the destination that the function returns for its place, if that
// is valid.
func (s *Schema) read(data []byte, destination func(i int) reflect.Value) error {
	r := reader{data: data, limit: len(data)}
	for i := range s.fields {
		if err := r.value(&s.fields[i], destination(i), 0); err != nil {
			return err.in(element(s.fields, i))
		}
	}
	if r.at != len(data) {
		return fail(r.at, "%d bytes follow the last field", len(data)-r.at)
	}
	return nil
}

// reader reads data in the way of the contract.
type reader struct {
	data    []byte
	at      int
	limit   int // the end of the data, or of the innermost Optional
	values  int
	layouts layouts
}

// length reads a compact length or count. What is above the greatest int becomes that.
func (r *reader) length(k Kind) (int, *Error) {
	start := r.at
	if r.at >= r.limit {
		return 0, fail(start, "the data ends before the length of the %v", k)
	}
	first := r.data[r.at]
	r.at++
	n, more := int(first), 0
	switch {
	case first < 0x80:
	case first < 0xC0:
		n, more = int(first&0x3F), 1
	default:
		n, more = 0, int(first&0x3F)
		if more == 0 || more > 32 {
			return 0, fail(start, "a length of the %v in %d bytes, and the contract accepts 1 to 32", k, more)
		}
	}
	if more > r.limit-r.at {
		return 0, fail(start, "the data ends within the length of the %v", k)
	}
	tooLong := false
	for range more {
		tooLong = tooLong || n > math.MaxInt>>8
		n = n<<8 | int(r.data[r.at])
		r.at++
	}
	if tooLong {
		n = math.MaxInt
	}
	return n, nil
}

// value reads one value and stores it, if the destination is valid.
func (r *reader) value(f *Field, dst reflect.Value, depth int) *Error {
	if err := usable(f, depth); err != nil {
		err.Offset = r.at
		return err
	}
	if r.values++; r.values > maxValues {
		return fail(r.at, "more than %d values, too many for a transaction", maxValues)
	}
	switch {
	case f.Kind == Void:
		if dst.IsValid() {
			dst.SetZero()
		}
		return nil
	case f.Kind == Optional:
		return r.optional(f, dst, depth)
	case !dst.IsValid():
		return r.present(f, dst, depth)
	}
	dst = reach(dst)
	if dst.Kind() != reflect.Interface || dst.NumMethod() != 0 {
		return r.present(f, dst, depth)
	}
	v := reflect.New(goType(f.Kind)).Elem()
	if err := r.present(f, reach(v), depth); err != nil {
		return err
	}
	dst.Set(v)
	return nil
}

// reach returns what a pointer points to. It makes what is missing.
func reach(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	return v
}

// present reads a value that is neither Void nor Optional.
func (r *reader) present(f *Field, dst reflect.Value, depth int) *Error {
	start := r.at
	size := kinds[f.Kind].size
	var err *Error
	switch f.Kind {
	case Array:
		return r.elements(f, f.Length, dst, depth)
	case List:
		count, err := r.length(f.Kind)
		if err == nil && count > maxList {
			err = fail(start, "a list of %d elements, and the contract accepts at most %d", count, maxList)
		}
		if err != nil {
			return err
		}
		return r.elements(f, count, dst, depth)
	case Struct:
		count, err := r.length(f.Kind)
		if err == nil && count != len(f.Fields) {
			err = fail(start, "a struct of %d fields, and the schema has %d", count, len(f.Fields))
		}
		if err != nil {
			return err
		}
		return r.fields(f, dst, depth)
	case FixedBytes:
		size = f.Length
	case String, Bytes:
		size, err = r.length(f.Kind)
	}
	if err != nil {
		return err
	}
	if size > r.limit-r.at {
		return fail(start, "a value of kind %v needs %d bytes, and %d are left", f.Kind, size, r.limit-r.at)
	}
	b := r.data[r.at : r.at+size]
	r.at += size
	if dst.IsValid() && !store(f.Kind, b, dst) {
		return fail(start, "a value of kind %v does not fit the Go type %v", f.Kind, dst.Type())
	}
	return nil
}

func (r *reader) optional(f *Field, dst reflect.Value, depth int) *Error {
	start := r.at
	n, err := r.length(f.Kind)
	switch {
	case err != nil:
		return err
	case n == 0:
		if dst.IsValid() {
			dst.SetZero()
		}
		return nil
	case n > r.limit-r.at:
		return fail(start, "an optional of %d bytes, and %d are left", n, r.limit-r.at)
	}
	if dst.IsValid() && dst.Kind() == reflect.Pointer { // what it points to may be an optional, too
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	outer := r.limit
	r.limit = r.at + n
	if err := r.value(&f.Fields[0], dst, depth+1); err != nil {
		return err
	}
	if r.at != r.limit {
		return fail(r.at, "%d bytes follow the value of the optional", r.limit-r.at)
	}
	r.limit = outer
	return nil
}

// elements reads the elements of an Array or List.
func (r *reader) elements(f *Field, count int, dst reflect.Value, depth int) *Error {
	next := func(int) reflect.Value { return reflect.Value{} }
	switch {
	case !dst.IsValid():
	case dst.Kind() == reflect.Array && dst.Len() == count:
		next = dst.Index
	case dst.Kind() == reflect.Slice:
		// It grows with what is read: elements may need no bytes, so the count tells nothing.
		dst.Set(reflect.MakeSlice(dst.Type(), 0, min(count, 16)))
		next = func(i int) reflect.Value {
			if i == dst.Cap() {
				dst.Grow(1)
			}
			dst.SetLen(i + 1)
			return dst.Index(i)
		}
	default:
		return fail(r.at, "%d elements do not fit the Go type %v", count, dst.Type())
	}
	for i := range count {
		if err := r.value(&f.Fields[0], next(i), depth+1); err != nil {
			return err.in(f.element(i))
		}
	}
	return nil
}

// fields reads the fields of a Struct.
func (r *reader) fields(f *Field, dst reflect.Value, depth int) *Error {
	next := func(int) reflect.Value { return reflect.Value{} }
	if dst.IsValid() {
		var ok bool
		if dst.Kind() == reflect.Slice {
			dst.Set(reflect.MakeSlice(dst.Type(), len(f.Fields), len(f.Fields)))
		}
		if next, ok = r.layouts.members(dst, len(f.Fields)); !ok {
			return fail(r.at, "a struct of %d fields does not fit the Go type %v", len(f.Fields), dst.Type())
		}
	}
	for i := range f.Fields {
		if err := r.value(&f.Fields[i], next(i), depth+1); err != nil {
			return err.in(f.element(i))
		}
	}
	return nil
}
