// Package keys reads the keys of accounts from files: the key store of the ecosystem, web3 secret
// storage, and hex. Its errors never contain anything of a key or a password.
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// maxFile is how large a file with a key may be. The largest kind has about 600 bytes.
const maxFile = 64 << 10

var (
	// ErrPassword means that the password does not open the file, or that the file was changed.
	ErrPassword = errors.New("the password is wrong, or the file is damaged")
	// ErrAbsent means that there is no such key.
	ErrAbsent = errors.New("no such key")
	// ErrMalformed means that what is there is no key.
	ErrMalformed = errors.New("no key that can be used")
)

// Key is the key of one account. It is a runner.Signer, and prints as its address.
type Key struct {
	secret  *secp256k1.PrivateKey // a pointer: package fmt prints no more than an address of memory
	address tangle.Address
}

// newKey takes the number of a key, big-endian, and wipes it.
func newKey(number []byte) (*Key, error) {
	defer clear(number)
	var scalar secp256k1.ModNScalar
	if len(number) > 32 || scalar.SetByteSlice(number) || scalar.IsZero() {
		scalar.Zero()
		return nil, fmt.Errorf("%w: its number is outside of the curve's order", ErrMalformed)
	}
	secret := secp256k1.NewPrivateKey(&scalar)
	scalar.Zero()
	return &Key{secret, tx.AddressOf([65]byte(secret.PubKey().SerializeUncompressed()))}, nil
}

// Address returns the account.
func (k Key) Address() [20]byte { return k.address }

// Sign returns r, s and v.
func (k Key) Sign(ctx context.Context, digest [32]byte) (sig [65]byte, err error) {
	if err := ctx.Err(); err != nil {
		return sig, err
	}
	compact := ecdsa.SignCompact(k.secret, digest[:], false)
	copy(sig[:], compact[1:])
	sig[64] = compact[0] - 27
	return sig, nil
}

// public returns the compressed public key.
func (k Key) public() []byte { return k.secret.PubKey().SerializeCompressed() }

func (k Key) wipe() { k.secret.Zero() }

// String returns the address.
func (k Key) String() string { return k.address.String() }

// Format prints the address with any verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is the address.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns the address; JSON and most other encodings use it.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Read reads the key of an account, or if account is nil, the key that the ecosystem would use. The
// path is that of a key store or of a file. What the operator should know is in warnings.
func Read(path, password string, account *tangle.Address) (key *Key, warnings []string, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	case err != nil:
		return nil, nil, err
	case info.IsDir():
		return readStore(path, account)
	}
	content, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer clear(content)
	if key, err = parse(content, password); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if account != nil && key.address != *account {
		key.wipe()
		return nil, nil, fmt.Errorf("%w: %s holds the key of %s, not of %s", ErrAbsent, path, key.address, *account)
	}
	// The password protects a file of the web3 secret storage.
	if !isWeb3(content) {
		warnings = exposed(path, filepath.Dir(path))
	}
	return key, warnings, nil
}

// parse reads a file of any kind. It leaves the content as it is.
func parse(content []byte, password string) (*Key, error) {
	switch text := bytes.TrimSpace(content); {
	case isWeb3(content):
		return parseWeb3(text, password)
	case bytes.HasPrefix(text, []byte("[")):
		return parseAccount(text)
	default:
		return parseHex(text)
	}
}

func parseHex(text []byte) (*Key, error) {
	if bytes.HasPrefix(text, []byte("0x")) || bytes.HasPrefix(text, []byte("0X")) {
		text = text[2:]
	}
	number := make([]byte, 32)
	if !unhex(number, text) {
		clear(number)
		return nil, fmt.Errorf("%w: neither web3 secret storage, nor 64 hex digits", ErrMalformed)
	}
	return newKey(number)
}

// unhex fills dst. The errors of package hex quote what they do not understand.
func unhex(dst, digits []byte) bool {
	if len(digits) != 2*len(dst) {
		return false
	}
	for i, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return false
		}
		dst[i/2] = dst[i/2]<<4 | c
	}
	return true
}

// readFile reads a regular file that is not too large. The caller wipes what it returns.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: opening a pipe would wait for a writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrMalformed, path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s has %d bytes, which no key has", ErrMalformed, path, info.Size())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content := make([]byte, maxFile) // of the full size, so that no copy stays behind when it grows
	n, err := io.ReadFull(f, content)
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(content)
		if err == nil {
			err = fmt.Errorf("%w: %s is too large", ErrMalformed, path)
		}
		return nil, err
	}
	return content[:n], nil
}

// exposed warns of a file that every user of the machine can read: its own mode and those of the
// directories around it allow that.
func exposed(path string, dirs ...string) []string {
	if runtime.GOOS == "windows" { // modes say nothing there
		return nil
	}
	const readable, searchable = 0o004, 0o001
	info, err := os.Stat(path)
	if err != nil || info.Mode()&readable == 0 {
		return nil
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || info.Mode()&searchable == 0 {
			return nil
		}
	}
	return []string{fmt.Sprintf("every user of this machine can read the key in %s: set its mode to 0600", path)}
}
