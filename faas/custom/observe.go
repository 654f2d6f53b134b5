package custom

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// maxList bounds a list of functions, in bytes.
const maxList = 16 << 20

// Observe asks the platform for the function. A platform without extensions cannot report what code
// and configuration a function has; these fields of the state are then empty. On an invoke-only
// platform, a function exists if its URL answers.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	r := request{op: "observe", job: faas.NoJob}
	if e.invokeOnly() {
		return e.probe(ctx, r, id)
	}
	f, err := e.get(ctx, r, id)
	if err != nil {
		return faas.State{}, err
	}
	return e.state(id, f), nil
}

// get returns the platform's description of a function. If the function belongs to another service,
// the error is ErrConflict. With an ErrNotFound, get also returns a function that holds the
// revision of the absence, or nil if the platform gives none.
func (e *Executor) get(ctx context.Context, r request, id string) (*function, error) {
	r.method, r.url = http.MethodGet, e.functionURL(id, "")
	a, err := e.sendSafe(ctx, r)
	if err != nil {
		return nil, err
	}
	switch {
	case a.status == http.StatusNotFound:
		var absent *function
		if revision := decodeProblem(a.body).detail("revision"); revision != "" && len(revision) <= maxRevision {
			absent = &function{Revision: revision}
		}
		return absent, e.errorf(faas.ErrNotFound, r, "the platform has no function %s", id)
	case a.missing():
		return nil, e.byHand(r, a, id)
	case !a.ok():
		return nil, e.statusError(r, a)
	}
	e.kind.CompareAndSwap(kindUnknown, kindDeploys)
	f, err := e.decodeFunction(r, a, id)
	if err != nil {
		return nil, err
	}
	if f.Status == "deleted" {
		return nil, e.errorf(faas.ErrNotFound, r, "the platform has deleted function %s", id)
	}
	f.asOf, _ = http.ParseTime(a.header.Get("Date"))
	return f, e.checkOwner(r, f, id)
}

// checkOwner verifies that a function is the service's: by what the platform says, or by the
// function's id if it says nothing.
func (e *Executor) checkOwner(r request, f *function, id string) error {
	_, ours := kit.ProtocolNames.Job(e.set.service, id)
	switch {
	case f.Service != "" && f.Service != e.set.service:
		return e.errorf(faas.ErrConflict, r, "function %s belongs to service %q", id, e.clean.Line(f.Service, 100))
	case f.Service == "" && !ours:
		return e.errorf(faas.ErrConflict, r, "function %s does not belong to service %q, whose functions are called %s-jobN",
			id, e.set.service, kit.ProtocolNames.Prefix(e.set.service))
	}
	return nil
}

func (e *Executor) decodeFunction(r request, a *answer, id string) (*function, error) {
	var f function
	if err := json.Unmarshal(a.body, &f); err != nil {
		return nil, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is not in the protocol's shape: %s", r.method,
			faas.RedactURL(r.url), e.clean.Excerpt(a.body))
	}
	if f.FunctionID != "" && f.FunctionID != id {
		return nil, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is about function %q", r.method,
			faas.RedactURL(r.url), e.clean.Line(f.FunctionID, 100))
	}
	return &f, nil
}

// private is the part of a state that Restore needs.
type private struct {
	// Seen summarises what even a platform without extensions reports of a function, so that an
	// untouched one is recognised. It is empty if that is too little.
	Seen string `json:"seen"`
	// By identifies the executor that saw the function, and how often it had changed it by then: a
	// platform's description can be the same before and after a change.
	By      string `json:"by,omitempty"`
	Changes int    `json:"changes,omitempty"`
}

func (e *Executor) state(id string, f *function) faas.State {
	status, reason := f.status()
	s := faas.State{
		ID: id, Status: status, Reason: e.clean.Line(reason, maxMessage), Resource: faas.RedactURL(e.functionURL(id, "")),
		PackageSHA256: e.clean.Line(f.PackageSHA256, maxHash), Fingerprint: e.clean.Line(f.ConfigFingerprint, maxHash),
		DeployedAt: parseTime(f.DeployedAt), ColdStart: milliseconds(f.ColdStartMS), NotRestorable: f.notRestorable(),
	}
	if f.Endpoint != "" {
		s.Endpoint = e.clean.Line(faas.RedactURL(f.Endpoint), maxMessage)
	}
	if job, ok := kit.ProtocolNames.Job(e.set.service, id); ok {
		s.JobIDs = []uint32{job}
	}
	if !s.DeployedAt.IsZero() {
		// The platform's own revision also changes when it is asked to restore the current generation.
		s.Revision = fmt.Sprintf("%s/%d/%d/%d", s.DeployedAt.Format(time.RFC3339Nano), count(f.BinarySizeBytes),
			count(f.MemoryMB), count(f.TimeoutSecs))
	}
	text, err := json.Marshal(private{f.seen(), e.name, e.made.get(id).changes})
	if err != nil {
		panic("faas/custom: strings and a number do not marshal: " + err.Error())
	}
	s.Private = text
	return s
}

// maxHash bounds the part of a hash that is kept, in bytes.
const maxHash = 128

// seen returns "" if the platform does not report when the function was deployed: then nothing
// distinguishes one deployment from the next.
func (f *function) seen() string {
	if f.DeployedAt == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %v %v %v", f.DeployedAt, f.Status, f.BinarySizeBytes, f.MemoryMB,
		f.TimeoutSecs))
	return hex.EncodeToString(sum[:16])
}

// notRestorable says why Restore could not restore the function's current state.
func (f *function) notRestorable() string {
	switch status, _ := f.status(); {
	case !f.has(featureRestore):
		return `the platform keeps nothing of a function that is replaced (it does not announce the extension "restore")`
	case f.PackageSHA256 == "" || f.ConfigFingerprint == "":
		return "the platform does not tell what code and configuration the function has"
	case status != faas.StatusReady:
		return "the function does not work, and a platform keeps only what did"
	}
	return ""
}

// probe observes a function of an invoke-only platform.
func (e *Executor) probe(ctx context.Context, r request, id string) (faas.State, error) {
	job, ok := kit.ProtocolNames.Job(e.set.service, id)
	r.method, r.url = http.MethodHead, e.jobURL(job)
	if !ok || r.url == "" {
		return faas.State{}, e.errorf(faas.ErrNotFound, r, "unit %q has no URL on this invoke-only platform", id)
	}
	a, err := e.sendSafe(ctx, r)
	if err != nil {
		return faas.State{}, err
	}
	s := faas.State{ID: id, Status: faas.StatusReady, Resource: faas.RedactURL(r.url), Endpoint: faas.RedactURL(r.url),
		JobIDs: []uint32{job}}
	switch {
	case answersHead(a):
	case a.status >= 500:
		s.Status, s.Reason = faas.StatusFailed, "HEAD answered "+strconv.Itoa(a.status)
	case a.status == http.StatusNotFound || a.status == http.StatusGone:
		return faas.State{}, e.errorf(faas.ErrNotFound, r,
			"nothing answers at %s: on this invoke-only platform the function of job %d has to be deployed by hand",
			faas.RedactURL(r.url), job)
	default:
		return faas.State{}, e.statusError(r, a)
	}
	return s, nil
}

// answersHead reports whether the address exists. A handler that takes only POST answers 405 or
// 501.
func answersHead(a *answer) bool {
	return a.ok() || a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotImplemented
}

// List returns the service's functions. The error is ErrUnsupported on platforms without the
// extension, and on invoke-only ones.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	r := request{op: "list", job: faas.NoJob, method: http.MethodGet,
		url: e.set.base.String() + "/api/functions?service=" + url.QueryEscape(e.set.service), limit: maxList}
	if e.invokeOnly() {
		return nil, e.errorf(faas.ErrUnsupported, r, "an invoke-only platform cannot list its functions")
	}
	a, err := e.sendSafe(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.missing() {
		return nil, e.errorf(faas.ErrUnsupported, r, "the platform cannot list its functions (status %d)", a.status)
	}
	if !a.ok() {
		return nil, e.statusError(r, a)
	}
	var list functionList
	if err := json.Unmarshal(a.body, &list); err != nil || list.Functions == nil {
		return nil, e.errorf(faas.ErrUnsupported, r,
			"the platform cannot list its functions (its answer is in no shape that is known)")
	}
	var states []faas.State
	for i := range list.Functions {
		f := &list.Functions[i]
		if f.Service == "" {
			return nil, e.errorf(faas.ErrUnsupported, r, "the platform cannot list the functions of one service")
		}
		if f.Service == e.set.service && f.FunctionID != "" && f.Status != "deleted" {
			states = append(states, e.state(f.FunctionID, f))
		}
	}
	slices.SortFunc(states, func(a, b faas.State) int { return cmp.Compare(a.ID, b.ID) })
	return states, nil
}
