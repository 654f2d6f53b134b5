package tangle

import (
	"encoding/binary"
	"strconv"
)

// The selectors of the views.
const (
	selDefinition     = 0x6171fea8 // getBlueprintDefinition(uint64)
	selBlueprint      = 0xb7696dbb // getBlueprint(uint64)
	selRequirements   = 0x349e961a // getBlueprintResourceRequirements(uint64)
	selDefinitionHash = 0x35257ef4 // blueprintDefinitionHash(uint64)
	selSourcesHash    = 0x8f78b256 // blueprintSourcesHash(uint64)
)

// The selectors of the errors that the contract reverts with.
const (
	errBlueprintNotFound = 0x5fd248ec // BlueprintNotFound(uint64)
	errUnknownSelector   = 0xc2a825f5 // UnknownSelector(bytes4): the facet with the view is not installed
)

// callData returns the call of a view whose only argument is a blueprint's id.
func callData(selector uint32, id uint64) []byte {
	data := make([]byte, 4+wordSize)
	binary.BigEndian.PutUint32(data, selector)
	binary.BigEndian.PutUint64(data[4+wordSize-8:], id)
	return data
}

// Status is the result of getBlueprint.
type Status struct {
	Owner      Address
	Manager    Address
	CreatedAt  uint64 // the block's time, in Unix seconds
	Membership uint8
	Pricing    uint8
	Active     bool
}

// DecodeStatus decodes the result of getBlueprint, which is all zeros for an unknown blueprint.
// The error is a *DecodeError.
func DecodeStatus(data []byte) (Status, error) {
	d := NewDecoder(data)
	s := d.Status()
	if d.err != nil {
		return Status{}, d.Err()
	}
	return s, nil
}

// Status reads the result of getBlueprint.
func (d *Decoder) Status() (s Status) {
	if d.Head(0, 6, "blueprint") {
		s = Status{
			Owner:      d.Address(0, "owner"),
			Manager:    d.Address(wordSize, "manager"),
			CreatedAt:  d.Uint(2*wordSize, 64, "createdAt"),
			Membership: uint8(d.Uint(3*wordSize, 8, "membership")),
			Pricing:    uint8(d.Uint(4*wordSize, 8, "pricing")),
			Active:     d.Bool(5*wordSize, "active"),
		}
	}
	return s
}

// ResourceKind is a kind of resource that a blueprint asks for.
type ResourceKind uint8

// The kinds.
const (
	ResourceCPU       ResourceKind = 0 // cores
	ResourceMemoryMB  ResourceKind = 1
	ResourceStorageMB ResourceKind = 2
	ResourceEgressMB  ResourceKind = 3
	ResourceIngressMB ResourceKind = 4
	ResourceGPU       ResourceKind = 5 // devices
)

// Requirement is the amount of a resource that a blueprint asks for.
type Requirement struct {
	Kind  ResourceKind
	Count uint64
}

// DecodeRequirements decodes the result of getBlueprintResourceRequirements. The error is a
// *DecodeError.
func DecodeRequirements(data []byte) ([]Requirement, error) {
	const limit, field = 256, "requirements"
	d := NewDecoder(data)
	if !d.Head(0, 1, field) {
		return nil, d.Err()
	}
	elements, n := d.Array(0, 0, limit, 2*wordSize, field)
	if n == 0 || !d.Head(elements, 2*n, field) {
		return nil, d.Err()
	}
	list := make([]Requirement, n)
	for i := range list {
		at := elements + i*2*wordSize
		name := field + "[" + strconv.Itoa(i) + "]"
		list[i] = Requirement{Kind: ResourceKind(d.Uint(at, 8, name+".kind")), Count: d.Uint(at+wordSize, 64, name+".count")}
	}
	if d.err != nil {
		return nil, d.Err()
	}
	return list, nil
}

// decodeWord decodes an answer of one word.
func decodeWord(data []byte, field string) (Word, error) {
	d := NewDecoder(data)
	if !d.Head(0, 1, field) {
		return Word{}, d.Err()
	}
	return d.Word(0), nil
}
