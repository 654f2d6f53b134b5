package tx_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// signer signs with a key and then does to the signature what spoil says.
type signer struct {
	key   *secp256k1.PrivateKey
	spoil func(*[65]byte)
	err   error
}

func newSigner(b byte) signer {
	return signer{key: secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{b}, 32))}
}

func (s signer) Address() [20]byte {
	return tx.AddressOf([65]byte(s.key.PubKey().SerializeUncompressed()))
}

func (s signer) Sign(_ context.Context, digest [32]byte) (sig [65]byte, err error) {
	compact := ecdsa.SignCompact(s.key, digest[:], false)
	copy(sig[:], compact[1:])
	sig[64] = compact[0] - 27
	if s.spoil != nil {
		s.spoil(&sig)
	}
	return sig, s.err
}

func someTx() *tx.Tx {
	return &tx.Tx{
		ChainID: 31337, Nonce: 7, Tip: big.NewInt(1e9), Cap: big.NewInt(3e9), Gas: 21000,
		To: tangle.Address{19: 1}, Value: big.NewInt(0), Data: []byte{1, 2, 3},
	}
}

type mined struct {
	raw    []byte
	hash   string
	sender string
	to     string
}

// recorded returns transactions that a node mined.
func recorded(t testing.TB) (all []mined) {
	t.Helper()
	text, err := os.ReadFile("testdata/mined.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		raw, err := hex.DecodeString(strings.TrimPrefix(f[0], "0x"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, mined{raw, f[1], f[2], f[3]})
	}
	return all
}

func TestParseReadsWhatANodeMined(t *testing.T) {
	all := recorded(t)
	if len(all) < 10 {
		t.Fatalf("%d transactions are recorded", len(all))
	}
	for _, m := range all {
		got, sender, hash, err := tx.Parse(m.raw)
		if err != nil {
			t.Errorf("%s: %v", m.hash, err)
			continue
		}
		if hash.String() != m.hash || sender.String() != m.sender || got.To.String() != m.to || got.ChainID != 31337 {
			t.Errorf("%s is read as %s from %s to %s on chain %d", m.hash, hash, sender, got.To, got.ChainID)
		}
	}
}

func TestSignedTransactionsAreReadBack(t *testing.T) {
	s := newSigner(5)
	big256 := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	for name, change := range map[string]func(*tx.Tx){
		"plain":        func(*tx.Tx) {},
		"zeros":        func(x *tx.Tx) { *x = tx.Tx{} },
		"large":        func(x *tx.Tx) { x.Nonce, x.Gas, x.Cap, x.Tip = math.MaxUint64-1, math.MaxUint64, big256, big256 },
		"one low byte": func(x *tx.Tx) { x.Data = []byte{0} },
		"one byte":     func(x *tx.Tx) { x.Data = []byte{0x80} },
		"55 bytes":     func(x *tx.Tx) { x.Data = bytes.Repeat([]byte{9}, 55) },
		"56 bytes":     func(x *tx.Tx) { x.Data = bytes.Repeat([]byte{9}, 56) },
		"255 bytes":    func(x *tx.Tx) { x.Data = bytes.Repeat([]byte{9}, 255) },
		"256 bytes":    func(x *tx.Tx) { x.Data = bytes.Repeat([]byte{9}, 256) },
		"100000 bytes": func(x *tx.Tx) { x.Data = bytes.Repeat([]byte{9}, 100000) },
	} {
		want := someTx()
		change(want)
		raw, hash, err := want.Sign(t.Context(), s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, sender, again, err := tx.Parse(raw)
		if err != nil || again != hash || sender != s.Address() {
			t.Errorf("%s: Parse = %s from %s, %v; want %s from %x", name, again, sender, err, hash, s.Address())
			continue
		}
		num := func(n *big.Int) string {
			if n == nil {
				return "0"
			}
			return n.String()
		}
		if got.ChainID != want.ChainID || got.Nonce != want.Nonce || got.Gas != want.Gas || got.To != want.To ||
			num(got.Tip) != num(want.Tip) || num(got.Cap) != num(want.Cap) || num(got.Value) != num(want.Value) ||
			!bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: read as %+v; want %+v", name, got, want)
		}
	}
}

func TestSignVerifiesTheSigner(t *testing.T) {
	good, other := newSigner(1), newSigner(2)
	for name, tt := range map[string]struct {
		spoil func(*[65]byte)
		want  string
	}{
		"v of a large r":    {func(sig *[65]byte) { sig[64] += 2 }, "not 0 or 1"},
		"v of the old kind": {func(sig *[65]byte) { sig[64] += 27 }, "not 0 or 1"},
		"the other v":       {func(sig *[65]byte) { sig[64] ^= 1 }, "made a signature of"},
		"high s": {func(sig *[65]byte) {
			var s secp256k1.ModNScalar
			s.SetByteSlice(sig[32:64])
			s.Negate()
			s.PutBytesUnchecked(sig[32:64])
			sig[64] ^= 1
		}, "upper half"},
		"s above the order": {func(sig *[65]byte) { copy(sig[32:], bytes.Repeat([]byte{255}, 32)) }, "upper half"},
		"no r":              {func(sig *[65]byte) { clear(sig[:32]) }, "is none"},
		"no s":              {func(sig *[65]byte) { clear(sig[32:64]) }, "is none"},
		"nothing":           {func(sig *[65]byte) { clear(sig[:]) }, "is none"},
		"another key's": {func(sig *[65]byte) {
			digest := [32]byte{1}
			*sig, _ = other.Sign(context.Background(), digest)
		}, ""},
	} {
		s := good
		s.spoil = tt.spoil
		raw, _, err := someTx().Sign(t.Context(), s)
		if err == nil || raw != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Sign = %x, %v; want an error with %q", name, raw, err, tt.want)
		}
	}
	away := errors.New("the signer is away")
	s := good
	s.err = away
	if _, _, err := someTx().Sign(t.Context(), s); !errors.Is(err, away) {
		t.Errorf("Sign = %v; want the signer's error", err)
	}
}

func TestSignRefusesWhatNodesRefuse(t *testing.T) {
	for want, change := range map[string]func(*tx.Tx){
		"tip is above":   func(x *tx.Tx) { x.Tip = big.NewInt(4e9) },
		"fee cap is no":  func(x *tx.Tx) { x.Cap = new(big.Int).Lsh(big.NewInt(1), 256) },
		"value is no":    func(x *tx.Tx) { x.Value = big.NewInt(-1) },
		"nonce is":       func(x *tx.Tx) { x.Nonce = math.MaxUint64 },
		"tip is no":      func(x *tx.Tx) { x.Tip = big.NewInt(-1) },
		"above its fee ": func(x *tx.Tx) { x.Cap = nil },
	} {
		x := someTx()
		change(x)
		if _, _, err := x.Sign(t.Context(), newSigner(1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Sign = %v; want an error with %q", err, want)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const (
		to  = "94 0000000000000000000000000000000000000001"
		num = "a0 7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff01"
	)
	for name, tt := range map[string]struct{ fields, want string }{
		"v 2":               {"80 80 80 80 80" + to + "80 80 c0 02" + num + num, "v of the signature"},
		"v 257":             {"80 80 80 80 80" + to + "80 80 c0 820101" + num + num, "v of the signature"},
		"a leading zero":    {"80 8200ff 80 80 80" + to + "80 80 c0 80" + num + num, "shortest"},
		"zero as a byte":    {"80 00 80 80 80" + to + "80 80 c0 80" + num + num, "shortest"},
		"a byte as a text":  {"80 8101 80 80 80" + to + "80 80 c0 80" + num + num, "shortest"},
		"a long header":     {"80 80 80 80 80" + to + "80 b801ff c0 80" + num + num, "shortest"},
		"creation":          {"80 80 80 80 80 80 80 80 c0 80" + num + num, "an address of 0"},
		"an access list":    {"80 80 80 80 80" + to + "80 80 c1c0 80" + num + num, "access list"},
		"a text for a list": {"80 80 80 80 80" + to + "80 80 80 80" + num + num, "where a list"},
		"a list for a text": {"80 80 80 80 80" + to + "80 c0 c0 80" + num + num, "where a list"},
		"a large nonce":     {"80 89010000000000000000 80 80 80" + to + "80 80 c0 80" + num + num, "too large"},
		"a large value": {
			"80 80 80 80 80" + to + "a1 01" + strings.Repeat("00", 32) + "80 c0 80" + num + num, "too large",
		},
		"one more":    {"80 80 80 80 80" + to + "80 80 c0 80" + num + num + "80", "follows"},
		"one less":    {"80 80 80 80 80" + to + "80 80 c0 80" + num, "cut off"},
		"a high s":    {"80 80 80 80 80" + to + "80 80 c0 80" + num + "a0" + strings.Repeat("ff", 32), "upper half"},
		"a tip above": {"80 80 02 01 80" + to + "80 80 c0 80" + num + num, "above its fee cap"},
		"a huge text": {"80 80 80 80 80" + to + "80 bfffffffffffffffff", "cut off"},
	} {
		fields := unhex(tt.fields)
		raw := append([]byte{2, 0xf8, byte(len(fields))}, fields...)
		if len(fields) <= 55 {
			raw = append([]byte{2, 0xc0 + byte(len(fields))}, fields...)
		}
		if _, _, _, err := tx.Parse(raw); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Parse = %v; want an error with %q", name, err, tt.want)
		}
	}
	good := recorded(t)[0].raw
	for i := range good {
		if _, _, _, err := tx.Parse(good[:i]); err == nil {
			t.Errorf("Parse accepts the first %d bytes of %d", i, len(good))
		}
	}
	if _, _, _, err := tx.Parse(append(bytes.Clone(good), 0)); err == nil {
		t.Error("Parse accepts a byte after the end")
	}
	if _, _, _, err := tx.Parse(good[1:]); err == nil {
		t.Error("Parse accepts a transaction without a type")
	}
}
