package oracle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// gethSigner signs with go-ethereum's library.
type gethSigner struct{ key *ecdsa.PrivateKey }

func (s gethSigner) Address() [20]byte { return crypto.PubkeyToAddress(s.key.PublicKey) }

func (s gethSigner) Sign(_ context.Context, digest [32]byte) (sig [65]byte, err error) {
	raw, err := crypto.Sign(digest[:], s.key)
	copy(sig[:], raw)
	return sig, err
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func randomKey(t *testing.T, random *rand.Rand) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.ToECDSA(randomBytes(random, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// randomTx returns a transaction with numbers and data of all lengths.
func randomTx(random *rand.Rand) *tx.Tx {
	number := func() uint64 { return random.Uint64() >> random.IntN(64) }
	wide := func(most int) *big.Int { return new(big.Int).SetBytes(randomBytes(random, random.IntN(most))) }
	out := &tx.Tx{ChainID: 1 + number()>>1, Nonce: number() >> 1, Gas: number(), Tip: wide(12), Cap: wide(12),
		Value: wide(12), Data: randomBytes(random, random.IntN(300))}
	if out.Cap.Cmp(out.Tip) < 0 {
		out.Cap, out.Tip = out.Tip, out.Cap
	}
	copy(out.To[:], randomBytes(random, 20))
	return out
}

func TestTransactionsAreWhatGoEthereumReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		ours := randomTx(random)
		signer := gethSigner{randomKey(t, random)}
		raw, hash, err := ours.Sign(t.Context(), signer)
		if err != nil {
			t.Fatalf("%+v: %v", ours, err)
		}
		var theirs types.Transaction
		if err := theirs.UnmarshalBinary(raw); err != nil {
			t.Fatalf("%x: %v", raw, err)
		}
		from, err := types.Sender(types.LatestSignerForChainID(theirs.ChainId()), &theirs)
		switch {
		case err != nil:
			t.Fatal(err)
		case from != common.Address(signer.Address()):
			t.Errorf("sender %v, want %x", from, signer.Address())
		case theirs.Hash() != common.Hash(hash):
			t.Errorf("hash %v, want %v", theirs.Hash(), hash)
		case theirs.ChainId().Uint64() != ours.ChainID, theirs.Nonce() != ours.Nonce, theirs.Gas() != ours.Gas,
			theirs.GasTipCap().Cmp(ours.Tip) != 0, theirs.GasFeeCap().Cmp(ours.Cap) != 0,
			theirs.Value().Cmp(ours.Value) != 0, *theirs.To() != common.Address(ours.To),
			!bytes.Equal(theirs.Data(), ours.Data):
			t.Errorf("%+v is read as %+v", ours, &theirs)
		}
	}
}

func TestTransactionsOfGoEthereumAreRead(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		want, key := randomTx(random), randomKey(t, random)
		to := common.Address(want.To)
		id := new(big.Int).SetUint64(want.ChainID)
		signed, err := types.SignNewTx(key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{ChainID: id,
			Nonce: want.Nonce, GasTipCap: want.Tip, GasFeeCap: want.Cap, Gas: want.Gas, To: &to, Value: want.Value,
			Data: want.Data})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := signed.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, from, hash, err := tx.Parse(raw)
		switch {
		case err != nil:
			t.Fatalf("%x: %v", raw, err)
		case common.Address(from) != crypto.PubkeyToAddress(key.PublicKey), common.Hash(hash) != signed.Hash():
			t.Errorf("%x is read as of %v with hash %v", raw, from, hash)
		case got.ChainID != want.ChainID, got.Nonce != want.Nonce, got.Gas != want.Gas, got.Tip.Cmp(want.Tip) != 0,
			got.Cap.Cmp(want.Cap) != 0, got.Value.Cmp(want.Value) != 0, got.To != want.To,
			!bytes.Equal(got.Data, want.Data):
			t.Errorf("%+v is read as %+v", want, got)
		}
	}
}

// What one accepts of damaged transactions, the other accepts too.
func TestDamagedTransactions(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	accepted := 0
	for range 5_000 {
		raw, _, err := randomTx(random).Sign(t.Context(), gethSigner{randomKey(t, random)})
		if err != nil {
			t.Fatal(err)
		}
		raw[random.IntN(len(raw))] ^= 1 << random.IntN(8)
		_, from, _, ours := tx.Parse(raw)
		if ours != nil {
			continue
		}
		accepted++
		var theirs types.Transaction
		if err := theirs.UnmarshalBinary(raw); err != nil {
			t.Errorf("%x: go-ethereum refuses it: %v", raw, err)
			continue
		}
		sender, err := types.Sender(types.LatestSignerForChainID(theirs.ChainId()), &theirs)
		if err != nil || sender != common.Address(from) {
			t.Errorf("%x: of %v for go-ethereum (%v), of %v for us", raw, sender, err, from)
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d damaged transactions were still readable", accepted)
	}
}
