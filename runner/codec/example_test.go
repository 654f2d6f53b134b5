package codec_test

import (
	"fmt"

	"github.com/tangle-network/blueprint-serverless/runner/codec"
)

// A job takes an owner and a list of amounts, and answers with their sum.
func Example() {
	params, err := codec.New(
		codec.Field{Name: "owner", Kind: codec.String},
		codec.Field{Name: "amounts", Kind: codec.List, Fields: []codec.Field{{Kind: codec.Uint32}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs, err := params.Encode("anna", []uint32{20, 22})
	fmt.Printf("inputs %x, error %v\n", inputs, err)

	var owner string
	var amounts []uint32
	err = params.Unmarshal(inputs, &owner, &amounts)
	fmt.Println(owner, amounts, err)

	err = params.Check(inputs[:10])
	fmt.Println(err)

	_, err = params.Encode("anna", []int{20, -22})
	fmt.Println(err)
	// Output:
	// inputs 04616e6e61020000001400000016, error <nil>
	// anna [20 22] <nil>
	// codec: amounts[1]: a value of kind uint32 needs 4 bytes, and 0 are left
	// codec: amounts[1]: the number does not fit uint32
}

// The contract stores a schema as bytes.
func ExampleParse() {
	schema, err := codec.Parse([]byte{2, 0, 1, 8, 0, 0, 0, 0, 1, 'x'})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range schema.Fields() {
		fmt.Println(f.Name, f.Kind)
	}
	values, err := schema.Decode([]byte{0, 0, 0, 0, 0, 0, 0, 7})
	fmt.Println(values, err)
	// Output:
	// x uint64
	// [7] <nil>
}
