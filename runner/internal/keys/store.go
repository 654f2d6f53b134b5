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
	ecdsaDir = "Ecdsa"
	// maxKeys is how many files of a key store are read.
	maxKeys = 4096
	// maxTold is how many files are named that hold no key.
	maxTold = 5
)

// readStore reads a key store of the ecosystem. Of several keys, the ecosystem uses the one with the
// smallest public key.
func readStore(root string, account *tangle.Address) (*Key, []string, error) {
	dir := filepath.Join(root, ecdsaDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: the directory %s is no key store: it has no directory %s", ErrAbsent, root, ecdsaDir)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(entries) > maxKeys {
		return nil, nil, fmt.Errorf("%w: %s has %d files; at most %d are read", ErrMalformed, dir, len(entries), maxKeys)
	}
	var (
		chosen   *Key
		path     string // of the chosen
		warnings []string
		bad      int
		accounts = map[tangle.Address]bool{}
	)
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		key, err := readPair(name)
		if err != nil {
			if bad++; bad <= maxTold {
				warnings = append(warnings, fmt.Sprintf("a file of the key store is left out: %v", err))
			}
			continue
		}
		accounts[key.address] = true
		better := chosen == nil || bytes.Compare(key.public(), chosen.public()) < 0
		if account != nil {
			better = chosen == nil && key.address == *account
		}
		if !better {
			key.wipe()
			continue
		}
		if chosen != nil {
			chosen.wipe()
		}
		chosen, path = key, name
	}
	if bad > maxTold {
		warnings = append(warnings, fmt.Sprintf("%d more files of the key store are left out", bad-maxTold))
	}
	switch {
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
	return chosen, append(warnings, exposed(path, dir, root)...), nil
}

// readPair reads a file of a key store.
func readPair(path string) (*Key, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	key, err := parsePair(bytes.TrimSpace(content))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// parsePair reads the public key and the secret as JSON lists of bytes, without package json, which
// would leave copies of the secret behind.
func parsePair(text []byte) (*Key, error) {
	var (
		public [33]byte
		secret [32]byte
	)
	s := scanner{text, true}
	s.expect('[')
	s.bytes(public[:])
	s.expect(',')
	s.bytes(secret[:])
	s.expect(']')
	if s.space(); !s.ok || len(s.rest) > 0 {
		clear(secret[:])
		return nil, fmt.Errorf("%w: not a list of a public key of 33 bytes and a secret of 32", ErrMalformed)
	}
	key, err := newKey(secret[:])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.public(), public[:]) {
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
