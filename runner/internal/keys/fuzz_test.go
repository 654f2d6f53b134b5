package keys

import (
	"errors"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// A file is a key or an error of a known kind, and does not cost more than it is allowed to.
func FuzzParse(f *testing.F) {
	f.Add([]byte("0x" + highSecret))
	f.Add([]byte(pair(f, highSecret)))
	f.Add([]byte(marshal(f, seal(f, highSecret, password))))
	f.Add([]byte(`{"version":3,"crypto":{"cipher":"aes-128-ctr","ciphertext":"00","cipherparams":` +
		`{"iv":"00000000000000000000000000000000"},"kdf":"pbkdf2","kdfparams":{"dklen":32,"c":1,"prf":"hmac-sha256"}}}`))
	_, _ = newKey(make([]byte, 31))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 4096 {
			return
		}
		var (
			key *Key
			err error
		)
		spent := alloctest.Roughly(func() { key, err = parse(content, password) })
		if limit := uint64(2*maxMemory) + alloctest.Slack; spent > limit {
			t.Errorf("%q costs %d bytes", content, spent)
		}
		if err == nil && key.address.IsZero() || err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrPassword) {
			t.Errorf("%q is read as %v, %v", content, key, err)
		}
	})
}
