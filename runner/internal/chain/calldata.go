package chain

import (
	"encoding/binary"
)

const wordSize = 32

// calldata builds the arguments of a function: heads, and tails for what has no fixed size.
type calldata struct {
	selector    uint32
	heads       int // in all
	head, tails []byte
}

func newCall(selector uint32, heads int) *calldata {
	return &calldata{selector: selector, heads: heads}
}

func (c *calldata) uint(n uint64) *calldata {
	w := WordOf(n)
	c.head = append(c.head, w[:]...)
	return c
}

func (c *calldata) address(a Address) *calldata {
	c.head = append(append(c.head, make([]byte, wordSize-len(a))...), a[:]...)
	return c
}

// bytes adds a byte string.
func (c *calldata) bytes(b []byte) *calldata {
	c.uint(uint64(wordSize*c.heads + len(c.tails)))
	c.tails = appendBytes(c.tails, b)
	return c
}

func (c *calldata) uints(list []uint64) *calldata {
	c.uint(uint64(wordSize*c.heads + len(c.tails)))
	c.tails = appendUint(c.tails, uint64(len(list)))
	for _, n := range list {
		c.tails = appendUint(c.tails, n)
	}
	return c
}

func (c *calldata) byteStrings(list [][]byte) *calldata {
	c.uint(uint64(wordSize*c.heads + len(c.tails)))
	c.tails = appendUint(c.tails, uint64(len(list)))
	at := wordSize * len(list)
	for _, b := range list {
		c.tails = appendUint(c.tails, uint64(at))
		at += wordSize + padded(len(b))
	}
	for _, b := range list {
		c.tails = appendBytes(c.tails, b)
	}
	return c
}

func (c *calldata) encode() []byte {
	out := make([]byte, 4, 4+len(c.head)+len(c.tails))
	binary.BigEndian.PutUint32(out, c.selector)
	return append(append(out, c.head...), c.tails...)
}

func appendUint(to []byte, n uint64) []byte {
	w := WordOf(n)
	return append(to, w[:]...)
}

func appendBytes(to, b []byte) []byte {
	to = append(appendUint(to, uint64(len(b))), b...)
	return append(to, make([]byte, padded(len(b))-len(b))...)
}

func padded(n int) int { return (n + wordSize - 1) / wordSize * wordSize }

// WordOf returns a number as a word: as the topic of a service or a call.
func WordOf(n uint64) (w Word) {
	binary.BigEndian.PutUint64(w[wordSize-8:], n)
	return w
}

// SubmitResult encodes submitResult(service, call, output); the others likewise.
func SubmitResult(service, call uint64, output []byte) []byte {
	return newCall(0x2d07e655, 3).uint(service).uint(call).bytes(output).encode()
}

// SubmitResults encodes submitResults(service, calls, outputs). One bad entry reverts all.
func SubmitResults(service uint64, calls []uint64, outputs [][]byte) []byte {
	return newCall(0xaacdba9f, 3).uint(service).uints(calls).byteStrings(outputs).encode()
}

// ClaimRewards encodes claimRewards().
func ClaimRewards() []byte { return newCall(0x372500ab, 0).encode() }

// HeartbeatDirect encodes submitHeartbeatDirect(service, blueprint, status, metrics) of the status
// registry.
func HeartbeatDirect(service, blueprint uint64, status uint8, metrics []byte) []byte {
	return newCall(0x5cce98a6, 4).uint(service).uint(blueprint).uint(uint64(status)).bytes(metrics).encode()
}

// GoOffline encodes goOffline(service) of the status registry.
func GoOffline(service uint64) []byte { return newCall(0xc5d960bb, 1).uint(service).encode() }

// RegisterOperator encodes registerOperator(blueprint, key, rpc), with inputs if there are any.
func RegisterOperator(blueprint uint64, key []byte, rpc string, inputs []byte) []byte {
	if len(inputs) == 0 {
		return newCall(0xd4e1ab7c, 3).uint(blueprint).bytes(key).bytes([]byte(rpc)).encode()
	}
	return newCall(0x7324e916, 4).uint(blueprint).bytes(key).bytes([]byte(rpc)).bytes(inputs).encode()
}
