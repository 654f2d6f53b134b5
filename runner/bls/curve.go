package bls

import (
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// PublicKey is an operator's public key: a point of the group G2, and not its zero.
type PublicKey struct{ point bn254.G2Affine }

// Signature is the signature of one operator or the sum of several: a point of the group G1, and
// not its zero.
type Signature struct{ point bn254.G1Affine }

// The library's compressed form is big-endian with two bits on top, the ecosystem's little-endian
// with two other bits in the same place.
const (
	flags      = 0b11 << 6
	theirLarge = 0b10 << 6 // of the two points with this x, it is the one with the larger y
	ourSmall   = 0b10 << 6
	ourLarge   = 0b11 << 6
)

// fromCompressed turns the ecosystem's compressed form into the library's. It does not know zero.
func fromCompressed(b []byte) ([]byte, error) {
	b = slices.Clone(b)
	slices.Reverse(b)
	switch b[0] & flags {
	case 0:
		b[0] |= ourSmall
	case theirLarge:
		b[0] |= ourLarge
	default:
		return nil, errors.New("it is zero, or has both flags")
	}
	return b, nil
}

// toCompressed is the way back.
func toCompressed(b []byte) {
	if b[0]&flags == ourLarge {
		b[0] = b[0]&^flags | theirLarge
	} else {
		b[0] &^= flags
	}
	slices.Reverse(b)
}

// ParsePublicKey parses a public key in the ecosystem's compressed form of 64 bytes, or as the
// contract's four words, 128 bytes. It refuses what is not in the group, and zero.
func ParsePublicKey(b []byte) (PublicKey, error) {
	var key PublicKey
	point, err := decode(b, 64, 128)
	if err == nil {
		_, err = key.point.SetBytes(point)
	}
	if err == nil && key.point.IsInfinity() {
		err = errZero
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("bls: %d bytes are no public key: %w", len(b), err)
	}
	return key, nil
}

// ParseSignature parses a signature in the ecosystem's compressed form of 32 bytes, or as the
// contract's two words, 64 bytes. It refuses what is not in the group, and zero.
func ParseSignature(b []byte) (Signature, error) {
	var sig Signature
	point, err := decode(b, 32, 64)
	if err == nil {
		_, err = sig.point.SetBytes(point)
	}
	if err == nil && sig.point.IsInfinity() {
		err = errZero
	}
	if err != nil {
		return Signature{}, fmt.Errorf("bls: %d bytes are no signature: %w", len(b), err)
	}
	return sig, nil
}

var errZero = errors.New("it is zero")

// decode returns a point in one of the library's forms.
func decode(b []byte, compressed, words int) ([]byte, error) {
	switch {
	case len(b) == compressed:
		return fromCompressed(b)
	case len(b) != words:
		return nil, fmt.Errorf("it needs %d or %d", compressed, words)
	case b[0]&flags != 0:
		return nil, errors.New("a number is not below the field's prime")
	default:
		return b, nil
	}
}

// Words returns the key as the contract takes it: the imaginary and the real part of x, and those
// of y.
func (k PublicKey) Words() (words [4][32]byte) {
	raw := k.point.RawBytes()
	for i := range words {
		copy(words[i][:], raw[32*i:])
	}
	return words
}

// Bytes returns the key in the ecosystem's compressed form.
func (k PublicKey) Bytes() [64]byte {
	b := k.point.Bytes()
	toCompressed(b[:])
	return b
}

// String returns the hexadecimal digits of [PublicKey.Bytes].
func (k PublicKey) String() string { return fmt.Sprintf("0x%x", k.Bytes()) }

// Words returns the signature as the contract takes it: x and y.
func (s Signature) Words() (words [2][32]byte) {
	raw := s.point.RawBytes()
	for i := range words {
		copy(words[i][:], raw[32*i:])
	}
	return words
}

// Bytes returns the signature in the ecosystem's compressed form.
func (s Signature) Bytes() [32]byte {
	b := s.point.Bytes()
	toCompressed(b[:])
	return b
}

// squareRoot is the power that gives a square root, if there is one: (p+1)/4.
var squareRoot = new(big.Int).Rsh(new(big.Int).Add(fp.Modulus(), big.NewInt(1)), 2)

// hashToCurve is the contract's: the first x from the hash on, for which there is a y, and of the
// two y the power of the square, whichever that is.
func hashToCurve(message []byte) (p bn254.G1Affine) {
	hash := tangle.Keccak256(message)
	p.X.SetBytes(hash[:]) // modulo the prime
	var three, one, square, check fp.Element
	three.SetUint64(3)
	one.SetOne()
	for {
		square.Square(&p.X).Mul(&square, &p.X).Add(&square, &three)
		p.Y.Exp(square, squareRoot)
		if check.Square(&p.Y).Equal(&square) {
			return p
		}
		p.X.Add(&p.X, &one)
	}
}

// Verify reports whether the signature is that of the message by the key, or by the sum of keys.
func Verify(key PublicKey, message []byte, sig Signature) bool {
	if key.point.IsInfinity() || sig.point.IsInfinity() {
		return false
	}
	_, _, _, g2 := bn254.Generators()
	hash := hashToCurve(message)
	hash.Neg(&hash)
	ok, err := bn254.PairingCheck([]bn254.G1Affine{sig.point, hash}, []bn254.G2Affine{g2, key.point})
	return err == nil && ok
}

// AddSignatures returns the sum of signatures. It returns an error if there is none, or if the sum
// is zero, which no honest signers reach.
func AddSignatures(signatures ...Signature) (Signature, error) {
	var sum bn254.G1Jac
	for _, s := range signatures {
		sum.AddMixed(&s.point)
	}
	var out Signature
	if out.point.FromJacobian(&sum); out.point.IsInfinity() {
		return Signature{}, errors.New("bls: the sum of the signatures is zero")
	}
	return out, nil
}

// AddKeys returns the sum of public keys, as [AddSignatures] does.
func AddKeys(keys ...PublicKey) (PublicKey, error) {
	var sum bn254.G2Jac
	for _, k := range keys {
		sum.AddMixed(&k.point)
	}
	var out PublicKey
	if out.point.FromJacobian(&sum); out.point.IsInfinity() {
		return PublicKey{}, errors.New("bls: the sum of the keys is zero")
	}
	return out, nil
}
