package keys

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/scrypt"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

const (
	// The keys of the key store in testdata, which are known to everybody, and their accounts.
	lowSecret   = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
	lowAddress  = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
	highSecret  = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
	highAddress = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
	password    = "correct horse battery staple"
)

func account(t testing.TB, s string) *tangle.Address {
	t.Helper()
	a, err := tangle.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return &a
}

// write makes a file that only its owner can read.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pair(t testing.TB, secret string) string {
	t.Helper()
	number, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey(bytes.Clone(number))
	if err != nil {
		t.Fatal(err)
	}
	text := func(b []byte) string { return strings.Join(strings.Fields(fmt.Sprint(b)), ",") }
	return "[" + text(key.public()) + "," + text(number) + "]"
}

// seal writes web3 secret storage with parameters that cost little.
func seal(t testing.TB, secret, password string) map[string]any {
	t.Helper()
	plain, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	salt, iv := []byte("some salt"), make([]byte, aes.BlockSize)
	derived, err := scrypt.Key([]byte(password), salt, 2, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived[:16])
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([]byte, len(plain))
	cipher.NewCTR(block, iv).XORKeyStream(sealed, plain)
	mac := tangle.Keccak256(derived[16:], sealed)
	return map[string]any{"version": 3, "id": "x", "crypto": map[string]any{
		"cipher": "aes-128-ctr", "ciphertext": hex.EncodeToString(sealed),
		"cipherparams": map[string]any{"iv": hex.EncodeToString(iv)},
		"kdf":          "scrypt",
		"kdfparams":    map[string]any{"dklen": 32, "n": 2, "r": 8, "p": 1, "salt": hex.EncodeToString(salt)},
		"mac":          hex.EncodeToString(mac[:]),
	}}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadChoosesAsTheEcosystemDoes(t *testing.T) {
	for _, tt := range []struct {
		want *tangle.Address
		is   string
		told bool
	}{
		{nil, lowAddress, true},
		{account(t, highAddress), highAddress, false},
		{account(t, lowAddress), lowAddress, false},
	} {
		key, warnings, err := Read("testdata/keystore", "", tt.want)
		if err != nil || key.String() != tt.is {
			t.Fatalf("Read = %v, %v; want %s", key, err, tt.is)
		}
		if told := strings.Contains(strings.Join(warnings, "\n"), "2 keys"); told != tt.told {
			t.Errorf("warnings %q; a choice is told: %v", warnings, tt.told)
		}
	}
	_, _, err := Read("testdata/keystore", "", &tangle.Address{1})
	if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "2 keys") {
		t.Errorf("Read = %v; want ErrAbsent", err)
	}
}

func TestReadLeavesBadFilesOut(t *testing.T) {
	root := t.TempDir()
	good := pair(t, highSecret)
	for name, text := range map[string]string{
		"empty": "", "word": "hello", "short": "[[1],[2]]",
		"mixed":  strings.Replace(pair(t, lowSecret), "[[2,", "[[3,", 1),
		"float":  strings.Replace(good, ",", ".0,", 1),
		"longer": good + "x",
		"large":  strings.Repeat(" ", maxFile) + good,
		"zero":   "[[" + strings.Repeat("2,", 32) + "2],[" + strings.Repeat("0,", 31) + "0]]",
	} {
		write(t, filepath.Join(root, ecdsaDir, name), text)
	}
	if err := os.Mkdir(filepath.Join(root, ecdsaDir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, warnings, err := Read(root, "", nil); !errors.Is(err, ErrAbsent) || len(warnings) != maxTold+1 {
		t.Errorf("Read = %v with %d warnings; want ErrAbsent, and the bad files told", err, len(warnings))
	}
	spaced := strings.NewReplacer("[", " [\n", ",", " ,\t", "]", " ]\r\n").Replace(good)
	write(t, filepath.Join(root, ecdsaDir, "zz"), spaced)
	key, warnings, err := Read(root, "", nil)
	if err != nil || key.String() != highAddress {
		t.Errorf("Read = %v, %v; want %s", key, err, highAddress)
	}
	if len(warnings) != maxTold+1 || !strings.Contains(warnings[maxTold], "4 more") {
		t.Errorf("warnings %q; want each of %d bad files, and 4 more", warnings, maxTold)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"plain":      highSecret,
		"prefixed":   "0x" + highSecret + "\n",
		"upper case": " 0X" + strings.ToUpper(highSecret) + "\r\n",
		"pair":       pair(t, highSecret),
		"web3":       marshal(t, seal(t, highSecret, password)),
		"other case": strings.Replace(marshal(t, seal(t, highSecret, password)), `"crypto"`, `"Crypto"`, 1),
	} {
		path := write(t, filepath.Join(dir, name), text)
		for _, want := range []*tangle.Address{nil, account(t, highAddress)} {
			key, warnings, err := Read(path, password, want)
			if err != nil || key.String() != highAddress || len(warnings) > 0 {
				t.Errorf("%s: Read = %v, %q, %v; want %s", name, key, warnings, err, highAddress)
			}
		}
		if _, _, err := Read(path, password, account(t, lowAddress)); !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: Read for another account = %v; want ErrAbsent", name, err)
		}
		if runtime.GOOS == "windows" {
			continue
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Read(path, password, nil)
		encrypted := strings.HasPrefix(text, "{")
		if err != nil || encrypted != (len(warnings) == 0) {
			t.Errorf("%s: Read of a file that all can read = %q, %v", name, warnings, err)
		}
	}
	if _, _, err := Read(filepath.Join(dir, "absent"), "", nil); !errors.Is(err, ErrAbsent) {
		t.Errorf("Read of nothing = %v; want ErrAbsent", err)
	}
	if _, _, err := Read(dir, "", nil); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), ecdsaDir) {
		t.Errorf("Read of another directory = %v; want ErrAbsent", err)
	}
	if _, _, err := Read(os.DevNull, "", nil); err == nil {
		t.Error("Read accepts a device")
	}
}

func TestReadRefusesWithoutShowingAnything(t *testing.T) {
	const order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	change := func(pairs ...any) string {
		f := seal(t, highSecret, password)
		for i := 0; i < len(pairs); i += 2 {
			at := f
			keys := strings.Split(pairs[i].(string), ".")
			for _, k := range keys[:len(keys)-1] {
				at = at[k].(map[string]any)
			}
			at[keys[len(keys)-1]] = pairs[i+1]
		}
		return marshal(t, f)
	}
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"a digit less":     {highSecret[1:], ErrMalformed},
		"a digit more":     {highSecret + "0", ErrMalformed},
		"no digit":         {highSecret[1:] + "g", ErrMalformed},
		"two keys":         {highSecret + "\n" + lowSecret, ErrMalformed},
		"nothing":          {"", ErrMalformed},
		"zero":             {strings.Repeat("0", 64), ErrMalformed},
		"order":            {order, ErrMalformed},
		"above":            {strings.Repeat("f", 64), ErrMalformed},
		"cut off":          {change("id", "")[:100], ErrMalformed},
		"other version":    {change("version", 4), ErrMalformed},
		"other cipher":     {change("crypto.cipher", "aes-128-cbc"), ErrMalformed},
		"other derivation": {change("crypto.kdf", "argon2"), ErrMalformed},
		"short vector":     {change("crypto.cipherparams.iv", "00"), ErrMalformed},
		"other salt":       {change("crypto.kdfparams.salt", "00"), ErrPassword},
		"long salt":        {change("crypto.kdfparams.salt", strings.Repeat("00", maxSalt+1)), ErrMalformed},
		"no hex":           {change("crypto.mac", highSecret[1:]+"g"), ErrMalformed},
		"other mac":        {change("crypto.mac", lowSecret), ErrPassword},
		"no mac":           {change("crypto.mac", ""), ErrPassword},
		"much memory":      {change("crypto.kdfparams.n", 1<<20), ErrMalformed},
		"much work":        {change("crypto.kdfparams.n", 1<<14, "crypto.kdfparams.p", 1<<8), ErrMalformed},
		"a huge n":         {change("crypto.kdfparams.n", uint64(1)<<63), ErrMalformed},
		"a huge r":         {change("crypto.kdfparams.r", uint64(1)<<63), ErrMalformed},
		"a huge p":         {change("crypto.kdfparams.p", uint64(1)<<63), ErrMalformed},
		"no n":             {change("crypto.kdfparams.n", 0), ErrMalformed},
		"no r":             {change("crypto.kdfparams.r", 0), ErrMalformed},
		"no p":             {change("crypto.kdfparams.p", 0), ErrMalformed},
		"a negative n":     {change("crypto.kdfparams.n", -2), ErrMalformed},
		"a short key":      {change("crypto.kdfparams.dklen", 31), ErrMalformed},
		"a long key":       {change("crypto.kdfparams.dklen", 1<<30), ErrMalformed},
		"other account":    {change("address", lowAddress), ErrMalformed},
		"no account":       {change("address", "here"), ErrMalformed},
	} {
		path := write(t, filepath.Join(t.TempDir(), "key"), tt.text)
		_, _, err := Read(path, password, nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Read = %v; want %v", name, err, tt.want)
			continue
		}
		for _, secret := range []string{highSecret[1:17], lowSecret[1:17], password} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows a secret", name)
			}
		}
	}
	path := write(t, filepath.Join(t.TempDir(), "key"), change("id", ""))
	if _, _, err := Read(path, "wrong", nil); !errors.Is(err, ErrPassword) {
		t.Errorf("Read with the wrong password = %v; want ErrPassword", err)
	}
}

// The published vectors of web3 secret storage: parameters as programs use them.
func TestReadThePublishedVectors(t *testing.T) {
	for _, name := range []string{"scrypt", "pbkdf2"} {
		key, _, err := Read(filepath.Join("testdata", "web3-"+name+".json"), "testpassword", nil)
		if want := "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b"; err != nil || key.String() != want {
			t.Errorf("%s: Read = %v, %v; want %s", name, key, err, want)
		}
	}
}

func TestAKeyPrintsAsItsAddress(t *testing.T) {
	number, err := hex.DecodeString(highSecret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey(bytes.Clone(number))
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		Key  *Key
		key  *Key
		Copy Key
		copy Key
	}{key, key, *key, *key}
	var shown strings.Builder
	for _, v := range []any{key, *key, holder, &holder, []any{key}, map[string]any{"k": *key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		fmt.Fprintf(&shown, "%s %v\n", b, err)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("key", "key", v)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("key", "key", v)
	}
	text := strings.ToLower(shown.String())
	decimals := strings.Join(strings.Fields(strings.Trim(fmt.Sprint(number[:4]), "[]")), " ")
	for _, secret := range []string{highSecret[:12], highSecret[52:], decimals, "5de4 111a", "0x5d, 0xe4"} {
		if strings.Contains(text, secret) {
			t.Errorf("a key shows %q in %s", secret, text)
		}
	}
	if fmt.Sprintf("%v %+v %d", key, *key, key) != strings.TrimSpace(strings.Repeat(highAddress+" ", 3)) ||
		marshal(t, key) != `"`+highAddress+`"` {
		t.Errorf("a key is shown as %v, %d, %s", key, key, marshal(t, key))
	}
}

func TestSignaturesAreTheKeys(t *testing.T) {
	key, _, err := Read("testdata/keystore", "", account(t, highAddress))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 32 { // both values of v
		digest := [32]byte{byte(i)}
		sig, err := key.Sign(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		public, err := tx.Recover(digest, sig)
		if err != nil || tx.AddressOf(public).String() != highAddress {
			t.Errorf("the signature %x is of %s, %v", sig, tx.AddressOf(public), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := key.Sign(ctx, [32]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign with an ended context = %v", err)
	}
}
