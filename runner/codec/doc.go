// Package codec writes and reads the compact form of a job's inputs and outputs.
//
// A blueprint may give each job a schema for its parameters and another for its result. The
// contract then refuses a call or a result whose bytes do not fit the schema. A [Schema] makes such
// bytes of values and values of such bytes, and [Schema.Check] tells whether the contract would
// accept some bytes:
//
//	schema, err := codec.Parse(paramsSchema)
//	var user string
//	var amount uint64
//	err = schema.Unmarshal(inputs, &user, &amount)
//
// Without a schema the contract accepts any bytes, and what they mean is the blueprint's own
// affair: the Rust SDK, for example, answers with the Solidity ABI. This package does not speak it.
//
// # Kinds
//
// The fields of a schema follow one another without padding:
//
//	kind               in bytes                                        Go type
//	Void               nothing                                         nil
//	Bool               one byte; not 0 means true                      bool
//	Uint8 .. Uint64    big-endian, in their own width                  uint8 .. uint64
//	Int8 .. Int64      likewise, in two's complement                   int8 .. int64
//	Uint128, Uint256   likewise, 16 and 32 bytes                       *big.Int
//	Int128, Int256     likewise                                        *big.Int
//	Address            20 bytes                                        [20]byte
//	Bytes32            32 bytes                                        [32]byte
//	FixedBytes         as many bytes as the schema says, 1 to 32       []byte
//	String             compact length, bytes                           string
//	Bytes              compact length, bytes                           []byte
//	Optional           compact length of the value, value; 0: none     nil, or the value's type
//	Array              as many elements as the schema says             []any
//	List               compact count, elements; at most 10,000         []any
//	Struct             compact count of fields, fields; at most 256    []any, in order
//
// The Go types are those that [Schema.Decode] returns. [Schema.Encode] takes these and every Go
// type that holds such a value, and [Schema.Unmarshal] stores into them: integers of any width if
// the value fits, arrays of bytes, slices and arrays of other types, pointers (for an Optional, nil
// means none), and Go structs. A Go struct stands for a Struct: its exported fields in their order,
// except those with the tag `codec:"-"`. The names in a schema are for people and are not compared.
//
// A compact length or count below 128 is one byte, below 16,384 two bytes (0x80 and the high bits,
// then the low bits), and above that 0xC0 plus the number of bytes, then the bytes. The contract
// also accepts lengths that are longer than they need be, and so do Check, Decode and Unmarshal;
// Encode writes the shortest.
package codec
