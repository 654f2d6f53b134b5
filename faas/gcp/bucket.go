//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/storage/v1"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// packagePrefix returns the prefix of the service's packages in a bucket.
func (e *Executor) packagePrefix() string {
	return "blueprint-serverless/" + kit.CloudRunNames.Prefix(e.set.service) + "/" + e.set.region + "/"
}

// maxUpload is how long the upload of a package may take.
const maxUpload = time.Hour

// store puts the package into the bucket, unless it is there.
func (d *deployment) store(ctx context.Context, p *httputil.Progress) (*storageSource, error) {
	e, r := d.e, d.request()
	name := e.packagePrefix() + d.sha256 + ".zip"
	var found *storage.Object
	_, err := e.call(ctx, r, true, func(ctx context.Context) (err error) {
		found, err = e.storage.Objects.Get(e.set.bucket, name).Context(ctx).Do()
		return err
	})
	if faas.CodeOf(err) == faas.ErrNotFound {
		r.within = maxUpload
		_, err = e.call(ctx, r, true, func(ctx context.Context) error {
			zip, err := d.u.Package.Open()
			if err != nil {
				return err
			}
			body := p.Upload(zip)
			defer body.Close()
			// One request, which keeps nothing in memory.
			found, err = e.storage.Objects.Insert(e.set.bucket, &storage.Object{Name: name, ContentType: "application/zip"}).
				Media(body, googleapi.ChunkSize(0), googleapi.ContentType("application/zip")).Context(ctx).Do()
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return &storageSource{Bucket: e.set.bucket, Object: name, Generation: found.Generation}, nil
}

// emptyLists is how many lists in a row must be empty before the packages are removed.
const emptyLists = 2

// removePackages removes the service's packages from the bucket when no function of the service is
// left. A function may have to be restored from a package. Therefore one list without functions is
// not believed, nor is a list that lacks a function which this executor knows and finds.
func (e *Executor) removePackages(ctx context.Context, r request) error {
	if e.set.mode != modeRun {
		return nil
	}
	for i := range emptyLists {
		left, err := e.List(ctx)
		if err != nil || len(left) > 0 {
			return err
		}
		if i+1 < emptyLists && !httputil.Sleep(ctx, time.Second) {
			return e.errorf(faas.ErrTimeout, r, "the packages of the service were not removed from bucket %s: %w", e.set.bucket,
				context.Cause(ctx))
		}
	}
	for id := range e.memories.Range {
		if _, err := e.host.get(ctx, r, id.(string)); faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
	}
	var objects []string
	_, err := e.call(ctx, r, true, func(ctx context.Context) error {
		objects = nil
		return e.storage.Objects.List(e.set.bucket).Prefix(e.packagePrefix()).Pages(ctx, func(page *storage.Objects) error {
			for _, one := range page.Items {
				objects = append(objects, one.Name)
			}
			return nil
		})
	})
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	for _, name := range objects {
		_, err := e.call(ctx, r, true, func(ctx context.Context) error {
			return e.storage.Objects.Delete(e.set.bucket, name).Context(ctx).Do()
		})
		if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
	}
	return nil
}
