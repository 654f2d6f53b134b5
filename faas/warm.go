package faas

import "encoding/json"

// WarmRequest is the JSON that a provider sends to a function in place of an invocation to start an instance without running a job, and WarmResponse
// what a binary that links faas/job answers. Other binaries answer with an error, and are started all the same.
const (
	WarmRequest  = `{"warm":true}`
	WarmResponse = `{"warm":true}`
)

// IsWarmRequest reports whether body is [WarmRequest], however it is spaced, and also with unknown members. A body that names a job is none.
func IsWarmRequest(body []byte) bool {
	const longest = 4 << 10 // no invocation with large arguments is parsed twice
	if len(body) > longest {
		return false
	}
	if string(body) == WarmRequest {
		return true
	}
	var probe struct {
		Warm  bool            `json:"warm"`
		JobID json.RawMessage `json:"job_id"`
		Args  json.RawMessage `json:"args"`
	}
	return json.Unmarshal(body, &probe) == nil && probe.Warm && probe.JobID == nil && probe.Args == nil
}
