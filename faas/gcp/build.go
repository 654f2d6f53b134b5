//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// buildHost deploys to Cloud Functions, which builds a source shim around the binary.
type buildHost struct{ e *Executor }

func (h buildHost) url(below string) string { return h.e.set.functionsURL + "v2/" + below }

func (h buildHost) name(id string) string {
	return h.e.set.parent() + "/functions/" + url.PathEscape(id)
}

func (h buildHost) get(ctx context.Context, r request, id string) (*resource, error) {
	f, err := h.fetch(ctx, r, id)
	if err != nil {
		return nil, err
	}
	return h.resource(id, f), nil
}

func (h buildHost) fetch(ctx context.Context, r request, id string) (*function, error) {
	r.method, r.url = http.MethodGet, h.url(h.name(id))
	var f function
	if err := h.e.call(ctx, r, true, nil, &f); err != nil {
		return nil, err
	}
	return &f, nil
}

func (h buildHost) resource(id string, f *function) *resource {
	got := &resource{id: id, name: cmp.Or(f.Name, h.name(id)), labels: f.Labels, url: f.URL, updatedAt: parseTime(f.UpdateTime), revision: f.UpdateTime, function: f}
	if s := f.ServiceConfig; s != nil {
		got.url, got.service, got.revision = cmp.Or(s.URI, f.URL), s.Service, cmp.Or(f.UpdateTime, s.Revision)
	}
	switch f.State {
	case "ACTIVE", "DETACH_FAILED":
		got.status = faas.StatusReady
	case "DEPLOYING", "DETACHING":
		got.status, got.reason = faas.StatusPending, "it is being deployed"
	case "DELETING":
		got.status, got.reason, got.leaving = faas.StatusPending, "it is being deleted", true
	default:
		got.status = faas.StatusFailed
		got.reason = cmp.Or(messages(f.StateMessages), "its state is "+foreign.Line(f.State, 40))
	}
	return got
}

func (h buildHost) list(ctx context.Context, r request) ([]*resource, error) {
	var all []*resource
	for token := ""; ; {
		query := url.Values{"pageSize": {"1000"}}
		if token != "" {
			query.Set("pageToken", token)
		}
		r.method, r.url = http.MethodGet, h.url(h.e.set.parent()+"/functions")+"?"+query.Encode()
		var page functionList
		if err := h.e.call(ctx, r, true, nil, &page); err != nil {
			return nil, err
		}
		if len(page.Unreachable) > 0 {
			return nil, h.e.errorf(faas.ErrUnavailable, r, "the functions of %s cannot be listed now", foreign.Line(strings.Join(page.Unreachable, ", "), 200))
		}
		for _, f := range page.Functions {
			all = append(all, h.resource(lastSegment(f.Name), f))
		}
		if token = page.NextPageToken; token == "" {
			return all, nil
		}
	}
}

func (h buildHost) apply(ctx context.Context, d *deployment, old *resource, p *transfer.Progress) (*resource, error) {
	r := d.request()
	want := d.function()
	var mask []string
	r.method, r.url = http.MethodPost, h.url(h.e.set.parent()+"/functions")+"?functionId="+url.QueryEscape(d.u.ID)
	newCode := old == nil || old.status != faas.StatusReady || old.labels[labelPackage] != want.Labels[labelPackage]
	if newCode {
		code, err := d.code(ctx, p)
		if err != nil {
			return nil, err
		}
		want.BuildConfig.Runtime, want.BuildConfig.Source = code.Runtime, &source{code.Source}
	}
	if old != nil {
		if mask = difference(old.function, want, newCode); len(mask) == 0 {
			return old, nil
		}
		want.Name = old.function.Name
		r.method, r.url = http.MethodPatch, h.url(h.name(d.u.ID))+"?updateMask="+url.QueryEscape(strings.Join(mask, ","))
	}
	p.Step("deploy")
	var op operation
	if err := h.e.commit(ctx, r, want, &op); err != nil {
		return nil, err
	}
	var f function
	if err := h.e.wait(ctx, r, h.e.set.functionsURL, &op, p, &f); err != nil {
		return nil, err
	}
	if f.Name == "" || f.State != "ACTIVE" || f.UpdateTime == "" {
		return h.get(ctx, d.request(), d.u.ID)
	}
	return h.resource(d.u.ID, &f), nil
}

func (h buildHost) remove(ctx context.Context, r request, old *resource) error {
	r.method, r.url = http.MethodDelete, h.url(h.name(old.id))
	var op operation
	if err := h.e.call(ctx, r, true, nil, &op); err != nil {
		return err
	}
	return h.e.wait(ctx, r, h.e.set.functionsURL, &op, nil, nil)
}

// newestRuntime returns the newest Go runtime that is generally available, or a known one where the API does not tell.
func (h buildHost) newestRuntime(ctx context.Context, r request) (string, error) {
	if h.e.set.runtime != "" {
		return h.e.set.runtime, nil
	}
	if known := h.e.runtime.Load(); known != nil {
		return *known, nil
	}
	r.method, r.url = http.MethodGet, h.url(h.e.set.parent()+"/runtimes")
	var list runtimeList
	err := h.e.call(ctx, r, true, nil, &list)
	switch faas.CodeOf(err) {
	case "":
	case faas.ErrNotFound, faas.ErrUnsupported, faas.ErrPermissionDenied:
		h.e.log.Debug("the runtimes on offer are not known", "assumed", defaultRuntime, "error", err)
		return defaultRuntime, nil
	default:
		return "", err
	}
	newest := ""
	for _, one := range list.Runtimes {
		// The names are of equal length, so that they are in order.
		if one.Environment == "GEN_2" && one.Stage == "GA" && runtimePattern.MatchString(one.Name) && one.Name > newest {
			newest = one.Name
		}
	}
	if newest == "" {
		return defaultRuntime, nil
	}
	h.e.runtime.Store(&newest)
	return newest, nil
}
