package platform

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// failure is the protocol's shape of an error, with the members that some calls add.
type failure struct {
	JobID      *uint32        `json:"job_id,omitempty"`
	Result     *[]int         `json:"result,omitempty"`
	Success    *bool          `json:"success,omitempty"`
	FunctionID string         `json:"function_id,omitempty"`
	Error      string         `json:"error"`
	Code       string         `json:"code"`
	Details    map[string]any `json:"details"`
}

// codes maps error codes to what the protocol's clients see.
var codes = map[faas.Code]struct {
	status int
	name   string
}{
	faas.ErrNotFound:         {http.StatusNotFound, "NOT_FOUND"},
	faas.ErrAlreadyExists:    {http.StatusConflict, "ALREADY_EXISTS"},
	faas.ErrConflict:         {http.StatusConflict, "CONFLICT"},
	faas.ErrInvalidArgument:  {http.StatusBadRequest, "INVALID_ARGUMENT"},
	faas.ErrTooLarge:         {http.StatusRequestEntityTooLarge, "TOO_LARGE"},
	faas.ErrPermissionDenied: {http.StatusUnauthorized, "UNAUTHORIZED"},
	faas.ErrThrottled:        {http.StatusTooManyRequests, "THROTTLED"},
	faas.ErrTimeout:          {http.StatusInternalServerError, "TIMEOUT"},
	faas.ErrUnavailable:      {http.StatusServiceUnavailable, "UNAVAILABLE"},
	faas.ErrUnsupported:      {http.StatusUnsupportedMediaType, "UNSUPPORTED"},
	faas.ErrFunctionFailed:   {http.StatusInternalServerError, "FUNCTION_FAILED"},
}

// describe turns an error into a status and the protocol's shape.
func describe(w http.ResponseWriter, err error) (int, failure) {
	code, ok := codes[faas.CodeOf(err)]
	if !ok {
		code.status, code.name = http.StatusInternalServerError, "INTERNAL"
	}
	f := failure{Error: err.Error(), Code: code.name, Details: map[string]any{}}
	var e *faas.Error
	if errors.As(err, &e) {
		if e.Err != nil {
			f.Error = e.Err.Error()
		}
		if e.NotRun {
			f.Details["not_run"] = true
		}
		if e.RetryAfter > 0 || e.Code == faas.ErrUnavailable && e.NotRun {
			w.Header().Set("Retry-After", strconv.Itoa(max(1, int(e.RetryAfter/time.Second))))
		}
	}
	var cause *faas.FunctionError
	if errors.As(err, &cause) {
		f.Error = cause.Error()
		if cause.Type == "" && cause.Message != "" {
			f.Error = cause.Message // the job's own words
		}
		if cause.Type != "" {
			f.Details["type"], f.Details["message"] = cause.Type, cause.Message
		}
		if cause.ExitCode != 0 {
			f.Details["exit_code"] = cause.ExitCode
		}
		if cause.LogTail != "" {
			f.Details["log_tail"] = cause.LogTail
		}
	}
	return code.status, f
}

func writeError(w http.ResponseWriter, err error) {
	status, f := describe(w, err)
	writeJSON(w, status, &f)
}

// writeErrorOf answers a call of a function that failed.
func writeErrorOf(w http.ResponseWriter, id string, err error) {
	status, f := describe(w, err)
	f.FunctionID = id
	writeJSON(w, status, &f)
}

// writeInvokeError answers a failed invocation. Once the function was reached, the protocol
// requires 500, whatever the reason.
func writeInvokeError(w http.ResponseWriter, id string, jobID uint32, err error) {
	status, f := describe(w, err)
	if status == http.StatusRequestEntityTooLarge && f.Details["not_run"] == nil {
		status = http.StatusInternalServerError // the answer was
	}
	if f.Details["not_run"] != nil {
		f.FunctionID = id
	}
	success := false
	f.JobID, f.Result, f.Success = &jobID, &[]int{}, &success
	writeJSON(w, status, &f)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError,
			[]byte(`{"error":"the answer cannot be written as JSON","code":"INTERNAL","details":{}}`)
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that is gone has no use for the error
}
