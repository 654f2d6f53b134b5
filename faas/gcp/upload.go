//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/functions/apiv2/functionspb"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// uploadLife is how long an uploaded package is reused for further functions. Google keeps uploads
// for a day.
const uploadLife = time.Hour

// upload is a package that this executor has uploaded.
type upload struct {
	source *storageSource
	at     time.Time
}

func sameUpload(a, b upload) bool { return a.at.Equal(b.at) }

// uploaded uploads the package unless that was done recently, and names the runtime that builds it.
// Functions that share a package share its upload.
func (d *deployment) uploaded(ctx context.Context, p *httputil.Progress) (code, error) {
	e := d.e
	waiting := func(err error) error {
		if errors.As(err, new(*faas.Error)) {
			return err
		}
		return e.errorf(faas.ErrTimeout, d.request(), "wait for the upload of the package: %w", err)
	}
	h, builds := e.host.(buildHost)
	if !builds { // a look at the bucket tells whether the package is there
		release, err := e.stores.Take(ctx, d.sha256)
		if err != nil {
			return code{}, waiting(err)
		}
		defer release()
		from, err := d.store(ctx, p)
		return code{Source: from}, err
	}
	runtime, err := h.newestRuntime(ctx, d.request())
	if err != nil {
		return code{}, err
	}
	d.reused = true
	put := func(ctx context.Context) (upload, error) {
		d.reused = false
		from, err := d.put(ctx, h, p)
		return upload{from, time.Now()}, err
	}
	up, err := e.uploads.Do(ctx, d.sha256, put)
	if err == nil && time.Since(up.at) > uploadLife {
		e.uploads.ForgetIf(d.sha256, up, sameUpload)
		up, err = e.uploads.Do(ctx, d.sha256, put)
	}
	if err != nil {
		return code{}, waiting(err)
	}
	d.from = up
	return code{up.source, runtime}, nil
}

// forgetUpload makes the next deployment upload the package again, unless another deployment has
// done so.
func (d *deployment) forgetUpload() { d.e.uploads.ForgetIf(d.sha256, d.from, sameUpload) }

// put asks for an upload URL and uploads the package there. It does so once more if the URL has
// expired meanwhile.
func (d *deployment) put(ctx context.Context, h buildHost, p *httputil.Progress) (*storageSource, error) {
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

// maxPackage is the largest package, in bytes, that an upload URL accepts if it limits the length.
const maxPackage = 100 << 20

// signedHeader returns the headers for an upload URL. A signed URL lists the headers that are
// required.
func (d *deployment) signedHeader(raw string) (http.Header, error) {
	header := http.Header{"Content-Type": {"application/zip"}}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, d.e.errorf(faas.ErrUnavailable, d.request(), "the upload URL is invalid")
	}
	for name, values := range u.Query() {
		if !strings.EqualFold(name, "X-Goog-SignedHeaders") ||
			!slices.Contains(strings.Split(strings.ToLower(values[0]), ";"), "x-goog-content-length-range") {
			continue
		}
		if size := d.u.Package.Size(); size > maxPackage {
			return nil, d.e.errorf(faas.ErrTooLarge, d.request(),
				"the package has %d bytes; the limit of uploads is %d: strip the binary (-ldflags=-s)", size, maxPackage)
		}
		header.Set("X-Goog-Content-Length-Range", "0,"+strconv.Itoa(maxPackage))
	}
	return header, nil
}

// send sends the package to an upload URL, which none of Google's clients does. It sends no
// credentials, because the URL is signed.
func (d *deployment) send(ctx context.Context, to string, header http.Header, p *httputil.Progress) error {
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
