package oracle

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/tangle-network/blueprint-serverless/runner"
)

func TestKeystoresOfGoEthereumAreRead(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, password := range []string{"", "correct horse", "\u00e4\u20ac\U0001f511"} {
		secret := randomKey(t, random)
		store := keystore.NewKeyStore(t.TempDir(), keystore.LightScryptN, keystore.LightScryptP)
		account, err := store.ImportECDSA(secret, password)
		if err != nil {
			t.Fatal(err)
		}
		signer, warnings, err := runner.OpenKeystore("file://"+account.URL.Path, password)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("password %q: %v, warnings %v", password, err, warnings)
		}
		if common.Address(signer.Address()) != account.Address {
			t.Errorf("address %x, want %v", signer.Address(), account.Address)
		}
		digest := crypto.Keccak256Hash([]byte(password))
		sig, err := signer.Sign(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		public, err := crypto.SigToPub(digest[:], sig[:])
		if err != nil || crypto.PubkeyToAddress(*public) != account.Address {
			t.Errorf("password %q: the signature is of another key (%v)", password, err)
		}
		if _, _, err := runner.OpenKeystore(account.URL.Path, password+"x"); err == nil {
			t.Errorf("password %q: a wrong one opens the key too", password)
		}
	}
}

// TestPBKDF2KeystoreIsRead has the example of web3 secret storage with PBKDF2, which go-ethereum
// reads and does not write.
func TestPBKDF2KeystoreIsRead(t *testing.T) {
	const file = `{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},` +
		`"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",` +
		`"kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",` +
		`"salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},` +
		`"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},` +
		`"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}`
	const password = "testpassword"
	want, err := keystore.DecryptKey([]byte(file), password)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, _, err := runner.OpenKeystore(path, password)
	if err != nil {
		t.Fatal(err)
	}
	if common.Address(signer.Address()) != want.Address {
		t.Errorf("address %x, want %v", signer.Address(), want.Address)
	}
}
