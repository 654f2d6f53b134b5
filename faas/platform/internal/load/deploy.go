//go:build unix

package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zip"

	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

// NewPackage returns a package, stored or deflated, that no platform has seen before: a few bytes
// at the end of its program are new.
func (f *Field) NewPackage(deflated bool) ([]byte, error) {
	method := zip.Store
	if deflated {
		method = zip.Deflate
	}
	return packageOf(binary.LittleEndian.AppendUint64(bytes.Clone(f.Program), rand.Uint64()), method)
}

// Deploy uploads a package to the platform over HTTP, and replaces the function that exists.
func (f *Field) Deploy(ctx context.Context, id string, pkg []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.url+"/api/functions/"+id, bytes.NewReader(pkg))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/zip")
	req.Header.Set("X-Blueprint-If-Exists", "replace")
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("PUT %s: %s: %s", id, resp.Status, text)
	}
	return err
}

// DeployAndCall deploys a package and waits for the first answer.
func (f *Field) DeployAndCall(ctx context.Context, pkg []byte) error {
	if err := f.Deploy(ctx, "deployed", pkg); err != nil {
		return err
	}
	_, err := f.platform.Invoke(ctx, "deployed", floor.JobEcho, floor.Args)
	return err
}

// ByHand does the least that any deployment must do: it inflates the program, writes it, starts it,
// and gets an answer from it. end ends the process and removes the file.
func (f *Field) ByHand(pkg []byte) (end func() error, err error) {
	zr, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return nil, err
	}
	in, err := zr.File[0].Open()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, fmt.Sprintf("by-hand-%x", rand.Uint64()))
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, in.Close(), out.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	p, err := startPipe(path, floor.PingSize)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	end = func() error { return errors.Join(p.close(), os.Remove(path)) }
	if err := p.roundTrip(); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}
