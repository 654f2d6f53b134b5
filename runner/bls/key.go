package bls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/tangle-network/blueprint-serverless/runner/internal/keys"
)

// Key is an operator's secret key. It prints as its public key, in every verb. The zero value is no
// key.
type Key struct {
	secret *big.Int
	public PublicKey
}

// NewKey makes a key of its secret, a number in big-endian bytes above zero and below the order of
// the curve.
func NewKey(secret [32]byte) (Key, error) {
	n := new(big.Int).SetBytes(secret[:])
	if n.Sign() == 0 || n.Cmp(fr.Modulus()) >= 0 {
		return Key{}, errors.New("bls: the secret is zero, or not below the order of the curve")
	}
	k := Key{secret: n}
	k.public.point.ScalarMultiplicationBase(n)
	return k, nil
}

// GenerateKey makes a new key.
func GenerateKey() (Key, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Sub(fr.Modulus(), big.NewInt(1)))
	if err != nil {
		return Key{}, err
	}
	return NewKey([32]byte(n.Add(n, big.NewInt(1)).FillBytes(make([]byte, 32))))
}

// LoadKeys reads the keys of a key store of the ecosystem: a directory, perhaps after file://,
// with a directory Bn254 in which each file holds a public key and a secret. The first of the keys
// is the one that the ecosystem's programs would use, the one with the smallest public key. Files
// that hold no key are left out; the warnings say which, and why.
func LoadKeys(store string) (loaded []Key, warnings []string, err error) {
	root := strings.TrimPrefix(store, "file://")
	warnings, err = keys.Pairs(root, "Bn254", 64, 32, func(_ string, public, secret []byte) error {
		big := [32]byte(secret)
		defer clear(big[:])
		slices.Reverse(big[:])
		k, err := NewKey(big)
		if err != nil {
			return err
		}
		if k.public.Bytes() != [64]byte(public) {
			return errors.New("the public key is not that of the secret")
		}
		loaded = append(loaded, k)
		return nil
	})
	if err == nil && len(loaded) == 0 {
		err = fmt.Errorf("the key store %s has no key that can be used", root)
	}
	if err != nil {
		return nil, warnings, fmt.Errorf("bls: %w", err)
	}
	slices.SortFunc(loaded, func(a, b Key) int {
		left, right := a.public.Bytes(), b.public.Bytes()
		return bytes.Compare(left[:], right[:])
	})
	return loaded, warnings, nil
}

// PublicKey returns the public key.
func (k Key) PublicKey() PublicKey { return k.public }

// Secret returns the number that [NewKey] takes.
func (k Key) Secret() [32]byte { return [32]byte(k.secret.FillBytes(make([]byte, 32))) }

// Sign signs a message.
func (k Key) Sign(message []byte) Signature {
	hash := hashToCurve(message)
	var point bn254.G1Affine
	point.ScalarMultiplication(&hash, k.secret)
	return Signature{point}
}

// ProvePossession signs what the contract demands together with a public key when an operator
// approves a service.
func (k Key) ProvePossession(chainID uint64, contract, operator [20]byte) Signature {
	return k.Sign(proofMessage(chainID, contract, operator, k.public))
}

// Format writes the public key, for every verb.
func (k Key) Format(f fmt.State, _ rune) {
	if k.secret == nil {
		_, _ = io.WriteString(f, "bls: no key")
		return
	}
	_, _ = io.WriteString(f, "bls: the key of "+k.public.String())
}
