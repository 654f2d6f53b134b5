package tangle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// The kinds of what is cached.
const (
	cacheDefinition = "definition"
	cacheSources    = "sources"
)

// cachePath names the file that holds the payload of one event. The hash is part of the name, so that a changed blueprint has another file.
func (r *reader) cachePath(kind string, hash Word) string {
	b := r.blueprint
	return filepath.Join(r.cfg.CacheDir, fmt.Sprintf("%d-%s-%d-%s.%s", b.ChainID, b.Contract, b.ID, hash, kind))
}

// fromCache takes what is wanted from the cache, and no longer wants it. What is kept there are the payloads themselves and not what was
// decoded, so that their hash tells whether a file was changed.
func (r *reader) fromCache(want *wanted) {
	if r.cfg.CacheDir == "" {
		return
	}
	if payload := r.load(cacheDefinition, want.definitionHash); payload != nil {
		want.definitionHash = Word{}
		r.useDefinition(payload, FromCache)
	}
	if payload := r.load(cacheSources, want.sourcesHash); payload != nil {
		want.sourcesHash = Word{}
		r.useSources(payload, FromCache)
	}
}

// load returns a payload that has this hash, nil where there is none.
func (r *reader) load(kind string, hash Word) []byte {
	if hash.IsZero() {
		return nil
	}
	path := r.cachePath(kind, hash)
	payload, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && Keccak256(payload) != hash {
		err = fmt.Errorf("%s does not have the hash in its name", path)
	}
	if err != nil {
		r.warn("what is cached was ignored: %v", err)
		return nil
	}
	return payload
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxResponse {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, MaxResponse)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxResponse))
}

// toCache keeps a payload. That it cannot is worth a warning, no more.
func (r *reader) toCache(kind string, hash Word, payload []byte) {
	if r.cfg.CacheDir == "" {
		return
	}
	err := os.MkdirAll(r.cfg.CacheDir, 0o700)
	if err == nil {
		err = files.Write(r.cachePath(kind, hash), payload, 0o600)
	}
	if err != nil {
		r.warn("the %s could not be cached: %v", kind, err)
	}
}
