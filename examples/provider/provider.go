// Package provider shows how to write a provider. Its platform is a folder. docs/providers.md
// explains it, and it passes the conformance suite.
//
// Every function is a directory. It has a directory for each revision, with the unpacked binary and
// the configuration, and a file "live" that names the revision that answers. A change adds a
// revision and then replaces that file, so the function answers at every moment; to go back, the
// file is replaced again. A call starts the binary once, with the request on standard input and the
// answer on standard output. Memory is not limited.
package provider

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Name is what the provider is registered as: "type" in the policy file.
const Name = "folder"

var limits = faas.Limits{MaxMemoryMB: 4096, MaxTimeoutSecs: 900, MaxPayloadMB: 6}

var sizes = faas.MemorySizes{Min: 128, Step: 128}

func init() {
	faas.Register(Name, faas.ProviderInfo{
		Limits: limits, MemorySizes: sizes, AtomicUpdate: true,
		Options: []faas.Option{{Name: "dir", Help: "directory of the functions", Required: true, Place: true}},
		Open: func(_ context.Context, cfg faas.Config) (faas.Executor, error) {
			return New(cfg.Options["dir"], cfg.Service)
		},
	})
}

// Executor is the folder bound to one service.
type Executor struct {
	faas.Unimplemented // the folder cannot warm, and has neither health nor logs
	dir, service       string
	made               sync.Map // the IDs of units that this executor began to make
}

var (
	_ faas.Executor = (*Executor)(nil)
	_ faas.Bound    = (*Executor)(nil)
)

// Service returns the service that the executor is bound to.
func (e *Executor) Service() string { return e.service }

// New returns an executor without the registry.
func New(dir, service string) (*Executor, error) {
	if !filepath.IsAbs(dir) {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", Name, "option dir is %q: it has to be an absolute path", dir)
	}
	return &Executor{dir: dir, service: service}, nil
}

// Close has nothing to free.
func (e *Executor) Close() error { return nil }

// fail gives every error of the platform its code, in one place, and keeps the error as the cause.
func fail(op string, err error) error {
	var known *faas.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return faas.Errorf(faas.ErrTimeout, op, Name, "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return faas.Errorf(faas.ErrPermissionDenied, op, Name, "%w", err)
	case errors.Is(err, fs.ErrNotExist):
		return faas.Errorf(faas.ErrNotFound, op, Name, "%w", err)
	}
	return faas.Errorf(faas.ErrUnavailable, op, Name, "%w", err)
}
