package bls

import (
	"encoding/hex"
	"errors"
	"strings"
)

// The messages of the ecosystem's aggregation service.

type taskID struct {
	Service uint64 `json:"service_id"`
	Call    uint64 `json:"call_id"`
}

type initRequest struct {
	taskID
	Operators uint32    `json:"operator_count"`
	Threshold threshold `json:"threshold"`
	Output    hexBytes  `json:"output"`
	Message   hexBytes  `json:"message"`
	Scheme    string    `json:"signature_scheme"`
}

// scheme is how this package hashes messages to the curve: as the contract does.
const scheme = "tangle_keccak256"

// threshold is a number of signers, or a part of the weights.
type threshold struct {
	Type    string   `json:"type"` // byCount or byWeight
	Signers uint32   `json:"required_signers,omitempty"`
	BPS     uint32   `json:"threshold_bps,omitempty"`
	Weights []weight `json:"operator_stakes,omitempty"`
}

const (
	byCount  = "count"
	byWeight = "stake_weighted"
)

type weight struct {
	Operator uint32 `json:"operator_index"`
	Weight   uint64 `json:"stake"`
}

type initAnswer struct {
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
}

type submitRequest struct {
	taskID
	Operator  uint32   `json:"operator_index"`
	Output    hexBytes `json:"output"`
	Signature hexBytes `json:"signature"`
	Key       hexBytes `json:"public_key"`
}

type submitAnswer struct {
	Accepted  bool   `json:"accepted"`
	Collected int    `json:"signatures_collected"`
	Required  int    `json:"threshold_required"`
	Met       bool   `json:"threshold_met"`
	Error     string `json:"error,omitempty"`
}

type statusAnswer struct {
	Exists    bool    `json:"exists"`
	Collected int     `json:"signatures_collected"`
	Required  int     `json:"threshold_required"`
	Met       bool    `json:"threshold_met"`
	Signers   bitmap  `json:"signer_bitmap"`
	SignedBPS *uint32 `json:"signed_stake_bps,omitempty"`
	Submitted bool    `json:"submitted"`
	Expired   *bool   `json:"is_expired,omitempty"`
	Remaining *uint64 `json:"time_remaining_secs,omitempty"`
}

type aggregateAnswer struct {
	taskID
	Output     hexBytes `json:"output"`
	Signers    bitmap   `json:"signer_bitmap"`
	NonSigners []uint32 `json:"non_signer_indices"`
	Signature  hexBytes `json:"aggregated_signature"`
	Key        hexBytes `json:"aggregated_pubkey"`
}

// hexBytes are bytes as 0x and hexadecimal digits; 0x may be missing.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) {
	return append([]byte("0x"), hex.EncodeToString(b)...), nil
}

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(strings.TrimPrefix(string(text), "0x"))
	return err
}

// bitmap is a set of operators, by their places in the contract's list: a number of 256 bits, of
// which bit i is the operator i.
type bitmap [32]byte

func (b bitmap) has(i int) bool { return b[31-i/8]>>(i%8)&1 == 1 }

func (b *bitmap) add(i int) { b[31-i/8] |= 1 << (i % 8) }

// members returns the operators in order.
func (b bitmap) members() (members []int) {
	for i := range 256 {
		if b.has(i) {
			members = append(members, i)
		}
	}
	return members
}

// MarshalText writes a number in hexadecimal, without leading zeros.
func (b bitmap) MarshalText() ([]byte, error) {
	digits := strings.TrimLeft(hex.EncodeToString(b[:]), "0")
	if digits == "" {
		digits = "0"
	}
	return []byte("0x" + digits), nil
}

func (b *bitmap) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	if !ok || len(digits) > 64 {
		return errors.New("not 0x and a number of 256 bits in hexadecimal")
	}
	_, err := hex.Decode(b[:], []byte(strings.Repeat("0", 64-len(digits))+digits))
	return err
}
