//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/functions/apiv2/functionspb"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// uploadLife is how long an uploaded package is used for further functions: Google keeps uploads for a day.
const uploadLife = time.Hour

// upload is a package that this executor uploads, or has uploaded.
type upload struct {
	busy   chan struct{} // holds a value while someone uploads
	source *storageSource
	at     time.Time
}

// uploaded uploads the package unless that was done a while ago, and names the runtime that builds it. Functions that share a package share its upload.
func (d *deployment) uploaded(ctx context.Context, p *transfer.Progress) (code, error) {
	e := d.e
	e.mu.Lock()
	up := e.uploads[d.sha256]
	if up == nil {
		up = &upload{busy: make(chan struct{}, 1)}
		e.uploads[d.sha256] = up
	}
	e.mu.Unlock()
	select {
	case up.busy <- struct{}{}:
	case <-ctx.Done():
		return code{}, e.errorf(faas.ErrTimeout, d.request(), "wait for the upload of the package: %w", context.Cause(ctx))
	}
	defer func() { <-up.busy }()
	var got code
	var err error
	h, builds := e.host.(buildHost)
	if builds {
		if got.Runtime, err = h.newestRuntime(ctx, d.request()); err != nil {
			return code{}, err
		}
	}
	if !builds { // a look at the bucket tells whether the package is there
		got.Source, err = d.store(ctx, p)
		return got, err
	}
	d.reused = up.source != nil && time.Since(up.at) < uploadLife
	if !d.reused {
		if up.source, err = d.put(ctx, h, p); err != nil {
			return code{}, err
		}
		up.at = time.Now()
	}
	got.Source = up.source
	return got, nil
}

// forgetUpload makes the next deployment upload the package again.
func (d *deployment) forgetUpload() {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	delete(d.e.uploads, d.sha256)
}

// put asks for an upload URL and uploads the package there, once more where the URL has expired meanwhile.
func (d *deployment) put(ctx context.Context, h buildHost, p *transfer.Progress) (*storageSource, error) {
	for i := 0; ; i++ {
		r := d.request()
		var to *functionspb.GenerateUploadUrlResponse
		_, err := h.e.call(ctx, r, true, func(ctx context.Context) (err error) {
			to, err = h.e.functions.GenerateUploadUrl(ctx, &functionspb.GenerateUploadUrlRequest{
				Parent: h.e.set.parent(), Environment: functionspb.Environment_GEN_2,
			})
			return err
		})
		if err != nil {
			return nil, err
		}
		from := to.GetStorageSource()
		if to.GetUploadUrl() == "" || from.GetBucket() == "" {
			return nil, h.e.errorf(faas.ErrUnavailable, r, "the API gave no upload URL")
		}
		header, err := d.signedHeader(to.GetUploadUrl())
		if err != nil {
			return nil, err
		}
		if err = d.send(ctx, to.GetUploadUrl(), header, p); err == nil {
			return &storageSource{from.GetBucket(), from.GetObject(), from.GetGeneration()}, nil
		}
		if code := faas.CodeOf(err); i > 0 || code != faas.ErrInvalidArgument && code != faas.ErrPermissionDenied {
			return nil, err
		}
	}
}

// maxPackage is the largest package that an upload URL takes which limits the length, in bytes.
const maxPackage = 100 << 20

// signedHeader returns the headers for an upload URL. A signed URL lists those that have to be there.
func (d *deployment) signedHeader(raw string) (http.Header, error) {
	header := http.Header{"Content-Type": {"application/zip"}}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, d.e.errorf(faas.ErrUnavailable, d.request(), "the upload URL is not usable")
	}
	for name, values := range u.Query() {
		if !strings.EqualFold(name, "X-Goog-SignedHeaders") || !slices.Contains(strings.Split(strings.ToLower(values[0]), ";"), "x-goog-content-length-range") {
			continue
		}
		if size := d.u.Package.Size(); size > maxPackage {
			return nil, d.e.errorf(faas.ErrTooLarge, d.request(), "the package has %d bytes, the limit of uploads is %d: strip the binary (-ldflags=-s)", size, maxPackage)
		}
		header.Set("X-Goog-Content-Length-Range", "0,"+strconv.Itoa(maxPackage))
	}
	return header, nil
}

// send sends the package to an upload URL, which no client of Google's does. No credentials go with it: the URL is signed.
func (d *deployment) send(ctx context.Context, to string, header http.Header, p *transfer.Progress) error {
	r := d.request()
	r.method, r.url, r.header, r.size = http.MethodPut, to, header, d.u.Package.Size()
	r.body = func() (io.ReadCloser, error) {
		body, err := d.u.Package.Open()
		if err != nil {
			return nil, err
		}
		return p.Upload(body), nil
	}
	return d.e.repeat(ctx, true, func() error {
		a, err := d.e.send(ctx, r)
		if err != nil {
			return err
		}
		if !a.ok() {
			return d.e.statusError(r, a)
		}
		return nil
	})
}
