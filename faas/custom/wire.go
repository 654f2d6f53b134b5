package custom

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// deployConfig is the JSON in the header X-Blueprint-Config.
type deployConfig struct {
	MemoryMB       uint32            `json:"memory_mb"`
	TimeoutSecs    uint32            `json:"timeout_secs"`
	MaxConcurrency uint32            `json:"max_concurrency"`
	EnvVars        map[string]string `json:"env_vars"`
}

// function is a platform's description of a function. The members after Error are extensions that a
// platform may omit.
type function struct {
	FunctionID      string  `json:"function_id"`
	Endpoint        string  `json:"endpoint"`
	Status          string  `json:"status"`
	ColdStartMS     float64 `json:"cold_start_ms"`
	MemoryMB        float64 `json:"memory_mb"`
	TimeoutSecs     float64 `json:"timeout_secs"`
	DeployedAt      string  `json:"deployed_at"`
	BinarySizeBytes float64 `json:"binary_size_bytes"`
	Error           any     `json:"error"`

	PackageSHA256     string   `json:"package_sha256"`
	ConfigFingerprint string   `json:"config_fingerprint"`
	Service           string   `json:"service"`
	Revision          string   `json:"revision"`
	Features          []string `json:"features"`

	asOf time.Time // by the platform's clock; zero if it does not tell
}

// The extensions that a platform can announce in "features".
const (
	featureReplace = "replace" // a PUT with X-Blueprint-If-Exists: replace replaces a function in one step
	featureRestore = "restore" // POST /api/functions/{id}/restore puts back what the last PUT replaced
	featureList    = "list"    // GET /api/functions?service=NAME
)

func (f *function) has(feature string) bool { return slices.Contains(f.Features, feature) }

// status translates the platform's word. The protocol knows "deployed" and "deleted"; the others
// are synonyms that platforms use. The reason contains the platform's words unchanged.
func (f *function) status() (faas.Status, string) {
	switch strings.ToLower(f.Status) {
	case "deployed", "ready", "active":
		return faas.StatusReady, ""
	case "failed", "error", "unhealthy":
		reason := problem{Error: f.Error}.text()
		if reason == "" {
			reason = "the platform says that it is " + strings.ToLower(f.Status)
		}
		return faas.StatusFailed, reason
	}
	return faas.StatusPending, "the platform says that its status is " + f.Status
}

// generation names the code and configuration to restore.
type generation struct {
	PackageSHA256     string `json:"package_sha256"`
	ConfigFingerprint string `json:"config_fingerprint"`
}

// functionList is the answer to GET /api/functions.
type functionList struct {
	Functions []function `json:"functions"`
}

// health is the answer to a health check.
type health struct {
	Status           string  `json:"status"`
	LastInvocation   string  `json:"last_invocation"`
	TotalInvocations float64 `json:"total_invocations"`
	Error            any     `json:"error"`
}

// warmed is the answer to a warm-up.
type warmed struct {
	InstancesWarmed *float64 `json:"instances_warmed"`
}

// problem is the platform's error shape, and that of a failed invocation.
type problem struct {
	JobID   *uint32
	Success *bool
	Error   any
	Code    string
	Message string
	Details any
}

// decodeProblem reads as much of an error answer as it understands: a platform that gets one member
// wrong may still say something in another.
func decodeProblem(body []byte) problem {
	var p problem
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return p
	}
	for name, into := range map[string]any{
		"job_id": &p.JobID, "success": &p.Success, "error": &p.Error, "code": &p.Code, "message": &p.Message,
		"details": &p.Details,
	} {
		if text, ok := members[name]; ok {
			_ = json.Unmarshal(text, into)
		}
	}
	return p
}

// text returns the message of an error: "error" if it is a string, or the "message" in or beside
// it.
func (p problem) text() string {
	switch e := p.Error.(type) {
	case string:
		return e
	case map[string]any:
		if message, ok := e["message"].(string); ok {
			return message
		}
	}
	return p.Message
}

// detail returns a string in "details".
func (p problem) detail(name string) string {
	details, _ := p.Details.(map[string]any)
	text, _ := details[name].(string)
	return text
}

// number returns a number in "details".
func (p problem) number(name string) int {
	details, _ := p.Details.(map[string]any)
	n, _ := details[name].(float64)
	if n != n || n < -1<<31 || n > 1<<31-1 {
		return 0
	}
	return int(n)
}

// notRun reports whether the platform says that the job certainly did not start.
func (p problem) notRun() bool {
	details, _ := p.Details.(map[string]any)
	return details["not_run"] == true
}

// How much of a platform's words an error repeats at most, in bytes.
const (
	maxMessage = 500
	maxLog     = 8 << 10
)

func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// milliseconds converts a platform's number, which may be anything.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < float64(1<<63-1)/float64(time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

func count(n float64) uint64 {
	if !(n > 0 && n < 1<<63) {
		return 0
	}
	return uint64(n)
}
