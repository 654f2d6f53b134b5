package oracle

import (
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/core/vm"
)

// The selectors of the contract, and of the errors that the genuine one reverts with.
const (
	selDefinition     = 0x6171fea8
	selBlueprint      = 0xb7696dbb
	selRequirements   = 0x349e961a
	selDefinitionHash = 0x35257ef4
	selSourcesHash    = 0x8f78b256
	errNotFound       = 0x5fd248ec
	errUnknown        = 0xc2a825f5
)

// reply is the contract's answer to a call: a view of a blueprint's id.
type reply struct {
	selector uint32
	id       uint64
	data     []byte
}

// record is an event that a contract emits when it is deployed.
type record struct {
	topics [3][32]byte
	data   []byte
}

// assembler writes EVM machine code. Places have names, and their addresses are filled in at the
// end.
type assembler struct {
	code   []byte
	places map[string]int
	uses   map[int]string // where to insert an address of two bytes
}

func newAssembler() *assembler { return &assembler{places: map[string]int{}, uses: map[int]string{}} }

func (a *assembler) op(ops ...vm.OpCode) {
	for _, op := range ops {
		a.code = append(a.code, byte(op))
	}
}

// push pushes a number of up to 8 bytes.
func (a *assembler) push(n uint64) {
	a.op(vm.PUSH8)
	a.code = binary.BigEndian.AppendUint64(a.code, n)
}

func (a *assembler) pushWord(w [32]byte) {
	a.op(vm.PUSH32)
	a.code = append(a.code, w[:]...)
}

// pushPlace pushes the address of a place.
func (a *assembler) pushPlace(name string) {
	a.op(vm.PUSH2)
	a.uses[len(a.code)] = name
	a.code = append(a.code, 0, 0)
}

// place names the next byte, which begins data or, after a JUMPDEST, code.
func (a *assembler) place(name string) { a.places[name] = len(a.code) }

func (a *assembler) assemble() []byte {
	for at, name := range a.uses {
		binary.BigEndian.PutUint16(a.code[at:], uint16(a.places[name]))
	}
	return a.code
}

// fail reverts with the error of this selector. The argument is the word on top of the stack.
func (a *assembler) fail(selector uint64) {
	a.push(selector)
	a.push(224)
	a.op(vm.SHL, vm.PUSH0, vm.MSTORE)
	a.push(4)
	a.op(vm.MSTORE)
	a.push(36)
	a.op(vm.PUSH0, vm.REVERT)
}

// contract returns the code of a contract that answers calls with stored replies. Like the genuine
// contract, it reverts with BlueprintNotFound for the definition of an unknown blueprint, and with
// UnknownSelector for any other unknown call.
func contract(replies []reply) []byte {
	a := newAssembler()
	a.op(vm.PUSH0, vm.CALLDATALOAD)
	a.push(224)
	a.op(vm.SHR)
	a.push(4)
	a.op(vm.CALLDATALOAD) // the stack is: selector, id
	for i, r := range replies {
		a.op(vm.DUP2)
		a.push(uint64(r.selector))
		a.op(vm.EQ, vm.DUP2)
		a.push(r.id)
		a.op(vm.EQ, vm.AND)
		a.pushPlace(fmt.Sprintf("reply %d", i))
		a.op(vm.JUMPI)
	}
	a.op(vm.DUP2)
	a.push(selDefinition)
	a.op(vm.EQ)
	a.pushPlace("not found")
	a.op(vm.JUMPI, vm.POP)
	a.push(224)
	a.op(vm.SHL)
	a.fail(errUnknown)
	a.place("not found")
	a.op(vm.JUMPDEST)
	a.fail(errNotFound)
	for i, r := range replies {
		a.place(fmt.Sprintf("reply %d", i))
		a.op(vm.JUMPDEST)
		a.push(uint64(len(r.data)))
		a.op(vm.DUP1)
		a.pushPlace(fmt.Sprintf("data %d", i))
		a.op(vm.PUSH0, vm.CODECOPY, vm.PUSH0, vm.RETURN)
	}
	for i, r := range replies {
		a.place(fmt.Sprintf("data %d", i))
		a.code = append(a.code, r.data...)
	}
	return a.assemble()
}

// deployment returns the code that a transaction runs to deploy a contract: it emits the events
// and returns the contract's code.
func deployment(code []byte, records []record) []byte {
	a := newAssembler()
	for i, r := range records {
		a.push(uint64(len(r.data)))
		a.pushPlace(fmt.Sprintf("record %d", i))
		a.op(vm.PUSH0, vm.CODECOPY)
		for j := len(r.topics) - 1; j >= 0; j-- {
			a.pushWord(r.topics[j])
		}
		a.push(uint64(len(r.data)))
		a.op(vm.PUSH0, vm.LOG3)
	}
	a.push(uint64(len(code)))
	a.op(vm.DUP1)
	a.pushPlace("code")
	a.op(vm.PUSH0, vm.CODECOPY, vm.PUSH0, vm.RETURN)
	for i, r := range records {
		a.place(fmt.Sprintf("record %d", i))
		a.code = append(a.code, r.data...)
	}
	a.place("code")
	a.code = append(a.code, code...)
	return a.assemble()
}
