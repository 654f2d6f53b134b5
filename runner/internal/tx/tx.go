// Package tx encodes and signs transactions of type 2 (EIP-1559).
package tx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// MaxSize is how many bytes a signed transaction may have: nodes take no larger ones.
const MaxSize = 128 << 10

// kind is the transaction type, the first byte of every encoding.
const kind = 2

// Tx is a transaction without its signature.
type Tx struct {
	ChainID, Nonce uint64
	Tip, Cap       *big.Int // wei for each unit of gas; nil: none
	Gas            uint64
	To             tangle.Address
	Value          *big.Int // wei; nil: none
	Data           []byte
}

// Signer is runner.Signer.
type Signer interface {
	Address() [20]byte
	Sign(ctx context.Context, digest [32]byte) ([65]byte, error)
}

// Sign returns the signed transaction as it is sent, and its hash. It verifies that the signature
// is the signer's account's.
func (t *Tx) Sign(ctx context.Context, s Signer) (raw []byte, hash tangle.Word, err error) {
	if err := t.check(); err != nil {
		return nil, tangle.Word{}, err
	}
	digest, account := t.digest(), tangle.Address(s.Address())
	sig, err := s.Sign(ctx, digest)
	if err != nil {
		return nil, tangle.Word{}, fmt.Errorf("signing for %s: %w", account, err)
	}
	key, err := Recover(digest, sig)
	if err != nil {
		return nil, tangle.Word{}, fmt.Errorf("the signer of %s: %w", account, err)
	}
	if signer := AddressOf(key); signer != account {
		return nil, tangle.Word{}, fmt.Errorf("the signer of %s made a signature of %s", account, signer)
	}
	raw = t.signed(sig)
	return raw, tangle.Keccak256(raw), nil
}

// Parse decodes a signed transaction and recovers its sender. It accepts what Sign makes and
// nothing else: no contract creation, no access list, and no second encoding of the same
// transaction.
func Parse(raw []byte) (*Tx, tangle.Address, tangle.Word, error) {
	t, sig, err := decode(raw)
	if err != nil {
		return nil, tangle.Address{}, tangle.Word{}, fmt.Errorf("not a signed transaction: %w", err)
	}
	key, err := Recover(t.digest(), sig)
	if err != nil {
		return nil, tangle.Address{}, tangle.Word{}, fmt.Errorf("not a signed transaction: %w", err)
	}
	return t, AddressOf(key), tangle.Keccak256(raw), nil
}

// Recover returns the public key, uncompressed, that made a signature. It refuses what a chain
// refuses: other numbers than 0 and 1 for v, and a high s.
func Recover(digest [32]byte, sig [65]byte) (key [65]byte, err error) {
	if sig[64] > 1 {
		return key, fmt.Errorf("v of the signature is %d, not 0 or 1", sig[64])
	}
	var s secp256k1.ModNScalar
	if overflow := s.SetByteSlice(sig[32:64]); overflow || s.IsOverHalfOrder() {
		return key, errors.New("s of the signature is in the upper half of the curve's order")
	}
	compact := append([]byte{27 + sig[64]}, sig[:64]...)
	public, _, err := ecdsa.RecoverCompact(compact, digest[:])
	if err != nil {
		return key, fmt.Errorf("the signature is none: %w", err)
	}
	return [65]byte(public.SerializeUncompressed()), nil
}

// AddressOf returns the account of an uncompressed public key.
func AddressOf(key [65]byte) (a tangle.Address) {
	sum := tangle.Keccak256(key[1:])
	copy(a[:], sum[len(sum)-len(a):])
	return a
}

// check says what a node would refuse about the fields alone.
func (t *Tx) check() error {
	for name, n := range map[string]*big.Int{"tip": t.Tip, "fee cap": t.Cap, "value": t.Value} {
		if n != nil && (n.Sign() < 0 || n.BitLen() > 256) {
			return fmt.Errorf("a transaction's %s is no number of 256 bits", name)
		}
	}
	if t.Tip != nil && t.Tip.Sign() > 0 && (t.Cap == nil || t.Tip.Cmp(t.Cap) > 0) {
		return errors.New("a transaction's tip is above its fee cap")
	}
	if t.Nonce == math.MaxUint64 {
		return errors.New("a transaction's nonce is the last number, which nodes refuse")
	}
	return nil
}

// digest is what is signed.
func (t *Tx) digest() [32]byte {
	return tangle.Keccak256(append([]byte{kind}, list(t.fields())...))
}

// signed returns the transaction as it is sent.
func (t *Tx) signed(sig [65]byte) []byte {
	b := appendUint(t.fields(), uint64(sig[64]))
	b = appendInt(b, new(big.Int).SetBytes(sig[:32]))
	b = appendInt(b, new(big.Int).SetBytes(sig[32:64]))
	return append([]byte{kind}, list(b)...)
}

// fields returns the encoded fields without the list's header.
func (t *Tx) fields() []byte {
	b := make([]byte, 0, len(t.Data)+300)
	b = appendUint(b, t.ChainID)
	b = appendUint(b, t.Nonce)
	b = appendInt(b, t.Tip)
	b = appendInt(b, t.Cap)
	b = appendUint(b, t.Gas)
	b = appendBytes(b, t.To[:])
	b = appendInt(b, t.Value)
	b = appendBytes(b, t.Data)
	return append(b, list(nil)...) // the access list
}

// decode does not verify that the signature is one; Recover does.
func decode(raw []byte) (t *Tx, sig [65]byte, err error) {
	if len(raw) == 0 || raw[0] != kind {
		return nil, sig, errors.New("not of type 2")
	}
	outer := decoder{rest: raw[1:]}
	d := decoder{rest: outer.list()}
	outer.end()
	t = &Tx{
		ChainID: d.uint(), Nonce: d.uint(),
		Tip: d.int(), Cap: d.int(),
		Gas: d.uint(),
	}
	to := d.bytes()
	copy(t.To[:], to)
	t.Value, t.Data = d.int(), d.bytes()
	access := d.list()
	v, r, s := d.uint(), d.int(), d.int()
	d.end()
	switch {
	case outer.err != nil:
		return nil, sig, outer.err
	case d.err != nil:
		return nil, sig, d.err
	case len(to) != len(t.To):
		return nil, sig, fmt.Errorf("an address of %d bytes", len(to))
	case len(access) > 0:
		return nil, sig, errors.New("it has an access list")
	case v > 1:
		return nil, sig, fmt.Errorf("v of the signature is %d", v)
	}
	sig[64] = byte(v)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:64])
	return t, sig, t.check()
}
