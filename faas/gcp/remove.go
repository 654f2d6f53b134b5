//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/functionid"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// Restore puts the earlier configuration back, and the earlier code: from the package where that is given, else from the source that Google keeps. It needs
// the unit's functions, because no state holds their environment. A function that was removed can be put back with its package alone.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	u := faas.Unit{ID: prior.ID}
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	r := request{op: "restore", job: faas.NoJob}
	now, err := e.settled(ctx, r, prior.ID, nil)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	if now != nil && e.untouched(now, prior) {
		return nil
	}
	if u.ID != prior.ID || len(u.Functions) != 1 || prior.Fingerprint == "" || prior.PackageSHA256 == "" || u.Fingerprint() != prior.Fingerprint {
		return e.errorf(faas.ErrUnsupported, r, "function %s is not as it was, and can be put back only with its earlier configuration: no state holds an environment", prior.ID)
	}
	d, err := e.newDeployment(u)
	if err != nil {
		return err
	}
	d.sha256 = prior.PackageSHA256
	var p private
	switch {
	case u.Package != nil && u.Package.SHA256() == prior.PackageSHA256:
		d.code = d.uploaded
	case now != nil && now.status == faas.StatusReady && now.labels[labelPackage] == labelOfHash(prior.PackageSHA256):
		d.code = func(context.Context, *transfer.Progress) (code, error) { // it would be asked for only if the code were another
			return code{}, e.errorf(faas.ErrConflict, r, "function %s changed while it was put back", prior.ID)
		}
	case now != nil && json.Unmarshal(prior.Private, &p) == nil && p.Mode == e.set.mode && p.Source != nil && p.Source.Generation != 0:
		d.code = func(context.Context, *transfer.Progress) (code, error) { return p.code, nil }
	default:
		return e.errorf(faas.ErrUnsupported, r, "function %s has other code, and can be put back only with its earlier package", prior.ID)
	}
	progress := transfer.NewProgress(nil, 0)
	defer progress.Stop()
	_, err = d.run(ctx, progress)
	return err
}

// bounded bounds a change of a function, whatever the caller's deadline.
func (e *Executor) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.set.deployTimeout, errTooLong)
}

var errTooLong = errors.New("it took longer than option deploy_timeout_secs allows")

// untouched reports whether the function is what the state says.
func (e *Executor) untouched(now *resource, prior faas.State) bool {
	s := e.state(now)
	if s.Status != prior.Status {
		return false
	}
	if s.Revision != "" && s.Revision == prior.Revision {
		return true
	}
	return s.PackageSHA256 != "" && s.PackageSHA256 == prior.PackageSHA256 && s.Fingerprint != "" && s.Fingerprint == prior.Fingerprint
}

// Remove deletes the function, and its built images where option remove_artifacts says so.
func (e *Executor) Remove(ctx context.Context, id string) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	r := request{op: "remove", job: faas.NoJob}
	for wait := 250 * time.Millisecond; ; wait *= 2 {
		old, err := e.observe(ctx, r, id) // a function of another service must not be deleted
		if err == nil {
			if old.leaving {
				_, err = e.settled(ctx, r, id, nil)
			} else {
				err = e.host.remove(ctx, r, old)
			}
			if err == nil {
				err = e.goneNow(ctx, r, id)
			}
		}
		switch code := faas.CodeOf(err); {
		case code == faas.ErrNotFound:
			if err := e.removeArtifacts(ctx, r, id); err != nil {
				return err
			}
			return e.removePackages(ctx, r)
		case code == faas.ErrConflict && asAPIError(err) && wait < 2*time.Minute && transfer.Sleep(ctx, wait):
			// Another operation on it has not ended.
		default:
			return err
		}
	}
}

// goneNow waits until the function is not there any more; the error is then ErrNotFound.
func (e *Executor) goneNow(ctx context.Context, r request, id string) error {
	if job, ok := functionid.CloudRun.Job(e.set.service, id); ok {
		e.routes.Delete(job)
	}
	return e.poll(ctx, r, "function "+id+" is being deleted", func() (bool, error) {
		_, err := e.host.get(ctx, r, id)
		return false, err
	})
}

// removeArtifacts removes the images that Cloud Build made of a function.
func (e *Executor) removeArtifacts(ctx context.Context, r request, id string) error {
	if !e.set.removeArtifacts || e.set.mode != modeBuild {
		return nil
	}
	if _, ok := functionid.CloudRun.Job(e.set.service, id); !ok {
		return nil
	}
	repository := e.set.repository
	if repository == "" {
		repository = e.set.parent() + "/repositories/gcf-artifacts"
	}
	double := func(text string) string { return strings.ReplaceAll(text, "-", "--") } // as Google forms the name
	name := double(e.set.project) + "__" + double(e.set.region) + "__" + double(id)
	r.method, r.url = http.MethodDelete, e.set.artifactsURL+"v1/"+repository+"/packages/"+url.PathEscape(name)
	var op operation
	err := e.call(ctx, r, true, nil, &op)
	if code := faas.CodeOf(err); code == faas.ErrNotFound {
		return nil
	}
	return err
}
