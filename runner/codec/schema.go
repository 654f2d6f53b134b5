package codec

import (
	"errors"
	"fmt"
	"strconv"
)

// Kind is the kind of a field, with the contract's number.
type Kind uint8

// The kinds of the contract.
const (
	Void Kind = iota
	Bool
	Uint8
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Uint64
	Int64
	Uint128
	Int128
	Uint256
	Int256
	Address
	Bytes32
	FixedBytes
	String
	Bytes
	Optional
	Array
	List
	Struct
)

// kinds holds, by number, the name of each kind and its size in bytes; 0 if the size varies.
var kinds = [...]struct {
	name string
	size int
}{
	{"void", 0}, {"bool", 1}, {"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4},
	{"uint64", 8}, {"int64", 8}, {"uint128", 16}, {"int128", 16}, {"uint256", 32}, {"int256", 32}, {"address", 20},
	{"bytes32", 32}, {"fixed bytes", 0}, {"string", 0}, {"bytes", 0}, {"optional", 0}, {"array", 0}, {"list", 0},
	{"struct", 0},
}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if int(k) >= len(kinds) {
		return "kind " + strconv.Itoa(int(k))
	}
	return kinds[k].name
}

func (k Kind) integer() bool { return k >= Uint8 && k <= Int256 }

// signed reports whether an integer kind is signed.
func (k Kind) signed() bool { return k.integer() && k&1 == 1 }

// Field is a field of a schema.
type Field struct {
	Name string // may be empty
	Kind Kind
	// Length is the number of bytes of FixedBytes, or the number of elements of an Array; at most
	// 65,535.
	Length int
	// Fields are the fields of a Struct, or the one element of an Optional, Array or List.
	Fields []Field
}

// The limits of the contract, and of this package where the contract only runs out of gas.
const (
	version     = 2
	headerSize  = 5
	maxDepth    = 32 // of the fields that data reaches
	maxNesting  = 64 // of fields in a schema: the EVM's stack holds fewer
	maxSchema   = 256 << 10
	maxList     = 10_000
	maxStruct   = 256
	maxFixed    = 32
	maxUint16   = 1<<16 - 1
	maxValues   = 1 << 18 // no transaction pays for the check of so many
	schemaBits2 = 1 << 14 // lengths in a schema: below, two bytes are enough
	schemaBits3 = 1 << 21
)

// ErrNoSchema is the error of methods that need a schema where there is none.
var ErrNoSchema = errors.New("codec: the job has no schema, so its bytes have no known form")

// Schema is a parsed schema. It is safe for concurrent use.
type Schema struct {
	fields []Field
	none   bool
}

// Parse parses a schema as the contract stores it. Empty bytes are no schema: Check then accepts
// everything, and other methods return [ErrNoSchema].
//
// Parse accepts what the contract can read, even if no data fits it. It refuses schemas above
// 256 KiB and fields nested deeper than 64.
func Parse(schema []byte) (*Schema, error) {
	if len(schema) == 0 {
		return &Schema{none: true}, nil
	}
	switch {
	case len(schema) > maxSchema:
		return nil, fmt.Errorf("codec: a schema of %d bytes is longer than %d", len(schema), maxSchema)
	case schema[0] != version:
		return nil, fmt.Errorf("codec: a schema of version %d; only version %d is known", schema[0], version)
	case len(schema) < 3:
		return nil, fmt.Errorf("codec: a schema of %d bytes is too short", len(schema))
	}
	p := parser{schema: schema, at: 3}
	fields, err := p.fields(int(schema[1])<<8|int(schema[2]), 0)
	if err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	return &Schema{fields: fields}, nil
}

// parser reads a schema. Like the contract it does not mind that the last name is cut off, or that
// bytes follow the last field.
type parser struct {
	schema []byte
	at     int // beyond the end, if a name was cut off
}

func (p *parser) fields(count, depth int) ([]Field, error) {
	if count == 0 {
		return nil, nil
	}
	if depth == maxNesting {
		return nil, fmt.Errorf("the schema nests fields deeper than %d", maxNesting)
	}
	fields := make([]Field, 0, min(count, 8)) // the count may be a lie
	for range count {
		f, err := p.field(depth)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func (p *parser) field(depth int) (f Field, err error) {
	at := p.at
	if at+headerSize > len(p.schema) {
		return f, fmt.Errorf("the schema ends within the field at byte %d", min(at, len(p.schema)))
	}
	header := p.schema[at:]
	if f.Kind = Kind(header[0]); f.Kind > Struct {
		return f, fmt.Errorf("the field at byte %d of the schema is of the unknown kind %d", at, header[0])
	}
	f.Length = int(header[1])<<8 | int(header[2])
	p.at += headerSize
	size, ok := p.length()
	if !ok {
		return f, fmt.Errorf("the schema ends within the field at byte %d", at)
	}
	name := p.schema[min(p.at, len(p.schema)):min(p.at+size, len(p.schema))]
	f.Name = string(name)
	p.at += size
	f.Fields, err = p.fields(int(header[3])<<8|int(header[4]), depth+1)
	return f, err
}

// length reads the length of a name. Its form differs from that of lengths in data.
func (p *parser) length() (n int, ok bool) {
	if p.at >= len(p.schema) {
		return 0, false
	}
	more, first := 0, int(p.schema[p.at])
	switch {
	case first < 0x80:
		n = first
	case first < 0xC0:
		more, n = 1, first&0x3F
	case first < 0xE0:
		more, n = 2, first&0x1F
	default:
		more, n = 3, first&0x0F
	}
	p.at++
	if p.at+more > len(p.schema) {
		return 0, false
	}
	for range more {
		n = n<<8 | int(p.schema[p.at])
		p.at++
	}
	return n, true
}

// New makes a schema of fields. Unlike [Parse] it refuses a schema that no data fits. Without
// fields it is the schema of a job without parameters or result: only empty bytes fit it.
func New(fields ...Field) (*Schema, error) {
	if len(fields) > maxUint16 {
		return nil, fmt.Errorf("codec: %d fields are more than %d", len(fields), maxUint16)
	}
	for i := range fields {
		if err := validate(&fields[i], 0); err != nil {
			return nil, err.in(element(fields, i))
		}
	}
	s := &Schema{fields: fields}
	if size := len(s.Bytes()); size > maxSchema {
		return nil, fmt.Errorf("codec: a schema of %d bytes is longer than %d", size, maxSchema)
	}
	return s, nil
}

func validate(f *Field, depth int) *Error {
	children := 0
	switch f.Kind {
	case Optional, Array, List:
		children = 1
	case Struct:
		children = len(f.Fields)
	}
	switch hasLength := f.Kind == Array || f.Kind == FixedBytes; {
	case f.Kind > Struct:
		return fail(0, "%v is unknown", f.Kind)
	case f.Length != 0 && !hasLength:
		return fail(0, "a field of kind %v has no length, and this one has %d", f.Kind, f.Length)
	case f.Length < 0 || f.Length > maxUint16:
		return fail(0, "a length of %d is not between 0 and %d", f.Length, maxUint16)
	case len(f.Fields) != children:
		return fail(0, "a field of kind %v has %d fields, and this one has %d", f.Kind, children, len(f.Fields))
	}
	if err := usable(f, depth); err != nil {
		return err
	}
	for i := range f.Fields {
		if err := validate(&f.Fields[i], depth+1); err != nil {
			return err.in(f.element(i))
		}
	}
	return nil
}

// Fields returns the fields of the schema; the caller must not change them. It returns nil if there
// is no schema.
func (s *Schema) Fields() []Field { return s.fields }

// Bytes returns the schema in the contract's form; nil if there is no schema.
func (s *Schema) Bytes() []byte {
	if s.none {
		return nil
	}
	return appendFields([]byte{version, byte(len(s.fields) >> 8), byte(len(s.fields))}, s.fields)
}

func appendFields(b []byte, fields []Field) []byte {
	for i := range fields {
		f := &fields[i]
		b = append(b, byte(f.Kind), byte(f.Length>>8), byte(f.Length), byte(len(f.Fields)>>8), byte(len(f.Fields)))
		switch n := len(f.Name); {
		case n < 0x80:
			b = append(b, byte(n))
		case n < schemaBits2:
			b = append(b, 0x80|byte(n>>8), byte(n))
		case n < schemaBits3:
			b = append(b, 0xC0|byte(n>>16), byte(n>>8), byte(n))
		default:
			b = append(b, 0xE0|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
		b = append(b, f.Name...)
		b = appendFields(b, f.Fields)
	}
	return b
}

// usable reports what keeps data of the field from being accepted by the contract, whatever it is.
func usable(f *Field, depth int) *Error {
	switch {
	case depth >= maxDepth:
		return fail(0, "the schema nests values deeper than %d", maxDepth)
	case f.Kind == FixedBytes && (f.Length == 0 || f.Length > maxFixed):
		return fail(0, "the schema has fixed bytes of length %d, and the contract accepts only 1 to %d", f.Length, maxFixed)
	case (f.Kind == Optional || f.Kind == Array || f.Kind == List) && len(f.Fields) != 1:
		return fail(0, "the schema has %d elements in a field of kind %v, and the contract accepts only 1",
			len(f.Fields), f.Kind)
	case f.Kind == Struct && len(f.Fields) > maxStruct:
		return fail(0, "the schema has a struct of %d fields, and the contract accepts at most %d",
			len(f.Fields), maxStruct)
	}
	return nil
}
