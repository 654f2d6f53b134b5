package tangle

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/sha3"
)

// Word is a word of the EVM: a big-endian unsigned integer of 256 bits, or a hash.
type Word [wordSize]byte

// Big returns the word as an integer.
func (w Word) Big() *big.Int { return new(big.Int).SetBytes(w[:]) }

// IsZero reports whether all bytes are zero.
func (w Word) IsZero() bool { return w == Word{} }

// String returns 0x and 64 hexadecimal digits.
func (w Word) String() string { return "0x" + hex.EncodeToString(w[:]) }

// Address is the address of an account.
type Address [20]byte

// IsZero reports whether the address is zero, which means none.
func (a Address) IsZero() bool { return a == Address{} }

// String returns 0x and 40 lower-case hexadecimal digits.
func (a Address) String() string { return "0x" + hex.EncodeToString(a[:]) }

// ParseAddress parses 40 hexadecimal digits of either case, with or without 0x. It does not verify
// the checksum that the case may encode, because tools write addresses in either case without one.
func ParseAddress(s string) (a Address, err error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return a, errors.New("an address is 0x and 40 hexadecimal digits")
	}
	if len(raw) != len(a) {
		return a, fmt.Errorf("an address is 0x and 40 hexadecimal digits, and these are %d", len(digits))
	}
	copy(a[:], raw)
	return a, nil
}

// Keccak256 returns the EVM's hash of the concatenated parts.
func Keccak256(parts ...[]byte) (w Word) {
	h := sha3.NewLegacyKeccak256()
	for _, part := range parts {
		h.Write(part) // never returns an error
	}
	h.Sum(w[:0])
	return w
}

// shortHex returns a word without its leading zeros.
func shortHex(w Word) string {
	return "0x" + strings.TrimLeft(hex.EncodeToString(w[:len(w)-1]), "0") + hex.EncodeToString(w[len(w)-1:])
}
