//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// runHost deploys to Cloud Run without a build: the binary as it is, from a bucket, on a base image of Google's.
type runHost struct{ e *Executor }

// The resources of the Cloud Run Admin API, version 2, as far as they are used.
type runService struct {
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Ingress  string            `json:"ingress,omitempty"`
	Template *runTemplate      `json:"template,omitempty"`
	Etag     string            `json:"etag,omitempty"`

	// Output only.
	URI               string        `json:"uri,omitempty"`
	UpdateTime        string        `json:"updateTime,omitempty"`
	DeleteTime        string        `json:"deleteTime,omitempty"`
	Reconciling       bool          `json:"reconciling,omitempty"`
	TerminalCondition *runCondition `json:"terminalCondition,omitempty"`
}

type runTemplate struct {
	Labels                        map[string]string `json:"labels,omitempty"`
	Containers                    []runContainer    `json:"containers,omitempty"`
	Scaling                       *runScaling       `json:"scaling,omitempty"`
	Timeout                       string            `json:"timeout,omitempty"`
	ServiceAccount                string            `json:"serviceAccount,omitempty"`
	MaxInstanceRequestConcurrency int32             `json:"maxInstanceRequestConcurrency,omitempty"`
	VPCAccess                     *runVPC           `json:"vpcAccess,omitempty"`
}

type runContainer struct {
	Image        string         `json:"image,omitempty"`
	BaseImageURI string         `json:"baseImageUri,omitempty"`
	Command      []string       `json:"command,omitempty"`
	SourceCode   *runSourceCode `json:"sourceCode,omitempty"`
	Env          []runEnv       `json:"env,omitempty"`
	Resources    *runResources  `json:"resources,omitempty"`
}

type runSourceCode struct {
	CloudStorageSource *storageSource `json:"cloudStorageSource,omitempty"`
}

type runEnv struct {
	Name        string          `json:"name"`
	Value       string          `json:"value,omitempty"`
	ValueSource *runValueSource `json:"valueSource,omitempty"`
}

type runValueSource struct {
	SecretKeyRef struct {
		Secret  string `json:"secret"`
		Version string `json:"version,omitempty"`
	} `json:"secretKeyRef"`
}

type runResources struct {
	Limits map[string]string `json:"limits,omitempty"`
}

type runScaling struct {
	MinInstanceCount int32 `json:"minInstanceCount,omitempty"`
	MaxInstanceCount int32 `json:"maxInstanceCount,omitempty"`
}

type runVPC struct {
	Connector string `json:"connector,omitempty"`
	Egress    string `json:"egress,omitempty"`
}

type runCondition struct {
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// source returns where the service's package is; nil where it has none.
func (s *runService) source() *storageSource {
	if s.Template == nil || len(s.Template.Containers) == 0 || s.Template.Containers[0].SourceCode == nil {
		return nil
	}
	return s.Template.Containers[0].SourceCode.CloudStorageSource
}

func (h runHost) files(bin *faas.Binary) ([]faas.PackageFile, error) {
	if bin.Protocols != faas.SpeaksAll {
		return nil, faas.Errorf(faas.ErrUnsupported, "units", faas.GCPFunctions,
			"%s speaks only stdin and stdout, for which mode %s has no adapter: link faas/job, or use mode %s", bin.Path, modeRun, modeBuild)
	}
	return faas.BootstrapFiles(bin), nil
}

func (h runHost) url(below string) string { return h.e.set.runURL + "v2/" + below }

func (h runHost) name(id string) string { return h.e.set.parent() + "/services/" + url.PathEscape(id) }

func (h runHost) get(ctx context.Context, r request, id string) (*resource, error) {
	r.method, r.url = http.MethodGet, h.url(h.name(id))
	var raw json.RawMessage
	if err := h.e.call(ctx, r, true, nil, &raw); err != nil {
		return nil, err
	}
	return h.read(r, id, raw)
}

// read reads a service from its JSON.
func (h runHost) read(r request, id string, raw json.RawMessage) (*resource, error) {
	var s runService
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, h.e.errorf(faas.ErrUnavailable, r, "service %s is not in the API's shape", id)
	}
	got := h.resource(id, &s)
	got.raw = raw
	return got, nil
}

func (h runHost) resource(id string, s *runService) *resource {
	got := &resource{
		id: id, name: cmp.Or(s.Name, h.name(id)), service: cmp.Or(s.Name, h.name(id)), labels: s.Labels, url: s.URI, revision: cmp.Or(s.UpdateTime, s.Etag),
		updatedAt: parseTime(s.UpdateTime), run: s,
	}
	switch condition := s.TerminalCondition; {
	case s.DeleteTime != "":
		got.status, got.reason, got.leaving = faas.StatusPending, "it is being deleted", true
	case s.Reconciling:
		got.status, got.reason = faas.StatusPending, "it is being deployed"
	case condition == nil || condition.State == "CONDITION_SUCCEEDED":
		got.status = faas.StatusReady
	case condition.State == "CONDITION_FAILED":
		got.status, got.reason = faas.StatusFailed, foreign.Line(hiding(s.values())(cmp.Or(condition.Message, condition.Reason, "it is not ready")), maxMessage)
	default:
		got.status, got.reason = faas.StatusPending, "its condition is "+foreign.Line(condition.State, 40)
	}
	return got
}

func (h runHost) list(ctx context.Context, r request) ([]*resource, error) {
	var all []*resource
	for token := ""; ; {
		query := url.Values{"pageSize": {"1000"}}
		if token != "" {
			query.Set("pageToken", token)
		}
		r.method, r.url = http.MethodGet, h.url(h.e.set.parent()+"/services")+"?"+query.Encode()
		var page struct {
			Services      []*runService `json:"services"`
			NextPageToken string        `json:"nextPageToken"`
		}
		if err := h.e.call(ctx, r, true, nil, &page); err != nil {
			return nil, err
		}
		for _, s := range page.Services {
			all = append(all, h.resource(lastSegment(s.Name), s))
		}
		if token = page.NextPageToken; token == "" {
			return all, nil
		}
	}
}

// apply writes the whole service. Cloud Run keeps the old revision until the new one answers.
func (h runHost) apply(ctx context.Context, d *deployment, old *resource, p *transfer.Progress) (*resource, error) {
	r := d.request()
	if old != nil {
		if s := h.e.state(old); s.Status == faas.StatusReady && s.PackageSHA256 == d.sha256 && s.Fingerprint == d.u.Fingerprint() {
			return old, nil
		}
	}
	var from *storageSource
	if old != nil && old.status == faas.StatusReady && old.labels[labelPackage] == labelOfHash(d.sha256) {
		from = old.run.source()
	}
	if from == nil {
		code, err := d.code(ctx, p)
		if err != nil {
			return nil, err
		}
		from = code.Source
	}
	want := d.service(from)
	r.method, r.url = http.MethodPost, h.url(h.e.set.parent()+"/services")+"?serviceId="+url.QueryEscape(d.u.ID)
	if old != nil {
		want.Name, want.Etag = old.name, old.run.Etag
		r.method, r.url = http.MethodPatch, h.url(h.name(d.u.ID))
	}
	p.Step("deploy")
	return h.change(ctx, r, d.u.ID, want, want.Labels, p)
}

// change sends a create or an update, and returns the service once it is done and the API shows it
// with these labels.
func (h runHost) change(ctx context.Context, r request, id string, body any, labels map[string]string, p *transfer.Progress) (*resource, error) {
	var op operation
	if err := h.e.commit(ctx, r, h.e.set.runURL, id, body, &op); err != nil {
		return nil, err
	}
	var raw json.RawMessage
	if err := h.e.await(ctx, r, h.e.set.runURL, id, &op, p, &raw); err != nil {
		return nil, err
	}
	if got, err := h.read(r, id, raw); err == nil && got.url != "" && got.status == faas.StatusReady && got.run.TerminalCondition != nil {
		return got, nil
	}
	return h.e.shown(ctx, r, id, labels)
}

func (h runHost) remove(ctx context.Context, r request, id string) error {
	r.method, r.url = http.MethodDelete, h.url(h.name(id))
	var op operation
	if err := h.e.call(ctx, r, true, nil, &op); err != nil {
		return err
	}
	return h.e.wait(ctx, r, h.e.set.runURL, &op, nil, nil)
}

var (
	runIngressValues = map[string]string{
		"all": "INGRESS_TRAFFIC_ALL", "internal-only": "INGRESS_TRAFFIC_INTERNAL_ONLY", "internal-and-gclb": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
	}
	runEgressValues = map[string]string{"private-ranges-only": "PRIVATE_RANGES_ONLY", "all-traffic": "ALL_TRAFFIC"}
)

// service returns what the deployment wants on Cloud Run.
func (d *deployment) service(from *storageSource) *runService {
	set, scale := d.e.set, d.e.scale(d.f)
	labels := d.e.labels(d.f.JobID, d.sha256, d.u.Fingerprint())
	c := runContainer{
		Image: "scratch", BaseImageURI: set.baseImage, Command: []string{"./bootstrap"}, SourceCode: &runSourceCode{from},
		Resources: &runResources{map[string]string{"memory": quantity(d.f.MemoryMB), "cpu": cmp.Or(scale.cpu, runCPU(d.f.MemoryMB))}},
	}
	for _, name := range slices.Sorted(maps.Keys(d.f.Env)) {
		c.Env = append(c.Env, runEnv{Name: name, Value: d.f.Env[name].Reveal()})
	}
	for _, s := range set.secrets {
		v := &runValueSource{}
		v.SecretKeyRef.Secret, v.SecretKeyRef.Version = s.Secret, s.Version
		if s.ProjectID != "" {
			v.SecretKeyRef.Secret = fmt.Sprintf("projects/%s/secrets/%s", s.ProjectID, s.Secret)
		}
		c.Env = append(c.Env, runEnv{Name: s.Key, ValueSource: v})
	}
	t := &runTemplate{
		Labels: labels, Containers: []runContainer{c}, Timeout: strconv.FormatUint(uint64(d.f.TimeoutSecs), 10) + "s", ServiceAccount: set.serviceAccount,
		MaxInstanceRequestConcurrency: int32(scale.concurrency), Scaling: &runScaling{MinInstanceCount: int32(d.f.KeepWarm), MaxInstanceCount: int32(scale.most)},
	}
	if set.vpcConnector != "" {
		t.VPCAccess = &runVPC{set.vpcConnector, runEgressValues[set.vpcEgress]}
	}
	return &runService{Labels: labels, Ingress: runIngressValues[set.ingress], Template: t}
}

// runCPU is the least number of processors that Cloud Run sells with that much memory, but no fraction of one.
func runCPU(mb uint32) string {
	switch {
	case mb <= 4096:
		return "1"
	case mb <= 8192:
		return "2"
	case mb <= 16384:
		return "4"
	}
	return "8"
}
