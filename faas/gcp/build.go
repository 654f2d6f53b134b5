//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

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
	r.method, r.url = http.MethodGet, h.url(h.name(id))
	var raw json.RawMessage
	if err := h.e.call(ctx, r, true, nil, &raw); err != nil {
		return nil, err
	}
	return h.read(r, id, raw)
}

// read reads a function from its JSON.
func (h buildHost) read(r request, id string, raw json.RawMessage) (*resource, error) {
	var f function
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, h.e.errorf(faas.ErrUnavailable, r, "function %s is not in the API's shape", id)
	}
	got := h.resource(id, &f)
	got.raw = raw
	return got, nil
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
		got.reason = foreign.Line(hiding(f.values())(cmp.Or(messages(f.StateMessages), "its state is "+f.State)), maxMessage)
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
	if !newCode {
		if mask = difference(old.function, want, false); len(mask) == 0 {
			return old, nil
		}
		built := ""
		if b := old.function.BuildConfig; b != nil {
			built = b.Runtime
		}
		var err error
		if newCode, err = h.isOver(ctx, r, built); err != nil {
			return nil, err
		}
	}
	if newCode {
		code, err := d.code(ctx, p)
		if err != nil {
			return nil, err
		}
		want.BuildConfig.Runtime, want.BuildConfig.Source = code.Runtime, &source{code.Source}
	}
	if old != nil {
		mask = difference(old.function, want, newCode)
		want.Name = old.function.Name
		r.method, r.url = http.MethodPatch, h.url(h.name(d.u.ID))+"?updateMask="+url.QueryEscape(strings.Join(mask, ","))
	}
	p.Step("deploy")
	return h.change(ctx, r, d.u.ID, want, want.Labels, p)
}

// change sends a create or an update, and returns the function once it is done and the API shows
// it with these labels.
func (h buildHost) change(ctx context.Context, r request, id string, body any, labels map[string]string, p *transfer.Progress) (*resource, error) {
	var op operation
	if err := h.e.commit(ctx, r, h.e.set.functionsURL, id, body, &op); err != nil {
		return nil, err
	}
	var raw json.RawMessage
	if err := h.e.await(ctx, r, h.e.set.functionsURL, id, &op, p, &raw); err != nil {
		return nil, err
	}
	if got, err := h.read(r, id, raw); err == nil && got.name != "" && got.status == faas.StatusReady && got.revision != "" {
		return got, nil
	}
	return h.e.shown(ctx, r, id, labels)
}

// shown waits until the API shows what was deployed, for a while, and returns it.
func (e *Executor) shown(ctx context.Context, r request, id string, labels map[string]string) (*resource, error) {
	var got *resource
	until := time.Now().Add(time.Minute)
	err := e.poll(ctx, r, id+" is not shown as it was deployed", func() (bool, error) {
		next, err := e.host.get(ctx, r, id)
		if err != nil {
			return false, err
		}
		got = next
		return got.status != faas.StatusPending && (maps.Equal(got.labels, labels) || time.Now().After(until)), nil
	})
	return got, err
}

func (h buildHost) remove(ctx context.Context, r request, id string) error {
	r.method, r.url = http.MethodDelete, h.url(h.name(id))
	var op operation
	if err := h.e.call(ctx, r, true, nil, &op); err != nil {
		return err
	}
	return h.e.wait(ctx, r, h.e.set.functionsURL, &op, nil, nil)
}

// isOver reports whether a function has to be built anew because its runtime is another than was asked for, or is not offered any more.
func (h buildHost) isOver(ctx context.Context, r request, built string) (bool, error) {
	if asked := h.e.set.runtime; asked != "" {
		return asked != built, nil
	}
	if _, err := h.newestRuntime(ctx, r); err != nil {
		return false, err
	}
	offered := h.e.offered.Load()
	return offered != nil && built != "" && !slices.Contains(*offered, built), nil
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
	var offered []string // what can be deployed, though it may be deprecated
	for _, one := range list.Runtimes {
		if one.Environment == "GEN_2" && one.Stage != "DECOMMISSIONED" {
			offered = append(offered, one.Name)
		}
		// The names are of equal length, so that they are in order.
		if one.Environment == "GEN_2" && one.Stage == "GA" && runtimePattern.MatchString(one.Name) && one.Name > newest {
			newest = one.Name
		}
	}
	if newest == "" {
		return defaultRuntime, nil
	}
	h.e.runtime.Store(&newest)
	h.e.offered.Store(&offered)
	return newest, nil
}
