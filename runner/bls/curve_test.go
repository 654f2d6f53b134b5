package bls

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
)

// The ecosystem's compressed form of the curve's generators, as the arkworks library writes it.
const (
	generator1 = "0100000000000000000000000000000000000000000000000000000000000000"
	generator2 = "edf692d95cbdde46ddda5ef7d422436779445c5e66006a42761e1f12efde0018" +
		"c212f3aeb785e49712e7a9353349aaf1255dfb31b7bf60723a480d9293938e19"
)

func TestTheEcosystemsForm(t *testing.T) {
	_, _, g1, g2 := bn254.Generators()
	if got := (Signature{g1}).Bytes(); !bytes.Equal(got[:], unhex(generator1)) {
		t.Errorf("the generator of G1 is %x", got)
	}
	if got := (PublicKey{g2}).Bytes(); !bytes.Equal(got[:], unhex(generator2)) {
		t.Errorf("the generator of G2 is %x", got)
	}
	var minus bn254.G1Affine
	minus.Neg(&g1)
	negative := unhex(generator1)
	negative[31] |= 0x80
	if got := (Signature{minus}).Bytes(); !bytes.Equal(got[:], negative) {
		t.Errorf("the negative generator of G1 is %x", got)
	}
	if got, err := ParseSignature(negative); err != nil || got.point != minus {
		t.Errorf("%x is %v, %v", negative, got, err)
	}
	for i := range 20 { // both signs of y
		k := secret(t, i)
		key, sig := k.public.Bytes(), k.Sign([]byte("m")).Bytes()
		if got, err := ParsePublicKey(key[:]); err != nil || got != k.public {
			t.Errorf("a key becomes %v, %v", got, err)
		}
		if got, err := ParseSignature(sig[:]); err != nil || got != k.Sign([]byte("m")) {
			t.Errorf("a signature becomes %v, %v", got, err)
		}
	}
}

func TestParseRefusesWhatIsNotInTheGroup(t *testing.T) {
	stray := bn254.GeneratePointNotInG2(bn254.E2{})
	var outside bn254.G2Affine
	outside.FromJacobian(&stray)
	raw, short := outside.RawBytes(), outside.Bytes()
	toCompressed(short[:])
	key, sig := secret(t, 1).public, secret(t, 1).Sign(nil)
	compressed := key.point.Bytes()
	off := key.point.RawBytes()
	off[127] ^= 1
	offSig := sig.point.RawBytes()
	offSig[63] ^= 1
	for name, b := range map[string][]byte{
		"outside of the subgroup": raw[:], "the same, compressed": short[:], "not on the curve": off[:],
		"zero": make([]byte, 128), "zero, compressed": append(make([]byte, 63), 0x40),
		"both flags":      append(make([]byte, 63), 0xC0),
		"above the prime": bytes.Repeat([]byte{0x3F}, 128), "the same, compressed twice": bytes.Repeat([]byte{0x3F}, 64),
		"a flag among words": append(compressed[:], make([]byte, 64)...), "short": make([]byte, 63), "nothing": nil,
	} {
		if _, err := ParsePublicKey(b); err == nil {
			t.Errorf("%s: accepted as a key", name)
		}
	}
	for name, b := range map[string][]byte{
		"not on the curve": offSig[:], "zero": make([]byte, 64), "zero, compressed": append(make([]byte, 31), 0x40),
		"no y for this x": append([]byte{4}, make([]byte, 31)...), "above the prime": bytes.Repeat([]byte{0x3F}, 64),
		"a flag among words": append([]byte{0x40}, make([]byte, 63)...), "short": make([]byte, 31), "nothing": nil,
	} {
		if _, err := ParseSignature(b); err == nil {
			t.Errorf("%s: accepted as a signature", name)
		}
	}
}

func TestSignAndAdd(t *testing.T) {
	message := []byte("m")
	one, two := secret(t, 1), secret(t, 2)
	sum, err := AddSignatures(one.Sign(message), two.Sign(message))
	if err != nil {
		t.Fatal(err)
	}
	key, err := AddKeys(one.public, two.public)
	if err != nil {
		t.Fatal(err)
	}
	if !Verify(key, message, sum) || Verify(one.public, message, sum) || Verify(key, []byte("n"), sum) {
		t.Error("a sum verifies where it should not, or not where it should")
	}
	if Verify(PublicKey{}, message, sum) || Verify(key, message, Signature{}) ||
		Verify(PublicKey{}, message, Signature{}) {
		t.Error("zero verifies")
	}
	if _, err := AddSignatures(); err == nil {
		t.Error("the sum of no signatures is accepted")
	}
	minus := one.public
	minus.point.Neg(&minus.point)
	if _, err := AddKeys(one.public, minus); err == nil {
		t.Error("a sum of zero is accepted")
	}
	proof := one.ProvePossession(1, [20]byte{1}, [20]byte{2})
	if !Verify(one.public, proofMessage(1, [20]byte{1}, [20]byte{2}, one.public), proof) {
		t.Error("a proof of possession does not verify")
	}
}

func TestKeys(t *testing.T) {
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := NewKey(k.Secret()); err != nil || again.public != k.public {
		t.Errorf("a key does not survive: %v", err)
	}
	order := unhex("30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001")
	for _, b := range [][]byte{make([]byte, 32), order, bytes.Repeat([]byte{0xFF}, 32)} {
		if _, err := NewKey([32]byte(b)); err == nil {
			t.Errorf("the secret %x is accepted", b)
		}
	}
	digits := fmt.Sprintf("%x", k.Secret())
	decimal := k.secret.String()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k, "keys", []Key{k}, "pointer", &k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", k, "keys", []Key{k}, "pointer", &k)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&log, verb+verb+verb, k, &k, struct{ K Key }{k})
	}
	if text := log.String(); strings.Contains(text, digits) || strings.Contains(text, decimal) ||
		!strings.Contains(text, k.public.String()) {
		t.Errorf("the log has the secret, or not the public key: %s", text)
	}
}

func list(b []byte) string { return strings.Join(strings.Fields(fmt.Sprint(b)), ",") }

func TestLoadKeys(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "Bn254")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := LoadKeys(root); err == nil || !strings.Contains(err.Error(), "has no key that can be used") {
		t.Errorf("of an empty store: %v", err)
	}
	for i := range 3 {
		public, little := secret(t, i).public.Bytes(), secret(t, i).Secret()
		for a, b := 0, 31; a < b; a, b = a+1, b-1 {
			little[a], little[b] = little[b], little[a]
		}
		write(fmt.Sprint(i), "["+list(public[:])+","+list(little[:])+"]")
		if i == 0 {
			other := secret(t, 9).public.Bytes()
			write("other", "["+list(other[:])+","+list(little[:])+"]")
		}
	}
	write("broken", "[[1],[2]]")
	write("zero", "["+list(make([]byte, 64))+","+list(make([]byte, 32))+"]")
	loaded, warnings, err := LoadKeys("file://" + root)
	if err != nil || len(loaded) != 3 || len(warnings) != 3 {
		t.Fatalf("%v, %q, %v", loaded, warnings, err)
	}
	for i := range 2 {
		left, right := loaded[i].public.Bytes(), loaded[i+1].public.Bytes()
		if bytes.Compare(left[:], right[:]) >= 0 {
			t.Error("the keys are not sorted by their public keys")
		}
	}
	if _, _, err := LoadKeys(filepath.Join(root, "none")); err == nil {
		t.Error("a store that does not exist is loaded")
	}
}

// FuzzParse holds the two forms of points against each other.
func FuzzParse(f *testing.F) {
	key, sig := secret(f, 1).public.Bytes(), secret(f, 1).Sign(nil).Bytes()
	f.Add(key[:])
	f.Add(sig[:])
	f.Add(bytes.Repeat([]byte{1}, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParsePublicKey(b); err == nil {
			words, short := key.point.RawBytes(), key.Bytes()
			if !bytes.Equal(b, words[:]) && !bytes.Equal(b, short[:]) {
				t.Errorf("%x is the key %x, %x", b, words, short)
			}
			if !key.point.IsInSubGroup() {
				t.Errorf("%x is not in the group", b)
			}
		}
		if sig, err := ParseSignature(b); err == nil {
			words, short := sig.point.RawBytes(), sig.Bytes()
			if !bytes.Equal(b, words[:]) && !bytes.Equal(b, short[:]) {
				t.Errorf("%x is the signature %x, %x", b, words, short)
			}
			if !sig.point.IsOnCurve() {
				t.Errorf("%x is not on the curve", b)
			}
		}
	})
}
