//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/functionid"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// packagePrefix is where the packages of a service lie in a bucket.
func (e *Executor) packagePrefix() string {
	return "blueprint-serverless/" + functionid.CloudRun.Prefix(e.set.service) + "/" + e.set.region + "/"
}

func (e *Executor) objectURL(name string) string {
	return e.set.storageURL + "storage/v1/b/" + url.PathEscape(e.set.bucket) + "/o/" + url.PathEscape(name)
}

// object is a Cloud Storage object.
type object struct {
	Name       string `json:"name"`
	Generation int64s `json:"generation"`
}

// store puts the package into the bucket, unless it is there.
func (d *deployment) store(ctx context.Context, p *transfer.Progress) (*storageSource, error) {
	e, r := d.e, d.request()
	name := e.packagePrefix() + d.sha256 + ".zip"
	r.method, r.url = http.MethodGet, e.objectURL(name)
	var found object
	err := e.call(ctx, r, true, nil, &found)
	if faas.CodeOf(err) == faas.ErrNotFound {
		query := url.Values{"uploadType": {"media"}, "name": {name}}
		to := e.set.storageURL + "upload/storage/v1/b/" + url.PathEscape(e.set.bucket) + "/o?" + query.Encode()
		var bearer func(context.Context) (string, error)
		if e.access != nil {
			bearer = e.access.get
		}
		if err = d.send(ctx, http.MethodPost, to, http.Header{"Content-Type": {"application/zip"}}, p, bearer); err == nil {
			err = e.call(ctx, r, true, nil, &found)
		}
	}
	if err != nil {
		return nil, err
	}
	return &storageSource{Bucket: e.set.bucket, Object: name, Generation: found.Generation}, nil
}

// emptyLists is how many lists have to be empty before the packages go.
const emptyLists = 2

// removePackages removes the service's packages from the bucket once no function of the service is left. A package may be what a function is put back
// from, so that one list without functions is not believed, nor one without a function that this executor knows and finds.
func (e *Executor) removePackages(ctx context.Context, r request) error {
	if e.set.mode != modeRun {
		return nil
	}
	for i := range emptyLists {
		left, err := e.List(ctx)
		if err != nil || len(left) > 0 {
			return err
		}
		if i+1 < emptyLists && !transfer.Sleep(ctx, time.Second) {
			return e.errorf(faas.ErrTimeout, r, "the packages of the service were not removed from bucket %s: %w", e.set.bucket, context.Cause(ctx))
		}
	}
	for id := range e.memories.Range {
		if _, err := e.host.get(ctx, r, id.(string)); faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
	}
	for token := ""; ; {
		query := url.Values{"prefix": {e.packagePrefix()}}
		if token != "" {
			query.Set("pageToken", token)
		}
		r.method, r.url = http.MethodGet, e.set.storageURL+"storage/v1/b/"+url.PathEscape(e.set.bucket)+"/o?"+query.Encode()
		var list struct {
			Items         []object `json:"items"`
			NextPageToken string   `json:"nextPageToken"`
		}
		if err := e.call(ctx, r, true, nil, &list); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
		for _, one := range list.Items {
			r.method, r.url = http.MethodDelete, e.objectURL(one.Name)
			if err := e.call(ctx, r, true, nil, nil); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
				return err
			}
		}
		if token = list.NextPageToken; token == "" {
			return nil
		}
	}
}
