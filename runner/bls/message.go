package bls

import (
	"encoding/binary"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// Selectors of the contract.
const (
	submitAggregatedResult = 0xc325ae12 // (uint64,uint64,bytes,uint256,uint256[2],uint256[4])
	getOperatorBlsPubkey   = 0x6ee5bcff // (uint64,address)
	getServiceOperator     = 0x842524bb // (uint64,address)
)

// abi builds call data and what abi.encode returns, word by word.
type abi []byte

func call(selector uint32) abi { return binary.BigEndian.AppendUint32(nil, selector) }

func (a abi) number(n uint64) abi {
	return binary.BigEndian.AppendUint64(append(a, make([]byte, 24)...), n)
}

func (a abi) address(b [20]byte) abi { return append(append(a, make([]byte, 12)...), b[:]...) }

func (a abi) word(b [32]byte) abi { return append(a, b[:]...) }

// data appends the length and the bytes, filled up to whole words.
func (a abi) data(b []byte) abi {
	a = append(a.number(uint64(len(b))), b...)
	return append(a, make([]byte, -len(b)&31)...)
}

// resultMessage is what operators sign for a result. It holds the whole list of operators, so that
// a signature is worth nothing once somebody joins or leaves.
func resultMessage(
	chainID uint64, contract [20]byte, service, call uint64, operators [][20]byte, output []byte,
) []byte {
	list := abi{}.number(32).number(uint64(len(operators)))
	for _, o := range operators {
		list = list.address(o)
	}
	return abi{}.number(7 * 32).number(chainID).address(contract).number(service).number(call).
		word(tangle.Keccak256(list)).word(tangle.Keccak256(output)).data([]byte("TANGLE_BLS_AGG_v1"))
}

// proofMessage is what an operator signs to prove that he has the key.
func proofMessage(chainID uint64, contract, operator [20]byte, key PublicKey) []byte {
	m := abi{}.number(8 * 32).number(chainID).address(contract).address(operator)
	for _, w := range key.Words() {
		m = m.word(w)
	}
	return m.data([]byte("TANGLE_BLS_POP_v1"))
}

// submission is the call data of submitAggregatedResult.
func submission(service, id uint64, output []byte, signers bitmap, sig Signature, key PublicKey) []byte {
	a := call(submitAggregatedResult).number(service).number(id).number(10 * 32).
		word(signers)
	for _, w := range sig.Words() {
		a = a.word(w)
	}
	for _, w := range key.Words() {
		a = a.word(w)
	}
	return a.data(output)
}
