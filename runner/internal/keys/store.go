package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

const (
	// ecdsaDir is where a key store of the ecosystem has the keys of accounts.
	ecdsaDir   = "Ecdsa"
	publicSize = 33
	secretSize = 32
	// maxKeys is how many files of a key store are read.
	maxKeys = 4096
	// maxTold is how many files are named that hold no key.
	maxTold = 5
)

// readStore reads a key store of the ecosystem. Of several keys, the ecosystem uses the one with
// the smallest public key.
func readStore(root string, account *tangle.Address) (*Key, []string, error) {
	var (
		chosen   *Key
		path     string // of the chosen
		accounts = map[tangle.Address]bool{}
	)
	warnings, err := Pairs(root, ecdsaDir, publicSize, secretSize, func(file string, public, secret []byte) error {
		key, err := fromPair(public, secret)
		if err != nil {
			return err
		}
		accounts[key.address] = true
		better := chosen == nil || bytes.Compare(key.public(), chosen.public()) < 0
		if account != nil {
			better = chosen == nil && key.address == *account
		}
		if !better {
			key.wipe()
			return nil
		}
		if chosen != nil {
			chosen.wipe()
		}
		chosen, path = key, file
		return nil
	})
	switch {
	case err != nil:
		return nil, warnings, err
	case chosen == nil && account != nil:
		return nil, warnings, fmt.Errorf("%w: the key store %s has %d keys, but not that of %s",
			ErrAbsent, root, len(accounts), *account)
	case chosen == nil:
		return nil, warnings, fmt.Errorf("%w: the key store %s has no key that can be used", ErrAbsent, root)
	case account == nil && len(accounts) > 1:
		warnings = append(warnings, fmt.Sprintf(
			"the key store %s has %d keys, and none was chosen: %s has the smallest public key, and is used",
			root, len(accounts), chosen.address))
	}
	return chosen, append(warnings, exposed(path, filepath.Join(root, ecdsaDir), root)...), nil
}

// Pairs reads the keys of one kind in a key store of the ecosystem, which are the files of one of
// its directories, with a public key and a secret of these sizes. It gives each pair to use, which
// must keep neither. A file that is no such pair, or for which use returns an error, is left out
// with a warning.
func Pairs(root, kind string, public, secret int, use func(file string, public, secret []byte) error) (
	warnings []string, err error,
) {
	dir := filepath.Join(root, kind)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the directory %s is no key store: it has no directory %s", ErrAbsent, root, kind)
	}
	if err != nil {
		return nil, err
	}
	if len(entries) > maxKeys {
		return nil, fmt.Errorf("%w: %s has %d files; at most %d are read", ErrMalformed, dir, len(entries), maxKeys)
	}
	bad := 0
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		err := readPair(file, make([]byte, public), make([]byte, secret), use)
		if err == nil {
			continue
		}
		if bad++; bad <= maxTold {
			warnings = append(warnings, fmt.Sprintf("a file of the key store is left out: %v", err))
		}
	}
	if bad > maxTold {
		warnings = append(warnings, fmt.Sprintf("%d more files of the key store are left out", bad-maxTold))
	}
	return warnings, nil
}

// readPair reads a file of a key store into public and secret, and gives them to use.
func readPair(file string, public, secret []byte, use func(file string, public, secret []byte) error) error {
	content, err := readFile(file)
	if err != nil {
		return err
	}
	defer clear(content)
	defer clear(secret)
	if err := parsePair(bytes.TrimSpace(content), public, secret); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := use(file, public, secret); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// parsePair reads a public key and a secret as JSON lists of bytes, without package json, which
// would leave copies of the secret behind.
func parsePair(text, public, secret []byte) error {
	s := scanner{text, true}
	s.expect('[')
	s.bytes(public)
	s.expect(',')
	s.bytes(secret)
	s.expect(']')
	if s.space(); !s.ok || len(s.rest) > 0 {
		clear(secret)
		return fmt.Errorf("%w: not a list of a public key of %d bytes and a secret of %d",
			ErrMalformed, len(public), len(secret))
	}
	return nil
}

// parseAccount reads the key pair of an account.
func parseAccount(text []byte) (*Key, error) {
	public, secret := make([]byte, publicSize), make([]byte, secretSize)
	if err := parsePair(text, public, secret); err != nil {
		return nil, err
	}
	return fromPair(public, secret)
}

// fromPair makes a key of what a key store says about an account.
func fromPair(public, secret []byte) (*Key, error) {
	key, err := newKey(secret)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.public(), public) {
		key.wipe()
		return nil, fmt.Errorf("%w: the public key is not that of the secret", ErrMalformed)
	}
	return key, nil
}

// scanner reads JSON lists of bytes.
type scanner struct {
	rest []byte
	ok   bool
}

func (s *scanner) space() { s.rest = bytes.TrimLeft(s.rest, " \t\r\n") }

func (s *scanner) expect(c byte) {
	s.space()
	if s.ok = s.ok && len(s.rest) > 0 && s.rest[0] == c; s.ok {
		s.rest = s.rest[1:]
	}
}

func (s *scanner) bytes(dst []byte) {
	s.expect('[')
	for i := range dst {
		if i > 0 {
			s.expect(',')
		}
		s.space()
		dst[i] = s.byte()
	}
	s.expect(']')
}

// byte reads a number up to 255, without leading zeros, as JSON wants it.
func (s *scanner) byte() byte {
	n, digits := 0, 0
	for digits < len(s.rest) && digits < 3 && '0' <= s.rest[digits] && s.rest[digits] <= '9' {
		n = 10*n + int(s.rest[digits]-'0')
		digits++
	}
	if digits == 0 || n > 255 || digits > 1 && s.rest[0] == '0' {
		s.ok = false
		return 0
	}
	s.rest = s.rest[digits:]
	return byte(n)
}
