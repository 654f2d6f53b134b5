package devchain

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// transaction is a signed type-2 transaction.
type transaction struct {
	chain, nonce, gas uint64
	tip, cap          *big.Int
	to                *Address // nil: creates a contract
	value             *big.Int
	data              []byte

	odd     bool // parity of the signature's point
	r, s    *big.Int
	raw     []byte
	hash    Word
	from    Address
	arrival uint64 // in the order of the pool
}

// item is an RLP item: a list, or a string.
type item struct {
	list  []item
	text  []byte
	lists bool
}

var errRLP = errors.New("rlp: malformed transaction")

// parseRLP parses one item in its shortest encoding, and returns what follows it.
func parseRLP(b []byte, depth int) (item, []byte, error) {
	if len(b) == 0 || depth > 4 {
		return item{}, nil, errRLP
	}
	first := b[0]
	switch {
	case first < 0x80:
		return item{text: b[:1]}, b[1:], nil
	case first < 0xc0:
		body, rest, err := payload(b, first-0x80)
		if err != nil || len(body) == 1 && body[0] < 0x80 {
			return item{}, nil, errRLP
		}
		return item{text: body}, rest, nil
	}
	body, rest, err := payload(b, first-0xc0)
	if err != nil {
		return item{}, nil, err
	}
	out := item{lists: true}
	for len(body) > 0 {
		var element item
		if element, body, err = parseRLP(body, depth+1); err != nil {
			return item{}, nil, err
		}
		out.list = append(out.list, element)
	}
	return out, rest, nil
}

func payload(b []byte, n byte) (body, rest []byte, err error) {
	size, start := uint64(n), uint64(1)
	if n > 55 {
		width := uint64(n - 55)
		if start += width; uint64(len(b)) < start || b[1] == 0 {
			return nil, nil, errRLP
		}
		size = 0
		for _, digit := range b[1:start] {
			size = size<<8 | uint64(digit)
		}
		if size <= 55 {
			return nil, nil, errRLP
		}
	}
	if size > uint64(len(b))-start {
		return nil, nil, errRLP
	}
	return b[start : start+size], b[start+size:], nil
}

func (i item) big() (*big.Int, error) {
	if i.lists || len(i.text) > wordSize || len(i.text) > 0 && i.text[0] == 0 {
		return nil, errRLP
	}
	return new(big.Int).SetBytes(i.text), nil
}

func (i item) uint() (uint64, error) {
	v, err := i.big()
	if err != nil || !v.IsUint64() {
		return 0, errRLP
	}
	return v.Uint64(), nil
}

// decodeTransaction decodes a raw transaction and recovers its sender.
func decodeTransaction(raw []byte) (*transaction, error) {
	switch {
	case len(raw) < 2:
		return nil, errors.New("typed transaction too short")
	case raw[0] != 2:
		return nil, errors.New("transaction type not supported")
	}
	top, rest, err := parseRLP(raw[1:], 0)
	if err != nil || len(rest) > 0 || !top.lists || len(top.list) != 12 {
		return nil, errRLP
	}
	tx := &transaction{raw: raw, hash: tangle.Keccak256(raw)}
	var parity uint64
	for i, into := range []any{
		&tx.chain, &tx.nonce, &tx.tip, &tx.cap, &tx.gas, &tx.to, &tx.value, &tx.data, nil, &parity, &tx.r, &tx.s,
	} {
		field := top.list[i]
		switch into := into.(type) {
		case *uint64:
			*into, err = field.uint()
		case **big.Int:
			*into, err = field.big()
		case **Address:
			if len(field.text) == len(Address{}) {
				*into = (*Address)(field.text)
			} else if field.lists || len(field.text) != 0 {
				err = errRLP
			}
		case *[]byte:
			if *into = field.text; field.lists {
				err = errRLP
			}
		case nil:
			if !field.lists || len(field.list) > 0 {
				err = errors.New("access lists are not supported")
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if parity > 1 {
		return nil, errRLP
	}
	tx.odd = parity == 1
	if tx.from, err = recoverSender(tx.signingHash(), tx.odd, tx.r, tx.s); err != nil {
		return nil, err
	}
	return tx, nil
}

// recoverSender returns the address that signed a hash. An s in the upper half is refused.
func recoverSender(hash Word, odd bool, r, s *big.Int) (Address, error) {
	half := new(big.Int).Rsh(secp256k1.Params().N, 1)
	if r.Sign() == 0 || s.Sign() == 0 || s.Cmp(half) > 0 || r.Cmp(secp256k1.Params().N) >= 0 {
		return Address{}, errors.New("invalid signature values")
	}
	signature := make([]byte, 65)
	signature[0] = 27
	if odd {
		signature[0] = 28
	}
	r.FillBytes(signature[1:33])
	s.FillBytes(signature[33:])
	public, _, err := ecdsa.RecoverCompact(signature, hash[:])
	if err != nil {
		return Address{}, errors.New("invalid signature")
	}
	return addressOf(public), nil
}

func addressOf(public *secp256k1.PublicKey) (a Address) {
	w := tangle.Keccak256(public.SerializeUncompressed()[1:])
	copy(a[:], w[wordSize-len(a):])
	return a
}

func rlpBytes(out, b []byte) []byte {
	if len(b) == 1 && b[0] < 0x80 {
		return append(out, b[0])
	}
	return append(rlpHead(out, 0x80, len(b)), b...)
}

func rlpHead(out []byte, base byte, n int) []byte {
	if n <= 55 {
		return append(out, base+byte(n))
	}
	digits := new(big.Int).SetUint64(uint64(n)).Bytes()
	return append(append(out, base+55+byte(len(digits))), digits...)
}

func rlpUint(out []byte, v uint64) []byte {
	return rlpBytes(out, new(big.Int).SetUint64(v).Bytes())
}

func (tx *transaction) fields() []byte {
	out := rlpUint(rlpUint(nil, tx.chain), tx.nonce)
	out = rlpBytes(rlpBytes(out, tx.tip.Bytes()), tx.cap.Bytes())
	out = rlpUint(out, tx.gas)
	if tx.to == nil {
		out = rlpBytes(out, nil)
	} else {
		out = rlpBytes(out, tx.to[:])
	}
	out = rlpBytes(rlpBytes(out, tx.value.Bytes()), tx.data)
	return append(out, 0xc0)
}

func typed(fields []byte) []byte {
	return append(rlpHead([]byte{2}, 0xc0, len(fields)), fields...)
}

func (tx *transaction) signingHash() Word { return tangle.Keccak256(typed(tx.fields())) }

// sign signs the transaction as a development account.
func (tx *transaction) sign(account int) {
	hash := tx.signingHash()
	signature := ecdsa.SignCompact(secp256k1.PrivKeyFromBytes(Key(account)), hash[:], false)
	tx.odd = signature[0] == 28
	tx.r, tx.s = new(big.Int).SetBytes(signature[1:33]), new(big.Int).SetBytes(signature[33:])
	out := tx.fields()
	if tx.odd {
		out = rlpUint(out, 1)
	} else {
		out = rlpUint(out, 0)
	}
	tx.raw = typed(rlpBytes(rlpBytes(out, tx.r.Bytes()), tx.s.Bytes()))
	tx.hash = tangle.Keccak256(tx.raw)
	tx.from = Account(account)
}

// intrinsic returns the gas that a transaction needs before its first instruction, and the gas
// that it uses at least.
func intrinsic(data []byte, create bool) (start, floor uint64) {
	start, floor = 21_000, 21_000
	for _, b := range data {
		if b == 0 {
			start, floor = start+4, floor+10
		} else {
			start, floor = start+16, floor+40
		}
	}
	if create {
		start += 32_000
	}
	return start, max(start, floor)
}

// devKeys are the well-known keys of development nodes.
var devKeys = []string{
	"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
	"59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
	"5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
	"7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
	"47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
	"8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
	"92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
	"4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
	"dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
	"2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
}

// Key returns the private key of the development account 0..9: 32 bytes. Everybody knows it.
func Key(account int) []byte {
	raw, err := hex.DecodeString(devKeys[account])
	if err != nil {
		panic(fmt.Sprintf("the key of account %d is malformed: %v", account, err))
	}
	return raw
}

// Account returns the address of the development account 0..9.
func Account(account int) Address { return accounts()[account] }

var accounts = sync.OnceValue(func() (list []Address) {
	for i := range devKeys {
		list = append(list, addressOf(secp256k1.PrivKeyFromBytes(Key(i)).PubKey()))
	}
	return list
})

// parseUint parses digits of a number, as nodes write it.
func parseUint(s string) (uint64, error) {
	if len(s) < 3 || s[:2] != "0x" || s[2] == '0' && len(s) > 3 || len(s) > 18 {
		return 0, fmt.Errorf("%q is not a hexadecimal number", s)
	}
	digits := s[2:]
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return 0, fmt.Errorf("%q is not a hexadecimal number", s)
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-len(raw)), raw...)), nil
}
