//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	run "google.golang.org/api/run/v2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// runHost deploys to Cloud Run without a build. The binary comes from a bucket as it is, and runs
// on one of Google's base images.
type runHost struct{ e *Executor }

// sourceOf returns where a service's package is, or nil if the service has none.
func sourceOf(s *run.GoogleCloudRunV2Service) *storageSource {
	if s.Template == nil || len(s.Template.Containers) == 0 || s.Template.Containers[0].SourceCode == nil {
		return nil
	}
	from := s.Template.Containers[0].SourceCode.CloudStorageSource
	if from == nil {
		return nil
	}
	return &storageSource{from.Bucket, from.Object, from.Generation}
}

func (h runHost) files(bin *faas.Binary) ([]faas.PackageFile, error) {
	if bin.Protocols != faas.SpeaksAll {
		return nil, faas.Errorf(faas.ErrUnsupported, "units", faas.GCPFunctions,
			"%s speaks only stdin and stdout, for which mode %s has no adapter: link faas/job, or use mode %s", bin.Path,
			modeRun, modeBuild)
	}
	return faas.BootstrapFiles(bin), nil
}

func (h runHost) name(id string) string { return h.e.set.parent() + "/services/" + id }

func (h runHost) get(ctx context.Context, r request, id string) (*resource, error) {
	var s *run.GoogleCloudRunV2Service
	x, err := h.e.call(ctx, r, true, func(ctx context.Context) (err error) {
		s, err = h.e.run.Services.Get(h.name(id)).Context(ctx).Do()
		return err
	})
	if err != nil {
		return nil, err
	}
	got := h.resource(id, s)
	got.raw = x.body
	return got, nil
}

// read reads a service from its JSON.
func (h runHost) read(id string, raw json.RawMessage) (*resource, error) {
	s := &run.GoogleCloudRunV2Service{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	got := h.resource(id, s)
	got.raw = raw
	return got, nil
}

func (h runHost) resource(id string, s *run.GoogleCloudRunV2Service) *resource {
	got := &resource{
		id: id, name: cmp.Or(s.Name, h.name(id)), service: cmp.Or(s.Name, h.name(id)), labels: s.Labels, url: s.Uri,
		revision:  cmp.Or(s.UpdateTime, s.Etag),
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
		said := cmp.Or(condition.Message, condition.Reason, "it is not ready")
		got.status, got.reason = faas.StatusFailed, sanitize.Line(hiding(runEnvironment(s))(said), maxMessage)
	default:
		got.status, got.reason = faas.StatusPending, "its condition is "+sanitize.Line(condition.State, 40)
	}
	return got
}

// runEnvironment returns the values of a service's environment.
func runEnvironment(s *run.GoogleCloudRunV2Service) []string {
	var values []string
	if s.Template == nil {
		return nil
	}
	for _, c := range s.Template.Containers {
		for _, env := range c.Env {
			values = append(values, env.Value)
		}
	}
	return values
}

func (h runHost) list(ctx context.Context, r request) ([]*resource, error) {
	var all []*resource
	_, err := h.e.call(ctx, r, true, func(ctx context.Context) error {
		all = nil
		return h.e.run.Services.List(h.e.set.parent()).PageSize(1000).Pages(
			ctx, func(page *run.GoogleCloudRunV2ListServicesResponse) error {
				for _, s := range page.Services {
					all = append(all, h.resource(lastSegment(s.Name), s))
				}
				return nil
			})
	})
	return all, err
}

// apply writes the whole service. Cloud Run keeps the old revision until the new one answers.
func (h runHost) apply(ctx context.Context, d *deployment, old *resource, p *httputil.Progress) (*resource, error) {
	r := d.request()
	if old != nil {
		if s := h.e.state(old); s.Status == faas.StatusReady && s.PackageSHA256 == d.sha256 &&
			s.Fingerprint == d.u.Fingerprint() && (s.Compact || !d.u.Compact) {
			return old, nil
		}
	}
	var from *storageSource
	if old != nil && old.status == faas.StatusReady && old.labels[labelPackage] == labelOfHash(d.sha256) {
		from = sourceOf(old.run)
	}
	if from == nil {
		code, err := d.code(ctx, p)
		if err != nil {
			return nil, err
		}
		from = code.Source
	}
	want := d.service(from)
	p.Step("deploy")
	c := change{request: r, id: d.u.ID, labels: want.Labels, p: p}
	if old == nil {
		return h.create(ctx, c, want)
	}
	want.Etag = old.run.Etag
	return h.replace(ctx, c, want)
}

// create creates a service.
func (h runHost) create(ctx context.Context, c change, s *run.GoogleCloudRunV2Service) (*resource, error) {
	return h.e.change(ctx, c, func(ctx context.Context) error {
		_, err := h.e.run.Services.Create(h.e.set.parent(), s).ServiceId(c.id).Context(ctx).Do()
		return err
	})
}

// replace replaces a service.
func (h runHost) replace(ctx context.Context, c change, s *run.GoogleCloudRunV2Service) (*resource, error) {
	s.Name = h.name(c.id)
	return h.e.change(ctx, c, func(ctx context.Context) error {
		_, err := h.e.run.Services.Patch(s.Name, s).Context(ctx).Do()
		return err
	})
}

// isWhole reports whether the API has returned all of a service that is done.
func (h runHost) isWhole(got *resource) bool {
	return got.url != "" && got.status == faas.StatusReady && got.run.TerminalCondition != nil
}

// putBack writes the whole earlier service. Its package is still in the bucket, because packages
// are removed with the last function.
func (h runHost) putBack(ctx context.Context, r request, was *reading, id string, now *resource) (*resource, error) {
	want := settable(was.raw, serviceOutput)
	if template, ok := want["template"].(map[string]any); ok {
		delete(template, "revision") // the name is taken
	}
	c := change{request: r, id: id, raw: text(want), labels: labelsOf(want)}
	if now == nil {
		return h.create(ctx, c, &run.GoogleCloudRunV2Service{})
	}
	if now.status == faas.StatusReady && len(differing(settable(now.raw, serviceOutput), want)) == 0 {
		return now, nil
	}
	want["name"], want["etag"] = now.name, now.run.Etag
	c.raw = text(want)
	return h.replace(ctx, c, &run.GoogleCloudRunV2Service{})
}

// serviceOutput lists the paths of a service that only Google sets.
var serviceOutput = []string{
	"@type", "name", "uid", "generation", "createTime", "updateTime", "deleteTime", "expireTime", "creator",
	"lastModifier", "observedGeneration",
	"terminalCondition", "conditions", "latestReadyRevision", "latestCreatedRevision", "trafficStatuses", "uri", "urls",
	"satisfiesPzs", "reconciling", "etag",
}

func (h runHost) remove(ctx context.Context, r request, id string) error {
	op, err := h.e.begin(ctx, r, true, nil, func(ctx context.Context) error {
		_, err := h.e.run.Services.Delete(h.name(id)).Context(ctx).Do()
		return err
	})
	if err != nil {
		return err
	}
	_, err = h.e.wait(ctx, r, op, nil)
	return err
}

func (h runHost) operation(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := h.e.run.Operations.Get(name).Context(ctx).Do()
		return err
	}
}

var (
	runIngressValues = map[string]string{
		"all": "INGRESS_TRAFFIC_ALL", "internal-only": "INGRESS_TRAFFIC_INTERNAL_ONLY",
		"internal-and-gclb": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
	}
	runEgressValues = map[string]string{"private-ranges-only": "PRIVATE_RANGES_ONLY", "all-traffic": "ALL_TRAFFIC"}
)

// service returns the wanted service on Cloud Run.
func (d *deployment) service(from *storageSource) *run.GoogleCloudRunV2Service {
	set, scale := d.e.set, d.e.scale(d.f)
	labels := d.labels()
	c := &run.GoogleCloudRunV2Container{
		Image: "scratch", BaseImageUri: set.baseImage, Command: []string{"./bootstrap"},
		SourceCode: &run.GoogleCloudRunV2SourceCode{CloudStorageSource: &run.GoogleCloudRunV2CloudStorageSource{
			Bucket: from.Bucket, Object: from.Object, Generation: from.Generation,
		}},
		Resources: &run.GoogleCloudRunV2ResourceRequirements{
			Limits: map[string]string{"memory": quantity(d.f.MemoryMB), "cpu": cmp.Or(scale.cpu, runCPU(d.f.MemoryMB))},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(d.f.Env)) {
		c.Env = append(c.Env, &run.GoogleCloudRunV2EnvVar{Name: name, Value: d.f.Env[name].Reveal()})
	}
	for _, s := range set.secrets {
		of := &run.GoogleCloudRunV2SecretKeySelector{Secret: s.Secret, Version: s.Version}
		if s.ProjectID != "" {
			of.Secret = fmt.Sprintf("projects/%s/secrets/%s", s.ProjectID, s.Secret)
		}
		c.Env = append(c.Env, &run.GoogleCloudRunV2EnvVar{
			Name: s.Key, ValueSource: &run.GoogleCloudRunV2EnvVarSource{SecretKeyRef: of}})
	}
	t := &run.GoogleCloudRunV2RevisionTemplate{
		Labels: labels, Containers: []*run.GoogleCloudRunV2Container{c}, ServiceAccount: set.serviceAccount,
		Timeout:                       strconv.FormatUint(uint64(d.f.TimeoutSecs), 10) + "s",
		MaxInstanceRequestConcurrency: int64(scale.concurrency),
		Scaling: &run.GoogleCloudRunV2RevisionScaling{
			MinInstanceCount: int64(d.f.KeepWarm), MaxInstanceCount: int64(scale.most)},
	}
	if set.vpcConnector != "" {
		t.VpcAccess = &run.GoogleCloudRunV2VpcAccess{Connector: set.vpcConnector, Egress: runEgressValues[set.vpcEgress]}
	}
	return &run.GoogleCloudRunV2Service{Labels: labels, Ingress: runIngressValues[set.ingress], Template: t}
}

// runCPU returns the smallest whole number of processors that Cloud Run sells with that much
// memory.
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
