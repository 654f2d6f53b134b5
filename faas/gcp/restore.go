//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/functions/apiv2/functionspb"
	run "google.golang.org/api/run/v2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Restore makes the function what this executor read earlier: the source that Google keeps of the
// earlier build, the configuration with its environment, and who may invoke it. If another process
// read the state, the environment is unknown here. Restore then restores the code only, and says so
// unless the configuration is still the earlier one.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	r := request{op: "restore", job: faas.NoJob}
	if job, ours := kit.CloudRunNames.Job(e.set.service, prior.ID); ours {
		r.job = int64(job)
	}
	m := e.memory(prior.ID)
	was := m.recall(prior.Revision)
	if was != nil {
		r.hide = hiding(environment(was.raw))
	}
	err := e.rounds(ctx, r, nil, func() error {
		now, err := e.settled(ctx, r, prior.ID, nil)
		if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
		if now != nil && now.revision == prior.Revision && was != nil && was.past {
			now = e.later(ctx, r, now)
		}
		switch {
		case now != nil && now.status == prior.Status &&
			(now.revision == prior.Revision || was != nil && now.revision == was.again):
		case prior.NotRestorable != "":
			return e.errorf(faas.ErrUnsupported, r, "function %s cannot be restored: %s", prior.ID, prior.NotRestorable)
		case was == nil:
			return e.codeBack(ctx, r, prior, now)
		default:
			if now, err = e.host.putBack(ctx, r, was, prior.ID, now); err != nil {
				return err
			}
			m.keep(now)
			was.again = now.revision
			if job, ours := kit.CloudRunNames.Job(e.set.service, prior.ID); ours && now.url != "" {
				e.routes.Store(job, routeTo(now))
			}
		}
		m.trust()
		return e.invokersBack(ctx, r, was, now)
	})
	return e.unsettled(prior.ID, err)
}

// later looks again, for a few seconds, at a function that this executor has changed and that
// appears unchanged.
func (e *Executor) later(ctx context.Context, r request, now *resource) *resource {
	for wait := 250 * time.Millisecond; wait <= 2*time.Second && httputil.Sleep(ctx, wait); wait *= 2 {
		if next, err := e.observe(ctx, r, now.id); err == nil && next.revision != now.revision &&
			next.status != faas.StatusPending {
			return next
		}
	}
	return now
}

// notRestorable says why Restore could not restore the function's present state, or returns "" if
// it could.
func (got *resource) notRestorable() string {
	switch {
	case got.status == faas.StatusPending:
		return "it is being changed by something else"
	case got.status == faas.StatusFailed:
		return "it does not work now: " + got.reason
	case got.function != nil && got.raw != nil && !isPinned(got.raw):
		return "Google does not say from which source it was built"
	}
	return ""
}

// codeBack restores what the state itself holds: the code.
func (e *Executor) codeBack(ctx context.Context, r request, prior faas.State, now *resource) error {
	var p private
	h, builds := e.host.(buildHost)
	sameCode := now != nil && now.status == faas.StatusReady && prior.PackageSHA256 != "" &&
		now.labels[labelPackage] == labelOfHash(prior.PackageSHA256)
	sameConfig := now != nil && prior.Fingerprint != "" && e.state(now).Fingerprint == prior.Fingerprint
	if !sameCode {
		if now == nil || !builds || json.Unmarshal(prior.Private, &p) != nil || p.Mode != e.set.mode || p.Source == nil ||
			p.Source.Generation == 0 || prior.PackageSHA256 == "" {
			return e.errorf(faas.ErrConflict, r, "function %s has neither its earlier code nor its earlier configuration, "+
				"which another process read: deploy it again", prior.ID)
		}
		labels := maps.Clone(now.labels)
		labels[labelPackage] = labelOfHash(prior.PackageSHA256)
		build := &functionspb.BuildConfig{Runtime: p.Runtime, Source: fromStorage(p.Source)}
		back, mask := &functionspb.Function{Labels: labels, BuildConfig: build},
			[]string{"labels", "build_config.runtime", "build_config.source"}
		if _, err := h.update(ctx, change{request: r, id: prior.ID, labels: labels}, back, mask); err != nil {
			return err
		}
	}
	if !sameConfig {
		return e.errorf(faas.ErrConflict, r, "function %s has its earlier code but not its earlier configuration, which "+
			"another process read: deploy it again", prior.ID)
	}
	return nil
}

// text writes a document that was read from JSON.
func text(doc map[string]any) []byte {
	written, err := json.Marshal(doc)
	if err != nil {
		panic("faas/gcp: a document does not marshal: " + err.Error())
	}
	return written
}

// snake writes a path of JSON names in the form of a field mask.
func snake(path string) string {
	var b strings.Builder
	for _, c := range path {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// document reads a resource, and keeps its numbers as they are written.
func document(raw json.RawMessage) map[string]any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc map[string]any
	if dec.Decode(&doc) != nil || doc == nil {
		return map[string]any{}
	}
	return doc
}

// settable returns the fields of a resource that callers may set.
func settable(raw json.RawMessage, output []string) map[string]any {
	doc := document(raw)
	for _, path := range output {
		head, rest, nested := strings.Cut(path, ".")
		if !nested {
			delete(doc, head)
		} else if inner, ok := doc[head].(map[string]any); ok {
			delete(inner, rest)
		}
	}
	return doc
}

// nested lists the members of a resource that are compared, and written, field by field.
var nested = []string{"buildConfig", "serviceConfig"}

// differing returns the paths that differ between two documents, sorted.
func differing(a, b map[string]any) []string {
	var paths []string
	for key := range union(a, b) {
		if !slices.Contains(nested, key) {
			if !equal(a[key], b[key]) {
				paths = append(paths, key)
			}
			continue
		}
		x, _ := a[key].(map[string]any)
		y, _ := b[key].(map[string]any)
		for inner := range union(x, y) {
			if !equal(x[inner], y[inner]) {
				paths = append(paths, key+"."+inner)
			}
		}
	}
	slices.Sort(paths)
	return paths
}

// union returns the set of the keys of both.
func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return all
}

// equal compares two members. A missing member equals an empty one.
func equal(a, b any) bool {
	return isEmpty(a) && isEmpty(b) || reflect.DeepEqual(a, b)
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// copyPath copies the value at a path of one or two members.
func copyPath(to, from map[string]any, path string) {
	head, rest, isNested := strings.Cut(path, ".")
	if !isNested {
		if v, ok := from[head]; ok {
			to[head] = v
		}
		return
	}
	inner, _ := from[head].(map[string]any)
	if to[head] == nil {
		to[head] = map[string]any{}
	}
	if v, ok := inner[rest]; ok {
		to[head].(map[string]any)[rest] = v
	}
}

func labelsOf(doc map[string]any) map[string]string {
	all, _ := doc["labels"].(map[string]any)
	labels := map[string]string{}
	for key, value := range all {
		labels[key] = fmt.Sprint(value)
	}
	return labels
}

// environment returns the values of the environment in a function or service.
func environment(raw json.RawMessage) []string {
	var f struct {
		BuildConfig, ServiceConfig struct{ EnvironmentVariables map[string]string }
	}
	var s run.GoogleCloudRunV2Service
	if json.Unmarshal(raw, &f) != nil || json.Unmarshal(raw, &s) != nil {
		return nil
	}
	values := slices.AppendSeq(runEnvironment(&s), maps.Values(f.BuildConfig.EnvironmentVariables))
	return slices.AppendSeq(values, maps.Values(f.ServiceConfig.EnvironmentVariables))
}
