// Package tx encodes and signs transactions of type 2 (EIP-1559).
package tx

import (
	"context"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// Tx is a transaction without its signature.
type Tx struct {
	ChainID, Nonce uint64
	Tip, Cap       *big.Int // wei for each unit of gas
	Gas            uint64
	To             tangle.Address
	Value          *big.Int // nil: none
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
	panic("unwritten")
}

// Parse decodes a signed transaction and recovers its sender.
func Parse(raw []byte) (*Tx, tangle.Address, tangle.Word, error) { panic("unwritten") }
