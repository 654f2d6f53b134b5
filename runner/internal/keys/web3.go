package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/scrypt"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// What deriving a key may cost. The usual parameters need 256 MiB for about a second; a file is
// allowed twice the memory and eight times the work.
const (
	maxMemory = 512 << 20 // bytes, of scrypt
	maxWork   = 1 << 24   // n*r*p of scrypt
	maxRounds = 10e6      // of pbkdf2
	maxSalt   = 1 << 10   // bytes
	maxKeyLen = 64        // bytes; the first 32 are used
)

// web3 is what of a file of the web3 secret storage is read.
type web3 struct {
	Version int
	Address string
	Crypto  struct {
		Cipher       string
		CipherText   hexBytes
		CipherParams struct{ IV hexBytes }
		KDF          string
		KDFParams    struct {
			DKLen, N, R, P, C uint64
			PRF               string
			Salt              hexBytes
		}
		MAC hexBytes
	}
}

// hexBytes are hex digits in JSON, perhaps with 0x.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	text = bytes.TrimPrefix(text, []byte("0x"))
	*h = make([]byte, len(text)/2)
	if !unhex(*h, text) {
		return fmt.Errorf("%w: it has a field that should be hex digits", ErrMalformed)
	}
	return nil
}

func isWeb3(content []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) }

// parseWeb3 reads and decrypts web3 secret storage of version 3.
func parseWeb3(text []byte, password string) (*Key, error) {
	var f web3
	if json.Unmarshal(text, &f) != nil {
		return nil, fmt.Errorf("%w: not the JSON of web3 secret storage", ErrMalformed)
	}
	c := &f.Crypto
	switch {
	case f.Version != 3:
		return nil, fmt.Errorf("%w: web3 secret storage of version %d; only 3 is known", ErrMalformed, f.Version)
	case c.Cipher != "aes-128-ctr" || len(c.CipherParams.IV) != aes.BlockSize:
		return nil, fmt.Errorf("%w: it is not encrypted by aes-128-ctr", ErrMalformed)
	case len(c.CipherText) == 0 || len(c.CipherText) > 32:
		return nil, fmt.Errorf("%w: a ciphertext of %d bytes, not 32", ErrMalformed, len(c.CipherText))
	}
	derived, err := f.derive([]byte(password))
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	mac := tangle.Keccak256(derived[16:32], c.CipherText)
	if subtle.ConstantTimeCompare(mac[:], c.MAC) != 1 {
		return nil, ErrPassword
	}
	block, err := aes.NewCipher(derived[:16])
	if err != nil {
		return nil, err
	}
	number := make([]byte, len(c.CipherText))
	cipher.NewCTR(block, c.CipherParams.IV).XORKeyStream(number, c.CipherText)
	key, err := newKey(number)
	if err != nil {
		return nil, err
	}
	if want, err := tangle.ParseAddress(f.Address); f.Address != "" && (err != nil || want != key.address) {
		key.wipe()
		return nil, fmt.Errorf("%w: the file names another account than that of its key", ErrMalformed)
	}
	return key, nil
}

// derive returns the key of the file's encryption, at least 32 bytes. The parameters are the
// file's, and may be hostile.
func (f *web3) derive(password []byte) ([]byte, error) {
	defer clear(password)
	p := &f.Crypto.KDFParams
	if p.DKLen < 32 || p.DKLen > maxKeyLen || len(p.Salt) > maxSalt {
		return nil, fmt.Errorf("%w: a derived key of %d bytes or a salt of %d", ErrMalformed, p.DKLen, len(p.Salt))
	}
	switch f.Crypto.KDF {
	case "scrypt":
		// Each is bounded first, so that the products do not overflow.
		if max(p.N, p.R, p.P) > maxWork || p.N*p.R > maxWork || p.N*p.R*p.P > maxWork || 128*p.R*(p.N+p.P) > maxMemory {
			return nil, fmt.Errorf("%w: scrypt with n %d, r %d and p %d would cost too much", ErrMalformed, p.N, p.R, p.P)
		}
		derived, err := scrypt.Key(password, p.Salt, int(p.N), int(p.R), int(p.P), int(p.DKLen))
		if err != nil {
			return nil, fmt.Errorf("%w: scrypt with n %d, r %d and p %d", ErrMalformed, p.N, p.R, p.P)
		}
		return derived, nil
	case "pbkdf2":
		if p.PRF != "hmac-sha256" || p.C == 0 || p.C > maxRounds {
			return nil, fmt.Errorf("%w: pbkdf2 of an unknown kind, or with %d rounds", ErrMalformed, p.C)
		}
		return pbkdf2.Key(sha256.New, string(password), p.Salt, int(p.C), int(p.DKLen))
	default:
		return nil, fmt.Errorf("%w: its key is derived in an unknown way, not by scrypt or pbkdf2", ErrMalformed)
	}
}
