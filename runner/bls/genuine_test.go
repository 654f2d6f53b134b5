package bls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// genuine is what the genuine contract was told and answered: keys with their proofs, which it
// accepted, and aggregated results, of which it accepted one.
type genuine struct {
	Proofs []struct {
		Operator, Message, Key, Proof hexBytes
	}
	Submissions []struct {
		Data    hexBytes
		Refused string
	}
}

func recorded(t testing.TB) (g genuine) {
	t.Helper()
	content, err := os.ReadFile("testdata/genuine.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Proofs) != 2 || len(g.Submissions) != 6 {
		t.Fatalf("%d proofs and %d submissions are recorded", len(g.Proofs), len(g.Submissions))
	}
	return g
}

const chainID = 31337

var tangleContract = [20]byte(unhex("0165878a594ca255338adfa4d48449f69242eb8f"))

func join(words [4][32]byte) (b []byte) {
	for _, w := range words {
		b = append(b, w[:]...)
	}
	return b
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		panic(err)
	}
	return b
}

func TestProofsThatTheContractAccepted(t *testing.T) {
	for _, p := range recorded(t).Proofs {
		key, err := ParsePublicKey(p.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got := join(key.Words()); !bytes.Equal(got, p.Key) {
			t.Errorf("the words are %x; want %x", got, p.Key)
		}
		// The contract's own blsPopMessage returned bytes: an offset, a length, and the message.
		if got := proofMessage(chainID, tangleContract, [20]byte(p.Operator), key); !bytes.Equal(got, p.Message[64:]) {
			t.Errorf("the message is\n%x; want\n%x", got, p.Message[64:])
		}
		proof, err := ParseSignature(p.Proof)
		if err != nil {
			t.Fatal(err)
		}
		if !Verify(key, p.Message[64:], proof) {
			t.Error("a proof that the contract accepted does not verify")
		}
		if Verify(key, p.Message, proof) {
			t.Error("a proof verifies for another message")
		}
	}
}

func TestResultsThatTheContractJudged(t *testing.T) {
	g := recorded(t)
	var operators [][20]byte
	var keys []PublicKey
	for _, p := range g.Proofs {
		operators = append(operators, [20]byte(p.Operator))
		key, err := ParsePublicKey(p.Key)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	sum, err := AddKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	output := []byte("the answer")
	message := resultMessage(chainID, tangleContract, 2, 0, operators, output)
	for _, s := range g.Submissions {
		data := s.Data[4:]
		sig, err := ParseSignature(data[4*32 : 6*32])
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePublicKey(data[6*32 : 10*32])
		if err != nil {
			t.Fatal(err)
		}
		switch signers := bitmap(data[3*32 : 4*32]); s.Refused {
		case "":
			if key != sum {
				t.Error("the sum of the keys is not the one that the contract accepted")
			}
			if !Verify(sum, message, sig) {
				t.Error("a sum of signatures that the contract accepted does not verify")
			}
			if got := submission(2, 0, output, signers, sig, key); !bytes.Equal(got, s.Data) {
				t.Errorf("the call data is\n%x; want\n%x", got, s.Data)
			}
		case "0x437f07c7": // AggregatedPubkeyMismatch
			if key == sum {
				t.Error("the keys add up to a sum that the contract refused")
			}
		case "0xab1b236b": // InvalidBLSSignature
			if Verify(key, message, sig) {
				t.Error("a signature verifies that the contract refused")
			}
		}
	}
}
