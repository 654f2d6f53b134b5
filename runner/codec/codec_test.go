package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

func parse(t *testing.T, digits string) *Schema {
	t.Helper()
	s, err := Parse(unhex(t, digits))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func build(t testing.TB, fields ...Field) *Schema {
	t.Helper()
	s, err := New(fields...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func of(k Kind, fields ...Field) Field { return Field{Kind: k, Fields: fields} }

// recorded is the schema of a job's parameters and result on a chain with the genuine contracts.
const recorded = "02 0001 08 0000 0000 01 78"

func TestTheContractsOwnAnswers(t *testing.T) {
	s := parse(t, recorded)
	if got := s.Fields(); !reflect.DeepEqual(got, []Field{{Name: "x", Kind: Uint64}}) {
		t.Fatalf("fields are %+v", got)
	}
	if got := s.Bytes(); !bytes.Equal(got, unhex(t, recorded)) {
		t.Errorf("Bytes returns %x", got)
	}
	// The contract refused these inputs and this result, with the path 0.
	const want = "codec: x: a value of kind uint64 needs 8 bytes, and 3 are left"
	if err := s.Check([]byte("abc")); err == nil || err.Error() != want {
		t.Errorf("of data that the contract refused: %v", err)
	}
	// It accepted 7 as parameters, and 49 as the result.
	for digits, want := range map[string]uint64{"0000000000000007": 7, "0000000000000031": 49} {
		data := unhex(t, digits)
		if err := s.Check(data); err != nil {
			t.Errorf("of data that the contract accepted: %v", err)
		}
		values, err := s.Decode(data)
		if err != nil || !reflect.DeepEqual(values, []any{want}) {
			t.Errorf("Decode(%s) returns %v, %v", digits, values, err)
		}
		again, err := s.Encode(want)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("Encode(%d) returns %x, %v", want, again, err)
		}
	}
}

func TestWithoutASchemaAnythingGoes(t *testing.T) {
	s, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check([]byte("anything")); err != nil {
		t.Error(err)
	}
	if _, err := s.Encode(); !errors.Is(err, ErrNoSchema) {
		t.Errorf("Encode: %v", err)
	}
	if _, err := s.Decode(nil); !errors.Is(err, ErrNoSchema) {
		t.Errorf("Decode: %v", err)
	}
	if err := s.Unmarshal(nil); !errors.Is(err, ErrNoSchema) {
		t.Errorf("Unmarshal: %v", err)
	}
	if s.Bytes() != nil || s.Fields() != nil {
		t.Error("there are bytes or fields")
	}
}

func TestParseRefuses(t *testing.T) {
	for digits, want := range map[string]string{
		"01 0000":                          "codec: a schema of version 1; only version 2 is known",
		"02 00":                            "codec: a schema of 2 bytes is too short",
		"02 0001":                          "codec: the schema ends within the field at byte 3",
		"02 0001 08 0000 00":               "codec: the schema ends within the field at byte 3",
		"02 0001 08 0000 0000":             "codec: the schema ends within the field at byte 3",
		"02 0002 08 0000 0000 05 61 62 63": "codec: the schema ends within the field at byte 12",
		"02 0001 17 0000 0000 00":          "codec: the field at byte 3 of the schema is of the unknown kind 23",
		"02 0001 08 0000 0000 80":          "codec: the schema ends within the field at byte 3",
		"02 0001 15 0000 0001 00 5b":       "codec: the schema ends within the field at byte 9",
		"02 0001" + strings.Repeat("13 0000 0001 00", 64): "codec: the schema nests fields deeper than 64",
	} {
		if _, err := Parse(unhex(t, digits)); err == nil || err.Error() != want {
			t.Errorf("Parse(%.60s): %v; want %s", digits, err, want)
		}
	}
	if _, err := Parse(append([]byte{2, 0, 0}, make([]byte, 256<<10)...)); err == nil {
		t.Error("a schema of more than 256 KiB is accepted")
	}
}

func TestParseReadsWhatTheContractReads(t *testing.T) {
	long := strings.Repeat("n", 20_000)
	s := build(t, Field{Name: long, Kind: Bool}, Field{Name: strings.Repeat("m", 200), Kind: Void})
	again, err := Parse(s.Bytes())
	if err != nil || !reflect.DeepEqual(again.Fields(), s.Fields()) {
		t.Errorf("long names do not survive: %v", err)
	}
	// A last name that is cut off, bytes after the last field, and parts of a kind that has none.
	for _, digits := range []string{
		"02 0001 02 0000 0000 05 61", "02 0001 02 0000 0000 00 ffff", "02 0001 02 0009 0001 00 03 0000 0000 00",
		"02 0001 02 0000 0000 ffffffff 61", "02 0002 02 0000 0000 e0000001 61 00 0000 0000 00",
	} {
		if err := parse(t, digits).Check([]byte{1}); err != nil {
			t.Errorf("%s: %v", digits, err)
		}
	}
}

// Parse keeps a field of which the contract accepts no data, because data may not reach it.
func TestFieldsThatNoDataFits(t *testing.T) {
	for _, tt := range []struct{ schema, data, want string }{
		{"02 0001 15 0000 0000 00", "00",
			"fields[0]: the schema has 0 elements in a field of kind list, and the contract accepts only 1"},
		{"02 0001 13 0000 0002 00 01 0000 0000 00 01 0000 0000 00", "00",
			"fields[0]: the schema has 2 elements in a field of kind optional, and the contract accepts only 1"},
		{"02 0001 10 0021 0000 00", strings.Repeat("00", 33),
			"fields[0]: the schema has fixed bytes of length 33, and the contract accepts only 1 to 32"},
	} {
		err := parse(t, tt.schema).Check(unhex(t, tt.data))
		if err == nil || err.Error() != "codec: "+tt.want {
			t.Errorf("%s: %v; want %s", tt.schema, err, tt.want)
		}
	}
	// The list's elements are of such a kind, and there is none.
	if err := parse(t, "02 0001 15 0000 0001 00 10 0021 0000 00").Check([]byte{0}); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	deep := of(Void)
	for range 32 {
		deep = of(List, deep)
	}
	nested := of(Struct, of(Bool), of(List, of(FixedBytes)))
	evil := of(Struct, Field{Name: "evil\n\x1b", Kind: FixedBytes})
	for _, tt := range []struct {
		want string
		f    Field
	}{
		{"a: kind 23 is unknown", Field{Kind: 23}},
		{"a: a field of kind bool has no length, and this one has 1", Field{Kind: Bool, Length: 1}},
		{"a: a length of 65536 is not between 0 and 65535", Field{Kind: Array, Length: 65536}},
		{"a: a length of -1 is not between 0 and 65535", Field{Kind: Array, Length: -1}},
		{"a: a field of kind list has 1 fields, and this one has 0", of(List)},
		{"a: a field of kind uint8 has 0 fields, and this one has 1", of(Uint8, of(Bool))},
		{"a: the schema has fixed bytes of length 33, and the contract accepts only 1 to 32",
			Field{Kind: FixedBytes, Length: 33}},
		{"a: the schema has a struct of 257 fields, and the contract accepts at most 256",
			of(Struct, make([]Field, 257)...)},
		{"a" + strings.Repeat("[0]", 32) + ": the schema nests values deeper than 32", deep},
		{"a.fields[1][0]: the schema has fixed bytes of length 0, and the contract accepts only 1 to 32", nested},
		{"a.evil??: the schema has fixed bytes of length 0, and the contract accepts only 1 to 32", evil},
	} {
		tt.f.Name = "a"
		if _, err := New(tt.f); err == nil || err.Error() != "codec: "+tt.want {
			t.Errorf("New(%v): %v; want %s", tt.f.Kind, err, tt.want)
		}
	}
}

// all has a field of each kind.
var all = []Field{
	of(Void), of(Bool), of(Uint8), of(Int8), of(Uint16), of(Int16), of(Uint32), of(Int32), of(Uint64), of(Int64),
	of(Uint128), of(Int128), of(Uint256), of(Int256), of(Address), of(Bytes32), {Kind: FixedBytes, Length: 3},
	of(String), of(Bytes), of(Optional, of(Uint8)), of(Optional, of(String)),
	{Kind: Array, Length: 2, Fields: []Field{of(Uint16)}}, of(List, of(String)), of(Struct, of(Bool), of(Int8)),
}

func TestEveryKind(t *testing.T) {
	s := build(t, all...)
	minus := new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 255))
	values := []any{
		nil, true, uint8(200), int8(-1), uint16(0x0102), int16(-2), uint32(7), int32(-3), uint64(8), int64(-4),
		big.NewInt(9), big.NewInt(-5), new(big.Int).SetBytes(bytes.Repeat([]byte{0xFF}, 32)), minus,
		[20]byte{0: 1, 19: 2}, [32]byte{31: 3}, []byte{1, 2, 3}, "text", []byte{0xFF}, uint8(5), nil,
		[]any{uint16(1), uint16(2)}, []any{"a", "bc"}, []any{false, int8(-128)},
	}
	want := unhex(t, "01 c8 ff 0102 fffe 00000007 fffffffd 0000000000000008 fffffffffffffffc"+
		strings.Repeat("00", 15)+"09"+strings.Repeat("ff", 15)+"fb"+strings.Repeat("ff", 32)+"80"+strings.Repeat("00", 31)+
		"01"+strings.Repeat("00", 18)+"02"+strings.Repeat("00", 31)+"03"+"010203 04 74657874 01 ff 0105 00 00010002"+
		"02 0161 026263 02 00 80")
	got, err := s.Encode(values...)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("Encode returns\n%x, %v; want\n%x", got, err, want)
	}
	if err := s.Check(got); err != nil {
		t.Error(err)
	}
	again, err := s.Decode(got)
	if err != nil || !reflect.DeepEqual(again, values) {
		t.Errorf("Decode returns %v, %v", again, err)
	}
	for i := range got {
		if err := s.Check(got[:i]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", i, len(got))
		}
	}
	if err := s.Check(append(got, 0)); err == nil || err.Error() != "codec: 1 bytes follow the last field" {
		t.Errorf("of a byte too many: %v", err)
	}
}

func TestLengths(t *testing.T) {
	s := build(t, of(Bytes))
	for n, want := range map[int]string{
		0: "00", 127: "7f", 128: "8080", 16383: "bfff", 16384: "c24000", 70_000: "c3011170",
	} {
		got, err := s.Encode(make([]byte, n))
		if err != nil || !bytes.HasPrefix(got, unhex(t, want)) || len(got) != n+len(want)/2 {
			t.Errorf("%d bytes: %x..., %v", n, got[:min(len(got), 5)], err)
		}
	}
	// The contract does not mind lengths that are longer than they need be.
	long := "e0" + strings.Repeat("00", 31) + "01"
	for _, digits := range []string{"01 aa", "8001 aa", "c101 aa", "c20001 aa", long + "aa"} {
		var b []byte
		if err := s.Unmarshal(unhex(t, digits), &b); err != nil || !bytes.Equal(b, []byte{0xAA}) {
			t.Errorf("%s: %x, %v", digits, b, err)
		}
	}
	for _, digits := range []string{
		"", "80", "c0", "c1", "e1" + strings.Repeat("00", 33), "e101" + strings.Repeat("00", 33), "c2ff", "02 aa",
		"c8ffffffffffffffff aa", "c90100000000000000 01 aa", "e0" + strings.Repeat("ff", 32)} {
		if err := s.Check(unhex(t, digits)); err == nil {
			t.Errorf("%s is accepted", digits)
		}
	}
}

type item struct {
	Owner   [20]byte
	hidden  bool
	Amount  uint32
	Skipped string `codec:"-"`
	Note    *string
	Tags    []string
}

func TestGoStructs(t *testing.T) {
	s := build(t, Field{Name: "items", Kind: List, Fields: []Field{{Kind: Struct, Fields: []Field{
		{Name: "owner", Kind: Address}, {Name: "amount", Kind: Uint256},
		{Name: "note", Kind: Optional, Fields: []Field{of(String)}},
		{Name: "tags", Kind: List, Fields: []Field{of(String)}},
	}}}}, Field{Name: "pair", Kind: Array, Length: 2, Fields: []Field{of(Int64)}})
	note := "n"
	items := []item{{Owner: [20]byte{1}, Amount: 7, Note: &note, Tags: []string{"x", ""}}, {Amount: 1, Tags: []string{}}}
	data, err := s.Encode(items, [2]int{-1, 1})
	if err != nil {
		t.Fatal(err)
	}
	var got []item
	var pair [2]int8
	if err := s.Unmarshal(data, &got, &pair); err != nil || !reflect.DeepEqual(got, items) || pair != [2]int8{-1, 1} {
		t.Errorf("Unmarshal stores %+v, %v, %v", got, pair, err)
	}
	err = s.Unmarshal(data, nil, new([3]int))
	if err == nil || err.Error() != "codec: pair: 2 elements do not fit the Go type [3]int" {
		t.Errorf("of an array of another length: %v", err)
	}
	var values any
	if err := s.Unmarshal(data, &values, nil); err != nil {
		t.Fatal(err)
	}
	want := []any{[]any{[20]byte{1}, big.NewInt(7), "n", []any{"x", ""}}, []any{[20]byte{}, big.NewInt(1), nil, []any{}}}
	if !reflect.DeepEqual(values, want) {
		t.Errorf("Unmarshal stores %v in an any", values)
	}
	_ = items[0].hidden
}

func TestErrorsTellThePath(t *testing.T) {
	s := build(t, Field{Name: "jobs", Kind: List, Fields: []Field{{Kind: Struct, Fields: []Field{
		{Name: "id", Kind: Uint8},
		{Name: "result", Kind: Struct, Fields: []Field{of(Bool), of(Optional, of(List, of(Int8)))}},
	}}}})
	type result struct {
		OK    bool
		Items []int
	}
	type job struct {
		ID     any
		Result any
	}
	for _, tt := range []struct {
		want string
		v    any
	}{
		{"jobs: a Go value of type string is no value of kind list", "x"},
		{"jobs: a value of kind list cannot be nil", nil},
		{"jobs[0]: a Go value of type int does not have the 2 fields of the struct", []int{1}},
		{"jobs[1].id: the number does not fit uint8", []job{{1, result{}}, {256, result{}}}},
		{"jobs[0].id: a Go value of type float64 is no value of kind uint8", []job{{1.5, result{}}}},
		{"jobs[0].result.fields[1][2]: the number does not fit int8", []job{{1, result{true, []int{1, -128, 128}}}}},
		{"jobs[0].result.fields[0]: a Go value of type int is no value of kind bool", []job{{1, []any{1, nil}}}},
		{"jobs: a list of 10001 elements, and the contract accepts at most 10000", make([]job, 10_001)},
		{"jobs[0].result: a Go value of type []int does not have the 2 fields of the struct", []job{{1, []int{1}}}},
	} {
		if _, err := s.Encode(tt.v); err == nil || err.Error() != "codec: "+tt.want {
			t.Errorf("Encode(%.40v): %v; want %s", tt.v, err, tt.want)
		}
	}
	for digits, want := range map[string]string{
		"":                          "codec: jobs: the data ends before the length of the list",
		"01 03":                     "codec: jobs[0]: a struct of 3 fields, and the schema has 2",
		"01 02 01 02 01 00 05":      "codec: 1 bytes follow the last field",
		"01 02 01 02 01 02 0107 00": "codec: 1 bytes follow the last field",
		"01 02 01 02 01 03 0107 00": "codec: jobs[0].result.fields[1]: 1 bytes follow the value of the optional",
		"01 02 01 02 01 02 0207 00": "codec: jobs[0].result.fields[1][1]: a value of kind int8 needs 1 bytes, and 0 are left",
		"01 02 01 02 01 04 0207 00": "codec: jobs[0].result.fields[1]: an optional of 4 bytes, and 3 are left",
		"a711":                      "codec: jobs: a list of 10001 elements, and the contract accepts at most 10000",
	} {
		err := s.Check(unhex(t, digits))
		if err == nil || err.Error() != want {
			t.Errorf("Check(%s): %v; want %s", digits, err, want)
		}
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("Check(%s): the error is a %T", digits, err)
		}
	}
	var small []struct {
		ID     int8
		Result any
	}
	err := s.Unmarshal(unhex(t, "01 02 80 02 01 00"), &small)
	if err == nil || err.Error() != "codec: jobs[0].id: a value of kind uint8 does not fit the Go type int8" {
		t.Errorf("of a number that does not fit: %v", err)
	}
	if e, _ := errors.AsType[*Error](err); e == nil || e.Offset != 2 {
		t.Errorf("the error is at %+v", e)
	}
}

func TestEncodeAndUnmarshalRefuse(t *testing.T) {
	s := build(t, of(Optional, of(Void)), Field{Kind: FixedBytes, Length: 2}, of(Void))
	for want, values := range map[string][]any{
		"codec: 1 values for 3 fields": {1},
		"codec: fields[0]: a value of kind void without bytes cannot be told from none": {struct{}{}, "", nil},
		"codec: fields[1]: 3 bytes for a field of 2":                                    {nil, [3]byte{}, nil},
		"codec: fields[1]: a Go value of type string is no value of kind fixed bytes":   {nil, "ab", nil},
		"codec: fields[2]: a Go value of type int is no value of kind void":             {nil, [2]byte{}, 1},
	} {
		if _, err := s.Encode(values...); err == nil || err.Error() != want {
			t.Errorf("Encode(%v): %v; want %s", values, err, want)
		}
	}
	for want, destinations := range map[string][]any{
		"codec: 1 destinations for 3 fields":                                            {nil},
		"codec: fields[1]: a destination of type int is not a pointer to a value":       {nil, 1, nil},
		"codec: fields[1]: a destination of type *int is not a pointer to a value":      {nil, (*int)(nil), nil},
		"codec: fields[1]: a value of kind fixed bytes does not fit the Go type string": {nil, new(string), nil},
	} {
		if err := s.Unmarshal([]byte{0, 1, 2}, destinations...); err == nil || err.Error() != want {
			t.Errorf("Unmarshal(%T): %v; want %s", destinations, err, want)
		}
	}
}

// Numbers go into every Go type that holds them, and into no other.
func TestNumbersFitOrAreRefused(t *testing.T) {
	for _, tt := range []struct {
		kind   Kind
		digits string
		into   any
		want   any // nil: refused
	}{
		{Uint64, "8000000000000000", new(uint64), uint64(1 << 63)},
		{Uint64, "8000000000000000", new(int64), nil},
		{Int64, "ffffffffffffffff", new(uint64), nil},
		{Int64, "ffffffffffffffff", new(int8), int8(-1)},
		{Int64, "ffffffffffffff7f", new(int8), nil},
		{Uint16, "0100", new(uint8), nil},
		{Uint16, "00ff", new(uint8), uint8(255)},
		{Uint128, "00000000000000000000000000000007", new(uint8), uint8(7)},
		{Uint128, "00000000000000010000000000000007", new(uint64), nil},
		{Int128, "fffffffffffffffffffffffffffffff9", new(int), -7},
		{Int128, "ffffffffffffffff0000000000000000", new(int), nil},
		{Int128, "00000000000000008000000000000000", new(int), nil},
		{Int256, strings.Repeat("ff", 32), new(big.Int), *big.NewInt(-1)},
		{Uint8, "07", new(string), nil},
		{Uint8, "07", new(*int), func() *int { n := 7; return &n }()},
		{Address, strings.Repeat("01", 20), new([21]byte), nil},
		{Bool, "01", new(int), nil},
		{Bool, "02", new(bool), true},
		{String, "0161", new([]byte), nil},
		{Bytes, "0161", new([1]byte), [1]byte{'a'}},
	} {
		err := build(t, of(tt.kind)).Unmarshal(unhex(t, tt.digits), tt.into)
		got := reflect.ValueOf(tt.into).Elem().Interface()
		if (err == nil) != (tt.want != nil) || err == nil && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v %s into a %T: %v, %v; want %v", tt.kind, tt.digits, tt.into, got, err, tt.want)
		}
	}
}

func TestGoValuesOfOtherSizes(t *testing.T) {
	s := build(t, Field{Kind: Array, Length: 2, Fields: []Field{of(Uint8)}}, of(Struct, of(Uint8), of(Uint8)))
	for want, values := range map[string][]any{
		"codec: fields[0]: 3 elements for an array of 2":                                       {[]int{1, 2, 3}, []int{1, 2}},
		"codec: fields[1]: a Go value of type []int does not have the 2 fields of the struct":  {[]int{1, 2}, []int{1}},
		"codec: fields[1]: a Go value of type [3]int does not have the 2 fields of the struct": {[]int{1, 2}, [3]int{}},
	} {
		if _, err := s.Encode(values...); err == nil || err.Error() != want {
			t.Errorf("Encode(%v): %v; want %s", values, err, want)
		}
	}
	var long struct{ A, B, C int }
	err := s.Unmarshal([]byte{1, 2, 2, 3, 4}, nil, &long)
	const want = "codec: fields[1]: a struct of 2 fields does not fit the Go type struct"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Unmarshal into a struct of three: %v", err)
	}
}

func TestOptionals(t *testing.T) {
	s := build(t, of(Optional, of(Bytes)), of(Optional, of(List, of(Uint8))), of(Optional, of(Optional, of(Uint8))))
	none := (*uint8)(nil)
	for want, values := range map[string][]any{
		"00 00 00":             {[]byte(nil), []int(nil), nil},
		"0100 0100 0100":       {[]byte{}, []int{}, &none},
		"0201aa 020107 020107": {[]byte{0xAA}, []any{7}, func() **uint8 { n := uint8(7); p := &n; return &p }()},
	} {
		data, err := s.Encode(values...)
		if err != nil || !bytes.Equal(data, unhex(t, want)) {
			t.Errorf("Encode(%v) returns %x, %v; want %s", values, data, err, want)
		}
		var text []byte
		var list []int
		var twice **uint8
		if err := s.Unmarshal(data, &text, &list, &twice); err != nil {
			t.Error(err)
		}
		if again, err := s.Encode(text, list, twice); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x becomes %x, %v", data, again, err)
		}
	}
}

// What is decoded does not change when the data does.
func TestDecodedBytesAreCopies(t *testing.T) {
	data := []byte{1, 'a'}
	values, err := build(t, of(Bytes)).Decode(data)
	data[1] = 'b'
	if err != nil || !bytes.Equal(values[0].([]byte), []byte("a")) {
		t.Errorf("%q, %v", values, err)
	}
}

func TestEncodeRefusesWhatIsTooDeep(t *testing.T) {
	deep, value := "00 0000 0000 00", any(nil)
	for range 32 {
		deep, value = "15 0000 0001 00"+deep, []any{value}
	}
	_, err := parse(t, "02 0001"+deep).Encode(value)
	if err == nil || !strings.HasSuffix(err.Error(), "[0]: the schema nests values deeper than 32") {
		t.Errorf("Encode: %v", err)
	}
}

// A negative number is moved into two's complement in a copy.
func TestEncodeLeavesItsValuesAlone(t *testing.T) {
	n := new(big.Int).SetInt64(-1)
	if _, err := build(t, of(Int256), of(Int8)).Encode(n, n); err != nil || n.Int64() != -1 {
		t.Errorf("the value becomes %v, %v", n, err)
	}
}

// A few bytes can ask for more values than there are atoms.
func TestHostileSchemasCostLittle(t *testing.T) {
	void := of(Void)
	for range 4 {
		void = Field{Kind: Array, Length: 65_535, Fields: []Field{void}}
	}
	list := of(Void)
	for range 20 {
		list = of(List, list)
	}
	names := make([]byte, 0, 256<<10)
	for names = append(names, 2, 0xFF, 0xFF); len(names)+6 < 256<<10; {
		names = append(names, byte(Struct), 0, 0, 0xFF, 0xFF, 0)
	}
	for name, s := range map[string]*Schema{"arrays": build(t, void), "lists": build(t, list)} {
		data := bytes.Repeat([]byte{0xA7, 0x10}, 1000)
		for _, data := range [][]byte{nil, data, bytes.Repeat([]byte{100}, 1<<17)} {
			var err error
			if n := alloctest.Bytes(func() { err = s.Check(data) }); n > 4<<10 {
				t.Errorf("%s: Check allocates %d bytes", name, n)
			}
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			if n := alloctest.Bytes(func() { _, err = s.Decode(data) }); n > 64<<20 {
				t.Errorf("%s: Decode allocates %d bytes", name, n)
			}
			if err == nil {
				t.Errorf("%s: decoded", name)
			}
		}
	}
	if n := alloctest.Bytes(func() { _, _ = Parse(names) }); n > 64<<20 {
		t.Errorf("Parse allocates %d bytes", n)
	}
}
