package platform

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// features names the platform's extensions of the protocol.
var features = []string{"replace", "fingerprint", "list", "restore"}

// description is what PUT and GET answer.
type description struct {
	FunctionID      string   `json:"function_id"`
	Endpoint        string   `json:"endpoint,omitempty"`
	Status          string   `json:"status"`
	Error           string   `json:"error,omitempty"`
	ColdStartMS     uint64   `json:"cold_start_ms"` // rounded up: readers take whole numbers
	MemoryMB        uint32   `json:"memory_mb"`
	TimeoutSecs     uint32   `json:"timeout_secs"`
	DeployedAt      string   `json:"deployed_at"`
	BinarySizeBytes int64    `json:"binary_size_bytes"`
	PackageSHA256   string   `json:"package_sha256"`
	Fingerprint     string   `json:"config_fingerprint,omitempty"`
	Service         string   `json:"service,omitempty"`
	Revision        string   `json:"revision"`
	Features        []string `json:"features"`
	// Previous names the generation that can be restored.
	Previous *generation `json:"previous,omitempty"`
}

func (f *function) describe(endpoint string) *description {
	d := &description{
		FunctionID: f.ID, Endpoint: endpoint, Status: "deployed", ColdStartMS: uint64(math.Ceil(max(f.ColdStartMS, 0))),
		MemoryMB: f.Config.MemoryMB, TimeoutSecs: f.Config.TimeoutSecs,
		DeployedAt: f.DeployedAt.Format(time.RFC3339Nano), BinarySizeBytes: f.BinarySize, PackageSHA256: f.PackageSHA256,
		Fingerprint: f.Fingerprint,
		Service:     f.Service, Revision: f.revision(), Features: features,
	}
	if f.Previous != nil && f.Previous.Fingerprint != "" {
		g := f.Previous.generation()
		d.Previous = &g
	}
	if f.broken != nil {
		d.Status, d.Error = "failed", f.broken.Error()
	}
	return d
}

func (p *Platform) serveGet(w http.ResponseWriter, r *http.Request, id string) {
	absence := p.deleted.revision(id) // before it is looked up, so that a deletion in between changes it
	f, err := p.lookup("get", id)
	if err != nil {
		status, answer := describe(w, err)
		answer.FunctionID = id
		if status == http.StatusNotFound {
			answer.Details["revision"] = absence
		}
		writeJSON(w, status, &answer)
		return
	}
	writeJSON(w, http.StatusOK, f.describe(endpoint(r)))
}

func (p *Platform) serveList(w http.ResponseWriter, r *http.Request) {
	functions := p.list(r.URL.Query().Get("service"))
	held := int64(0)
	defer func() { p.buffered.GiveForRequest(held) }()
	if err := p.hold(&held, int64(len(functions))*describedSize); err != nil {
		writeError(w, err)
		return
	}
	list := []*description{}
	for _, f := range functions {
		list = append(list, f.describe(""))
	}
	text, err := json.Marshal(map[string]any{"functions": list, "features": features, "limits": p.declaredLimits()})
	if err != nil {
		writeError(w, err)
		return
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h.Set("Content-Length", strconv.Itoa(len(text)))
	p.writeTo(w, len(text), func() error {
		_, err := w.Write(text)
		return err
	})
}

// describedSize is about what a function takes in a list, as a value and as JSON.
const describedSize = 2 << 10

// crashLoop is how many processes must fail in a row before a function with running ones is
// unhealthy.
const crashLoop = 3

// health returns what is known of a function without running it.
func (f *function) health() faas.Health {
	h := faas.Health{Healthy: f.broken == nil, LastInvocation: f.counts.lastTime(),
		TotalInvocations: f.counts.total.Load()}
	if f.broken != nil {
		h.Reason = f.broken.Error()
		return h
	}
	s := f.pool.Stats()
	var last *faas.Error
	neverStarted := errors.As(s.LastError, &last) && last.NotRun && s.Workers == 0
	if s.Failures >= crashLoop || s.Failures > 0 && neverStarted {
		h.Healthy, h.Reason = false, "the last "+strconv.Itoa(s.Failures)+" processes failed: "+s.LastError.Error()
	}
	return h
}

func (p *Platform) serveHealth(w http.ResponseWriter, id string) {
	f, err := p.lookup("health", id)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	h := f.health()
	answer := struct {
		FunctionID string     `json:"function_id"`
		Status     string     `json:"status"`
		Error      string     `json:"error,omitempty"`
		Last       *time.Time `json:"last_invocation"`
		Total      uint64     `json:"total_invocations"`
	}{id, "healthy", h.Reason, nil, h.TotalInvocations}
	if !h.LastInvocation.IsZero() {
		answer.Last = &h.LastInvocation
	}
	status := http.StatusOK
	if !h.Healthy {
		status, answer.Status = http.StatusServiceUnavailable, "unhealthy"
	}
	writeJSON(w, status, answer)
}
