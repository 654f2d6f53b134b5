//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	functions "cloud.google.com/go/functions/apiv2"
	"cloud.google.com/go/functions/apiv2/functionspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/iterator"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// buildHost deploys to Cloud Functions, which builds a source shim around the binary.
type buildHost struct{ e *Executor }

func (h buildHost) name(id string) string { return h.e.set.parent() + "/functions/" + id }

func (h buildHost) get(ctx context.Context, r request, id string) (*resource, error) {
	var f *functionspb.Function
	x, err := h.e.call(ctx, r, true, func(ctx context.Context) (err error) {
		f, err = h.e.functions.GetFunction(ctx, &functionspb.GetFunctionRequest{Name: h.name(id)})
		return err
	})
	if err != nil {
		return nil, err
	}
	got := h.resource(id, f)
	got.raw = x.body
	return got, nil
}

// read reads a function from its JSON.
func (h buildHost) read(id string, raw json.RawMessage) (*resource, error) {
	f := &functionspb.Function{}
	if err := (protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}).Unmarshal(raw, f); err != nil {
		return nil, err
	}
	got := h.resource(id, f)
	got.raw = raw
	return got, nil
}

// States of a function that Google's client does not name yet.
const (
	stateDetaching    functionspb.Function_State = 6
	stateDetachFailed functionspb.Function_State = 7
)

func (h buildHost) resource(id string, f *functionspb.Function) *resource {
	s, changed := f.GetServiceConfig(), textOf(f.GetUpdateTime())
	got := &resource{
		id: id, name: cmp.Or(f.GetName(), h.name(id)), labels: f.GetLabels(), url: cmp.Or(s.GetUri(), f.GetUrl()),
		service:  s.GetService(),
		revision: cmp.Or(changed, s.GetRevision()), updatedAt: parseTime(changed), function: f,
	}
	switch f.GetState() {
	case functionspb.Function_ACTIVE, stateDetachFailed:
		got.status = faas.StatusReady
	case functionspb.Function_DEPLOYING, stateDetaching:
		got.status, got.reason = faas.StatusPending, "it is being deployed"
	case functionspb.Function_DELETING:
		got.status, got.reason, got.leaving = faas.StatusPending, "it is being deleted", true
	default:
		got.status = faas.StatusFailed
		said := cmp.Or(messages(f.GetStateMessages()), "its state is "+f.GetState().String())
		values := slices.Collect(maps.Values(s.GetEnvironmentVariables()))
		values = slices.AppendSeq(values, maps.Values(f.GetBuildConfig().GetEnvironmentVariables()))
		got.reason = sanitize.Line(hiding(values)(said), maxMessage)
	}
	return got
}

// textOf returns a time as Google writes it, or "" for nil.
func textOf(at *timestamppb.Timestamp) string {
	text, err := protojson.Marshal(at)
	if at == nil || err != nil {
		return ""
	}
	return strings.Trim(string(text), `"`)
}

func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (h buildHost) list(ctx context.Context, r request) ([]*resource, error) {
	var all []*resource
	var missing []string
	_, err := h.e.call(ctx, r, true, func(ctx context.Context) error {
		all, missing = nil, nil
		client, err := h.listing(ctx)
		if err != nil {
			return err
		}
		pages := client.ListFunctions(ctx, &functionspb.ListFunctionsRequest{Parent: h.e.set.parent(), PageSize: 1000})
		for {
			f, err := pages.Next()
			if page, ok := pages.Response.(*functionspb.ListFunctionsResponse); ok && len(page.GetUnreachable()) > 0 {
				missing = page.GetUnreachable()
			}
			if errors.Is(err, iterator.Done) {
				return nil
			}
			if err != nil {
				return err
			}
			all = append(all, h.resource(lastSegment(f.GetName()), f))
		}
	})
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, h.e.errorf(faas.ErrUnavailable, r, "the functions of %s cannot be listed now",
			sanitize.Line(strings.Join(missing, ", "), 200))
	}
	return all, nil
}

// listing returns a client whose requests have the context. The iterator of Google's client sends
// its requests without one, so nothing would end them.
func (h buildHost) listing(ctx context.Context) (*functions.FunctionClient, error) {
	client := *h.e.api
	client.Transport = bound{h.e.api.Transport, ctx}
	return functions.NewFunctionRESTClient(ctx, at(strings.TrimSuffix(h.e.set.functionsURL, "/"), &client)...)
}

// bound is a transport that gives all requests one context.
type bound struct {
	next http.RoundTripper
	ctx  context.Context
}

func (b bound) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.next.RoundTrip(req.WithContext(b.ctx))
}

func (h buildHost) apply(ctx context.Context, d *deployment, old *resource, p *httputil.Progress) (*resource, error) {
	r := d.request()
	want := d.function()
	newCode := old == nil || old.status != faas.StatusReady || old.labels[labelPackage] != want.Labels[labelPackage]
	if !newCode {
		if len(difference(old.function, want, false)) == 0 {
			return old, nil
		}
		var err error
		if newCode, err = h.isOver(ctx, r, old.function.GetBuildConfig().GetRuntime()); err != nil {
			return nil, err
		}
	}
	if newCode {
		code, err := d.code(ctx, p)
		if err != nil {
			return nil, err
		}
		want.BuildConfig.Runtime, want.BuildConfig.Source = code.Runtime, fromStorage(code.Source)
	}
	p.Step("deploy")
	c := change{request: r, id: d.u.ID, labels: want.Labels, p: p}
	if old == nil {
		return h.create(ctx, c, want)
	}
	return h.update(ctx, c, want, difference(old.function, want, newCode))
}

func fromStorage(from *storageSource) *functionspb.Source {
	return &functionspb.Source{Source: &functionspb.Source_StorageSource{StorageSource: &functionspb.StorageSource{
		Bucket: from.Bucket, Object: from.Object, Generation: from.Generation,
	}}}
}

// create creates a function.
func (h buildHost) create(ctx context.Context, c change, f *functionspb.Function) (*resource, error) {
	in := &functionspb.CreateFunctionRequest{Parent: h.e.set.parent(), FunctionId: c.id, Function: f}
	return h.e.change(ctx, c, func(ctx context.Context) error {
		_, err := h.e.functions.CreateFunction(ctx, in)
		return err
	})
}

// update changes what the mask names.
func (h buildHost) update(ctx context.Context, c change, f *functionspb.Function, mask []string) (*resource, error) {
	f.Name = h.name(c.id)
	in := &functionspb.UpdateFunctionRequest{Function: f, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}}
	return h.e.change(ctx, c, func(ctx context.Context) error {
		_, err := h.e.functions.UpdateFunction(ctx, in)
		return err
	})
}

// isWhole reports whether the API has returned all of a function that is done.
func (h buildHost) isWhole(got *resource) bool {
	return got.function.GetName() != "" && got.status == faas.StatusReady && got.revision != ""
}

// change sends a create or an update. It returns the deployed function once the operation is done
// and the API shows the function with these labels.
func (e *Executor) change(ctx context.Context, c change, do func(context.Context) error) (*resource, error) {
	op, err := e.commit(ctx, c, do)
	if err != nil {
		return nil, err
	}
	response, err := e.await(ctx, c, op)
	if err != nil {
		return nil, err
	}
	if got, err := e.host.read(c.id, response); err == nil && e.host.isWhole(got) {
		return got, nil
	}
	return e.shown(ctx, c)
}

// shown waits for a while until the API shows what was deployed, and returns it.
func (e *Executor) shown(ctx context.Context, c change) (*resource, error) {
	var got *resource
	until := time.Now().Add(time.Minute)
	err := e.poll(ctx, c.request, c.id+" is not shown as it was deployed", func() (bool, error) {
		next, err := e.host.get(ctx, c.request, c.id)
		if err != nil {
			return false, err
		}
		got = next
		return got.status != faas.StatusPending && (maps.Equal(got.labels, c.labels) || time.Now().After(until)), nil
	})
	return got, err
}

// putBack changes what differs from the API's earlier answer, in the API's own JSON, because its
// client would drop what it does not know.
func (h buildHost) putBack(ctx context.Context, r request, was *reading, id string, now *resource) (*resource, error) {
	want := settable(was.raw, functionOutput)
	pin(want, h.e.memory(id).sameCode(was).raw)
	c := change{request: r, id: id, raw: text(want), labels: labelsOf(want)}
	if now == nil {
		back, err := h.create(ctx, c, &functionspb.Function{})
		return back, h.sourceError(r, err)
	}
	is := settable(now.raw, functionOutput)
	pin(is, now.raw)
	paths := differing(is, want)
	if now.status != faas.StatusReady && !slices.Contains(paths, "buildConfig.source") {
		// A function that failed accepts no update without its source.
		paths = append(paths, "buildConfig.source", "buildConfig.runtime")
	}
	if len(paths) == 0 {
		return now, nil
	}
	body := map[string]any{"name": now.name}
	mask := make([]string, len(paths))
	for i, path := range paths {
		copyPath(body, want, path)
		mask[i] = snake(path)
	}
	c.raw = text(body)
	back, err := h.update(ctx, c, &functionspb.Function{}, mask)
	if err != nil {
		if slices.Contains(paths, "buildConfig.source") {
			err = h.sourceError(r, err)
		}
		return nil, err
	}
	is = settable(back.raw, functionOutput)
	pin(is, back.raw)
	// The source is another copy of the same one, and Google numbers copies anew.
	left := slices.DeleteFunc(differing(is, want), func(path string) bool { return path == "buildConfig.source" })
	if len(left) > 0 {
		return nil, h.e.errorf(faas.ErrConflict, r, "function %s was restored except for %s", id, strings.Join(left, ", "))
	}
	return back, nil
}

// sourceError explains why an earlier source may be refused.
func (h buildHost) sourceError(r request, err error) error {
	if code := faas.CodeOf(err); code == faas.ErrInvalidArgument || code == faas.ErrNotFound {
		return h.e.errorf(code, r, "the earlier source is refused, which Google keeps for the last few versions of a "+
			"function: %w", err)
	}
	return err
}

// functionOutput lists the paths of a function that only Google sets.
var functionOutput = []string{
	"@type", "name", "state", "stateMessages", "updateTime", "createTime", "url", "satisfiesPzs", "upgradeInfo",
	"buildConfig.build", "buildConfig.sourceProvenance", "buildConfig.sourceToken", "serviceConfig.service",
	"serviceConfig.uri", "serviceConfig.revision",
}

// pin points a function's source to the very object that, according to raw, the function was built
// from. After an update that failed, the source itself may name another object, and what it names
// may be overwritten.
func pin(doc map[string]any, raw json.RawMessage) {
	build, ok := doc["buildConfig"].(map[string]any)
	if !ok {
		return
	}
	original, _ := document(raw)["buildConfig"].(map[string]any)
	if source, ok := original["source"]; ok {
		build["source"] = source
	}
	provenance, _ := original["sourceProvenance"].(map[string]any)
	for resolved, member := range map[string]string{
		"resolvedStorageSource": "storageSource", "resolvedRepoSource": "repoSource"} {
		if from, ok := provenance[resolved].(map[string]any); ok && (member != "storageSource" || from["generation"] != nil) {
			build["source"] = map[string]any{member: from}
		}
	}
}

// isPinned reports whether it is certain which source a function was built from. Google's own copy
// has the same name for all versions of a function.
func isPinned(raw json.RawMessage) bool {
	doc := settable(raw, functionOutput)
	pin(doc, raw)
	build, _ := doc["buildConfig"].(map[string]any)
	from, _ := build["source"].(map[string]any)
	storage, ok := from["storageSource"].(map[string]any)
	if !ok {
		return len(from) > 0
	}
	object, _ := storage["object"].(string)
	return storage["generation"] != nil || object != "" && !strings.HasSuffix(object, "/function-source.zip")
}

func (h buildHost) remove(ctx context.Context, r request, id string) error {
	op, err := h.e.begin(ctx, r, true, nil, func(ctx context.Context) error {
		_, err := h.e.functions.DeleteFunction(ctx, &functionspb.DeleteFunctionRequest{Name: h.name(id)})
		return err
	})
	if err != nil {
		return err
	}
	_, err = h.e.wait(ctx, r, op, nil)
	return err
}

func (h buildHost) operation(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := h.e.functions.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
		return err
	}
}

// isOver reports whether a function must be built again because its runtime is not the one asked
// for, or is not offered any more.
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

// newestRuntime returns the newest Go runtime that is generally available, or a known one if the
// API does not list any.
func (h buildHost) newestRuntime(ctx context.Context, r request) (string, error) {
	if h.e.set.runtime != "" {
		return h.e.set.runtime, nil
	}
	if known := h.e.runtime.Load(); known != nil {
		return *known, nil
	}
	list, err := h.runtimes(ctx, r)
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
	for _, one := range list {
		if one.GetEnvironment() != functionspb.Environment_GEN_2 {
			continue
		}
		if one.GetStage() != functionspb.ListRuntimesResponse_DECOMMISSIONED {
			offered = append(offered, one.GetName())
		}
		// The names have equal lengths, so their order is that of the versions.
		if one.GetStage() == functionspb.ListRuntimesResponse_GA && runtimePattern.MatchString(one.GetName()) &&
			one.GetName() > newest {
			newest = one.GetName()
		}
	}
	if newest == "" {
		return defaultRuntime, nil
	}
	h.e.runtime.Store(&newest)
	h.e.offered.Store(&offered)
	return newest, nil
}

func (h buildHost) runtimes(ctx context.Context, r request) (list []*functionspb.ListRuntimesResponse_Runtime,
	err error) {
	_, err = h.e.call(ctx, r, true, func(ctx context.Context) error {
		got, err := h.e.functions.ListRuntimes(ctx, &functionspb.ListRuntimesRequest{Parent: h.e.set.parent()})
		list = got.GetRuntimes()
		return err
	})
	return list, err
}
