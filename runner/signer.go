package runner

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/keys"
)

// Signer signs for one account. Implementations are safe for concurrent use. Sign returns r, s and
// v, where v is 0 or 1, of a signature of the digest with low s. A key that is kept elsewhere, such
// as in a key management service, is used through an implementation of one's own.
type Signer interface {
	// Address is the account's.
	Address() [20]byte
	// Sign signs a digest.
	Sign(ctx context.Context, digest [32]byte) ([65]byte, error)
}

// OpenKeystore reads a key. The URI is a path, perhaps with file:// in front, of one of these:
//
//   - a key store of the ecosystem: a directory that has a directory Ecdsa. Of several keys, the
//     one with the smallest public key is used, as by all programs of the ecosystem. Files that
//     hold no key are left out;
//   - a file of web3 secret storage, version 3, which the password opens;
//   - a file with the 64 hexadecimal digits of a key, or one file of such a key store.
//
// The warnings say what the operator should know: that a key was chosen of several, which files
// were left out, and that others can read the key. Errors are of type *faas.Error: faas.ErrNotFound
// if there is no key, faas.ErrPermissionDenied if the password is wrong or the file cannot be read,
// and faas.ErrInvalidArgument. Neither contains anything of a key or the password.
//
// The Signer prints as its address, and keeps the secret in memory as long as it is used.
func OpenKeystore(uri, password string) (s Signer, warnings []string, err error) {
	return openKeystore(uri, password, nil)
}

// OpenKeystoreFor is OpenKeystore for the key of an account. It is an error of faas.ErrNotFound if
// the key is not there.
func OpenKeystoreFor(uri, password string, account [20]byte) (s Signer, warnings []string, err error) {
	return openKeystore(uri, password, (*tangle.Address)(&account))
}

func openKeystore(uri, password string, account *tangle.Address) (Signer, []string, error) {
	const op = "open key"
	path := strings.TrimPrefix(uri, "file://")
	if scheme, _, found := strings.Cut(path, "://"); found {
		return nil, nil, faas.Errorf(faas.ErrUnsupported, op, "",
			"keys at %s:// are not known: give a Signer that uses them", scheme)
	}
	if path == "" {
		return nil, nil, faas.Errorf(faas.ErrInvalidArgument, op, "", "no path of a key is given")
	}
	key, warnings, err := keys.Read(path, password, account)
	switch {
	case err == nil:
		return key, warnings, nil
	case errors.Is(err, keys.ErrAbsent):
		return nil, warnings, faas.Errorf(faas.ErrNotFound, op, "", "%w", err)
	case errors.Is(err, keys.ErrPassword), errors.Is(err, fs.ErrPermission):
		return nil, warnings, faas.Errorf(faas.ErrPermissionDenied, op, "", "%w", err)
	default:
		return nil, warnings, faas.Errorf(faas.ErrInvalidArgument, op, "", "%w", err)
	}
}
