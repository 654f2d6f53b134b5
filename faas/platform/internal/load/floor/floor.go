// Package floor is the job that all contenders of a comparison run, and what is under a platform that runs it: an HTTP handler that runs nothing, and a
// process that only sends back what it reads.
package floor

import (
	"io"
	"net/http"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// JobEcho is the id of the job: its output is its arguments.
const JobEcho = 0

// Args are the arguments of a small call.
var Args = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// LargePayload is the size of the arguments of a large call, in bytes.
const LargePayload = 4 << 20

// PingSize is the size of a small call as a frame.
var PingSize = frame.HeaderSize + len(Args)

// ModeEnv is the environment variable that makes the worker program something else than a job binary: an echo of messages of that many bytes on standard input and
// output, or, with ModeHTTP, an HTTP server with [EmptyHandler].
const (
	ModeEnv  = "LOAD_WORKER"
	ModeHTTP = "http"
)

// InvokePath is where a function is called over HTTP; every contender there is has the same path, so that all parse the same requests.
func InvokePath(function string) string { return "/api/functions/" + function + "/invoke" }

// EmptyHandler returns the floor of every platform with net/http in front: a ServeMux with a handler that reads and answers the same JSON and runs nothing.
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
