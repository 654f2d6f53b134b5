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

// The kinds of cached payloads.
const (
	cacheDefinition = "definition"
	cacheSources    = "sources"
)

// cachePath returns the path of the file for the payload of an event. The hash is a part of the
// name, so a changed blueprint has a different file.
func (r *reader) cachePath(kind string, hash Word) string {
	b := r.blueprint
	return filepath.Join(r.cfg.CacheDir, fmt.Sprintf("%d-%s-%d-%s.%s", b.ChainID, b.Contract, b.ID, hash, kind))
}

// fromCache reads the wanted payloads from the cache and marks them as found. The cache stores the
// payloads as they were recorded, so their hash reveals a changed file.
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

// load returns the payload with this hash, or nil if the cache does not have it.
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
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, MaxResponse)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxResponse))
}

// toCache stores a payload. A failure is only a warning.
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
