package devchain

import (
	"encoding/binary"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

type (
	// Address is the address of an account.
	Address = tangle.Address
	// Word is a word of the EVM.
	Word = tangle.Word
)

const wordSize = 32

// selector returns the first four bytes of a signature's hash.
func selector(signature string) uint32 {
	w := tangle.Keccak256([]byte(signature))
	return binary.BigEndian.Uint32(w[:])
}

// encoding is an encoding in the making: static words, one after the other.
type encoding []byte

func (e encoding) uint(v uint64) encoding {
	return binary.BigEndian.AppendUint64(append(e, make([]byte, wordSize-8)...), v)
}

func (e encoding) address(a Address) encoding {
	return append(append(e, make([]byte, wordSize-len(a))...), a[:]...)
}

func (e encoding) word(w Word) encoding { return append(e, w[:]...) }

func (e encoding) big(v *big.Int) encoding {
	if v == nil {
		v = new(big.Int)
	}
	return append(e, v.FillBytes(make([]byte, wordSize))...)
}

func (e encoding) bool(b bool) encoding {
	if b {
		return e.uint(1)
	}
	return e.uint(0)
}

// bytes appends a length and the padded bytes: the tail of a byte string.
func (e encoding) bytes(b []byte) encoding {
	e = append(e.uint(uint64(len(b))), b...)
	return append(e, make([]byte, padded(len(b))-len(b))...)
}

// addresses appends the tail of a list of addresses.
func (e encoding) addresses(list []Address) encoding {
	e = e.uint(uint64(len(list)))
	for _, a := range list {
		e = e.address(a)
	}
	return e
}

// selector appends a function's or an error's selector.
func (e encoding) selector(s uint32) encoding { return binary.BigEndian.AppendUint32(e, s) }

func padded(n int) int { return (n + wordSize - 1) / wordSize * wordSize }

func wordOf(v uint64) (w Word) {
	binary.BigEndian.PutUint64(w[wordSize-8:], v)
	return w
}

func wordOfAddress(a Address) (w Word) {
	copy(w[wordSize-len(a):], a[:])
	return w
}

// arguments decodes the arguments of a call as strictly as the contract's code does. If they are
// malformed, bad is set, and the call reverts without data.
type arguments struct {
	data []byte
	bad  bool
}

func (a *arguments) word(i int) (w Word) {
	if at := i * wordSize; i < 0 || at+wordSize > len(a.data) {
		a.bad = true
	} else {
		copy(w[:], a.data[at:])
	}
	return w
}

func (a *arguments) uint(i, bits int) uint64 {
	w := a.word(i)
	for _, b := range w[:wordSize-bits/8] {
		a.bad = a.bad || b != 0
	}
	return binary.BigEndian.Uint64(w[wordSize-8:])
}

func (a *arguments) address(i int) (out Address) {
	w := a.word(i)
	for _, b := range w[:wordSize-len(out)] {
		a.bad = a.bad || b != 0
	}
	copy(out[:], w[wordSize-len(out):])
	return out
}

func (a *arguments) big(i int) *big.Int { w := a.word(i); return w.Big() }

// tail returns what begins at the offset in word i. Offsets in it are relative to its beginning.
func (a *arguments) tail(i int) *arguments {
	at := a.uint(i, 64)
	if a.bad || at > uint64(len(a.data)) {
		a.bad = true
		return &arguments{bad: true}
	}
	return &arguments{data: a.data[at:]}
}

// bytes returns the byte string at the offset in word i.
func (a *arguments) bytes(i int) []byte {
	t := a.tail(i)
	n := t.uint(0, 64)
	if t.bad || n > uint64(len(t.data)-wordSize) {
		a.bad = true
		return nil
	}
	return t.data[wordSize : wordSize+n]
}

// list returns the elements of the list at the offset in word i, and how many there are.
func (a *arguments) list(i int) (*arguments, int) {
	t := a.tail(i)
	n := t.uint(0, 64)
	if t.bad || n > uint64(len(t.data)-wordSize)/wordSize {
		a.bad = true
		return &arguments{bad: true}, 0
	}
	return &arguments{data: t.data[wordSize:]}, int(n)
}
