// Package floor holds the job that all contenders run, and the floors below a platform that runs
// it: an HTTP handler that runs nothing, and a process that only echoes what it reads.
package floor

import (
	"io"
	"net/http"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// JobEcho is the id of the job. Its output is its arguments.
const JobEcho = 0

// Args are the arguments of a small call.
var Args = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// LargePayload is the size of the arguments of a large call, in bytes.
const LargePayload = 4 << 20

// PingSize is the size of a small call as a frame.
var PingSize = frame.HeaderSize + len(Args)

// ModeEnv is the environment variable that keeps the worker program from being a job binary. A
// number makes it echo messages of that many bytes from standard input to standard output. ModeHTTP
// makes it an HTTP server with [EmptyHandler].
const (
	ModeEnv  = "LOAD_WORKER"
	ModeHTTP = "http"
)

// InvokePath returns the path that invokes a function. It is the same for every contender, so that
// all parse the same requests.
func InvokePath(function string) string { return "/api/functions/" + function + "/invoke" }

// EmptyHandler returns the floor of every platform on net/http: a ServeMux with a handler that
// reads and answers the same JSON and runs nothing.
func EmptyHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/functions/{id}/invoke", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		jobID, args, err := faas.ParseRequest(nil, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		answer := faas.AppendResponse(nil, &faas.Response{JobID: jobID, Result: args, Success: true})
		if len(answer) > 2048 { // net/http counts what is shorter
			w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		}
		_, _ = w.Write(answer)
	})
	return mux
}
