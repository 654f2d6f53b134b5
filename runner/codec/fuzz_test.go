package codec

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// refused is what an oracle panics with.
type refused struct{}

// oracle walks schema and data side by side, byte by byte, as the contract does: it keeps no tree.
type oracle struct {
	schema, data []byte
	steps        int
}

// accepts reports whether the contract accepts the data; known is false if it would run out of gas.
func accepts(schema, data []byte) (ok, known bool) {
	if len(schema) == 0 {
		return true, true
	}
	o := &oracle{schema: schema, data: data}
	defer func() {
		if r := recover(); r != nil {
			_ = r.(refused)
			ok, known = false, o.steps <= maxValues
		}
	}()
	o.need(len(schema) >= 3 && schema[0] == 2)
	node, at := 3, 0
	for range int(schema[1])<<8 | int(schema[2]) {
		end := o.skip(node)
		at = o.walk(node, at, len(data), 0)
		node = end
	}
	return at == len(data), true
}

func (o *oracle) need(ok bool) {
	if !ok {
		panic(refused{})
	}
}

func (o *oracle) header(at int) (kind Kind, length, children, next int) {
	o.need(at+5 <= len(o.schema))
	b := o.schema[at:]
	o.need(b[0] <= 22)
	kind, length, children = Kind(b[0]), int(b[1])<<8|int(b[2]), int(b[3])<<8|int(b[4])
	at += 5
	o.need(at < len(o.schema))
	name, more := int(o.schema[at]), 0
	switch {
	case name&0x80 == 0:
	case name&0x40 == 0:
		name, more = name&0x3F, 1
	case name&0x20 == 0:
		name, more = name&0x1F, 2
	default:
		name, more = name&0x0F, 3
	}
	at++
	o.need(at+more <= len(o.schema))
	for ; more > 0; more-- {
		name = name<<8 | int(o.schema[at])
		at++
	}
	return kind, length, children, at + name
}

func (o *oracle) skip(at int) int {
	_, _, children, next := o.header(at)
	for range children {
		next = o.skip(next)
	}
	return next
}

func (o *oracle) compact(at, limit int) (n uint64, next int) {
	o.need(at < limit)
	first := o.data[at]
	at++
	if first < 0x80 {
		return uint64(first), at
	}
	size := 1
	if first >= 0xC0 {
		size = int(first & 0x3F)
		o.need(size >= 1 && size <= 32)
	} else {
		n = uint64(first & 0x3F)
	}
	o.need(at+size <= limit)
	for _, b := range o.data[at : at+size] {
		if n >= 1<<40 {
			n = 1 << 40 // too long for any data, as whatever follows
			continue
		}
		n = n<<8 | uint64(b)
	}
	return n, at + size
}

func (o *oracle) walk(node, at, limit, depth int) int {
	o.steps++
	o.need(o.steps <= maxValues)
	o.need(depth < 32)
	kind, length, children, child := o.header(node)
	size := uint64(0)
	switch kind {
	case Void:
	case Bool, Uint8, Int8:
		size = 1
	case Uint16, Int16:
		size = 2
	case Uint32, Int32:
		size = 4
	case Uint64, Int64:
		size = 8
	case Uint128, Int128:
		size = 16
	case Uint256, Int256, Bytes32:
		size = 32
	case Address:
		size = 20
	case FixedBytes:
		o.need(length > 0 && length <= 32)
		size = uint64(length)
	case String, Bytes:
		size, at = o.compact(at, limit)
	case Optional:
		o.need(children == 1)
		size, at = o.compact(at, limit)
		if size == 0 {
			return at
		}
		o.need(size <= uint64(limit-at))
		end := at + int(size)
		o.need(o.walk(child, at, end, depth+1) == end)
		return end
	case Array:
		o.need(children == 1)
		for range length {
			at = o.walk(child, at, limit, depth+1)
		}
	case List:
		o.need(children == 1)
		var n uint64
		n, at = o.compact(at, limit)
		o.need(n <= 10_000)
		for range n {
			at = o.walk(child, at, limit, depth+1)
		}
	case Struct:
		var n uint64
		n, at = o.compact(at, limit)
		o.need(n == uint64(children) && children <= 256)
		for range children {
			at = o.walk(child, at, limit, depth+1)
			child = o.skip(child)
		}
	}
	o.need(size <= uint64(limit-at))
	return at + int(size)
}

// FuzzCheck holds Check and Decode against the oracle, for any schema and any data.
func FuzzCheck(f *testing.F) {
	every, err := New(all...)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(every.Bytes(), []byte{1, 2, 3})
	f.Add([]byte{2, 0, 1, 8, 0, 0, 0, 0, 1, 'x'}, []byte{0, 0, 0, 0, 0, 0, 0, 7})
	f.Add([]byte{2, 0, 1, 21, 0, 0, 0, 1, 0, 17, 0, 0, 0, 0, 0}, []byte{2, 1, 'a', 0xC1, 1, 'b'})
	f.Add([]byte{2, 0, 1, 22, 0, 0, 0, 1, 0, 19, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0}, []byte{1, 1, 7})
	f.Add([]byte{2, 0, 1, 20, 0xFF, 0xFF, 0, 1, 0, 20, 0xFF, 0xFF, 0, 1, 0, 0, 0, 0, 0, 0, 0}, []byte{})
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		if len(schema) > 512 || len(data) > 1<<10 {
			return
		}
		var s *Schema
		var err error
		parsing := alloctest.Roughly(func() { s, err = Parse(schema) })
		if limit := uint64(20*len(schema)) + alloctest.Slack; parsing > limit {
			t.Errorf("Parse allocates %d bytes for a schema of %d", parsing, len(schema))
		}
		want, known := accepts(schema, data)
		if err != nil {
			if want {
				t.Errorf("Parse refuses what the contract accepts: %v", err)
			}
			return
		}
		err = s.Check(data)
		if known && (err == nil) != want {
			t.Errorf("the contract accepts: %v, but Check returns %v", want, err)
		}
		if s.none {
			return
		}
		values, decoding := s.Decode(data)
		if (decoding == nil) != (err == nil) || err != nil && decoding.Error() != err.Error() {
			t.Errorf("Check returns %v, Decode %v", err, decoding)
		}
		if err != nil {
			return
		}
		again, err := s.Encode(values...)
		if err != nil {
			t.Fatalf("values that were decoded cannot be encoded: %v", err)
		}
		if err := s.Check(again); err != nil {
			t.Errorf("Check refuses what Encode returns: %v", err)
		}
		if len(again) > len(data) {
			t.Errorf("%x becomes longer: %x", data, again)
		}
		twice, err := s.Decode(again)
		if err != nil || !reflect.DeepEqual(twice, values) {
			t.Errorf("%v becomes %v, %v", values, twice, err)
		}
	})
}

// FuzzRoundTrip makes a schema and fitting values of a seed.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		fields := make([]Field, r.IntN(5))
		values := make([]any, len(fields))
		for i := range fields {
			fields[i] = randomField(r, 3)
			values[i] = randomValue(r, &fields[i])
		}
		s := build(t, fields...)
		parsed, err := Parse(s.Bytes())
		if err != nil || !bytes.Equal(parsed.Bytes(), s.Bytes()) {
			t.Fatalf("the schema does not survive: %v", err)
		}
		data, err := parsed.Encode(values...)
		if err != nil {
			t.Fatal(err)
		}
		if ok, known := accepts(s.Bytes(), data); !ok && known {
			t.Errorf("the contract refuses %x", data)
		}
		if got, err := parsed.Decode(data); err != nil || !reflect.DeepEqual(got, values) {
			t.Errorf("%v becomes %v, %v", values, got, err)
		}
	})
}

func randomField(r *rand.Rand, depth int) Field {
	f := Field{Kind: Kind(r.IntN(int(Struct) + 1)), Name: "abc"[:r.IntN(4)]}
	if depth == 0 {
		f.Kind = Kind(r.IntN(int(Bytes) + 1))
	}
	switch f.Kind {
	case FixedBytes:
		f.Length = 1 + r.IntN(32)
	case Array:
		f.Length = r.IntN(4)
		f.Fields = []Field{randomField(r, depth-1)}
	case List:
		f.Fields = []Field{randomField(r, depth-1)}
	case Optional: // of a value that has bytes, and is not nil
		f.Fields = []Field{of(Kind(1 + r.IntN(int(Address))))}
	case Struct:
		f.Fields = make([]Field, r.IntN(4))
		for i := range f.Fields {
			f.Fields[i] = randomField(r, depth-1)
		}
	}
	return f
}

func randomValue(r *rand.Rand, f *Field) any {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	switch f.Kind {
	case Void:
		return nil
	case Bool:
		return r.IntN(2) == 0
	case String:
		return string(random(r.IntN(300)))
	case Bytes:
		return random(r.IntN(300))
	case Optional:
		if r.IntN(2) == 0 {
			return nil
		}
		return randomValue(r, &f.Fields[0])
	case Array, List, Struct:
		n := f.Length
		if f.Kind == List {
			n = r.IntN(5)
		} else if f.Kind == Struct {
			n = len(f.Fields)
		}
		values := make([]any, n)
		for i := range values {
			child := 0
			if f.Kind == Struct {
				child = i
			}
			values[i] = randomValue(r, &f.Fields[child])
		}
		return values
	}
	size := kinds[f.Kind].size
	if f.Kind == FixedBytes {
		size = f.Length
	}
	v := reflect.New(goType(f.Kind)).Elem()
	store(f.Kind, random(size), reach(v))
	return v.Interface()
}
