//go:build !faas_only || faas_gcp

package gcp

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// The labels of a function record whose it is and what it has, so that one read shows that it is
// unchanged. A label's value has at most 63 characters of a-z, 0-9, dash and underscore. That is
// too few for a SHA-256 in hex; in base 32 it has 52.
const (
	labelPrefix  = "blueprint-"
	labelService = labelPrefix + "service" // kit.CloudRunNames.Prefix of the service
	labelJob     = labelPrefix + "job"
	labelPackage = labelPrefix + "package" // SHA-256 of the package
	labelConfig  = labelPrefix + "config"  // fingerprint of the unit
	labelOptions = labelPrefix + "options" // of the provider options that shape a function
	labelPayload = labelPrefix + "payload" // payloads.Mark of the package, if its function takes the compact form

	labelManaged = "goog-managed-by" // Google's, on the Cloud Run service of a function
)

// labels returns the labels of the deployment's function.
func (d *deployment) labels() map[string]string {
	l := d.e.labels(d.f.JobID, d.sha256, d.u.Fingerprint())
	if d.u.Compact {
		l[labelPayload] = payloads.Mark(d.sha256)
	}
	return l
}

func (e *Executor) labels(job uint32, sha256, fingerprint string) map[string]string {
	l := map[string]string{
		labelService: kit.CloudRunNames.Prefix(e.set.service), labelJob: strconv.FormatUint(uint64(job), 10),
		labelPackage: labelOfHash(sha256), labelConfig: labelOfHash(fingerprint), labelOptions: e.set.shape,
	}
	maps.Copy(l, e.set.labels)
	return l
}

var base32Label = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// labelOfHash writes a hex SHA-256 as a label's value.
func labelOfHash(hash string) string {
	sum, err := hex.DecodeString(hash)
	if err != nil {
		return ""
	}
	return base32Label.EncodeToString(sum)
}

// hashOfLabel is the inverse of labelOfHash. It returns "" for anything else.
func hashOfLabel(value string) string {
	sum, err := base32Label.DecodeString(value)
	if err != nil || len(sum) != sha256.Size {
		return ""
	}
	return hex.EncodeToString(sum)
}

// shapeOf hashes settings into a label's value.
func shapeOf(settings any) string {
	text, err := json.Marshal(settings)
	if err != nil {
		panic("faas/gcp: settings do not marshal: " + err.Error()) // strings, numbers and maps of them always do
	}
	sum := sha256.Sum256(text)
	return base32Label.EncodeToString(sum[:16])
}

// private is what Restore needs of a state.
type private struct {
	Mode string `json:"mode"`
	code
}

// storageSource says where a package is, as a state records it.
type storageSource struct {
	Bucket     string `json:"bucket,omitempty"`
	Object     string `json:"object,omitempty"`
	Generation int64  `json:"generation,omitempty,string"`
}

// code is what a function is made of.
type code struct {
	Source  *storageSource `json:"source,omitempty"`
	Runtime string         `json:"runtime,omitempty"` // that builds it; empty on Cloud Run
}

func (e *Executor) state(got *resource) faas.State {
	s := faas.State{
		ID: got.id, Status: got.status, Reason: got.reason, Resource: got.name, Endpoint: faas.RedactURL(got.url),
		PackageSHA256: hashOfLabel(got.labels[labelPackage]), Fingerprint: hashOfLabel(got.labels[labelConfig]),
		Revision: got.revision, DeployedAt: got.updatedAt, Compact: got.isCompact(),
	}
	if got.labels[labelOptions] != e.set.shape {
		s.Fingerprint = "" // it was deployed with other provider options
	}
	if job, err := strconv.ParseUint(got.labels[labelJob], 10, 32); err == nil {
		s.JobIDs = []uint32{uint32(job)}
	}
	p := private{Mode: e.set.mode}
	switch {
	case got.function != nil:
		p.Runtime = got.function.GetBuildConfig().GetRuntime()
		if from := got.function.GetBuildConfig().GetSource().GetStorageSource(); from != nil {
			p.Source = &storageSource{from.GetBucket(), from.GetObject(), from.GetGeneration()}
		}
	case got.run != nil:
		p.Source = sourceOf(got.run)
	}
	s.NotRestorable = got.notRestorable()
	text, err := json.Marshal(p)
	if err != nil {
		panic("faas/gcp: strings do not marshal: " + err.Error())
	}
	s.Private = text
	return s
}

// isCompact reports whether the labels say that the function accepts the compact form.
func (got *resource) isCompact() bool {
	return payloads.IsMark(got.labels[labelPayload], hashOfLabel(got.labels[labelPackage]))
}

// isLabel reports whether KEY=VALUE is a label that may be set beside those of this package.
func isLabel(pair string) bool {
	key, _, _ := strings.Cut(pair, "=")
	return labelPattern.MatchString(pair) && !strings.HasPrefix(key, labelPrefix) && !strings.HasPrefix(key, "goog")
}

var labelPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}$`)
