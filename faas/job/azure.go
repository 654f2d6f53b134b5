package job

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// serveAzure serves a custom handler's HTTP, only on loopback, since only the Functions host on
// this machine may call.
func (p *process) serveAzure(ctx context.Context) error {
	port, err := p.port(azurePortEnv)
	if err != nil {
		return err
	}
	s := &httpServer{process: p, maxBody: maxAzureBody}
	s.envelope = s.invokeEnvelope
	return p.listen(ctx, "127.0.0.1:"+port, s)
}

// envelope is what the host sends unless host.json asks it to forward requests. Data has one
// member for each input binding.
type envelope struct {
	Data     map[string]json.RawMessage
	Metadata json.RawMessage
}

// answer is the envelope that the host expects in return.
type envelopeAnswer struct {
	Outputs     map[string]any
	Logs        []string
	ReturnValue any
}

// httpOutput is the value of an HTTP output binding.
type httpOutput struct {
	StatusCode int               `json:"statusCode"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
}

// outputBinding is the name that function.json gives the HTTP output.
const outputBinding = "res"

// invokeEnvelope answers a request in the host's envelope, and reports whether body is one. The
// answer to an HTTP trigger holds the HTTP response that a forwarded request would have got. For
// any other trigger, such as a queue's, the item is the request and the answer is the return
// value; a failure fails the function, which the host may try again.
func (s *httpServer) invokeEnvelope(w http.ResponseWriter, r *http.Request, body []byte) bool {
	var e envelope
	if json.Unmarshal(body, &e) != nil || len(e.Data) == 0 {
		return false
	}
	item, isHTTP := e.item()
	status, answer := s.answerItem(r.Context(), item)
	reply := envelopeAnswer{Outputs: map[string]any{}, Logs: []string{}}
	switch {
	case isHTTP:
		reply.Outputs[outputBinding] = httpOutput{status, map[string]string{"Content-Type": "application/json"},
			string(answer)}
	case status != http.StatusOK:
		writeJSON(w, http.StatusInternalServerError, answer)
		return true
	default:
		reply.ReturnValue = string(answer)
	}
	text, err := json.Marshal(reply)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "INTERNAL", "encoding the answer: "+err.Error())
		return true
	}
	writeJSON(w, http.StatusOK, text)
	return true
}

// item returns the request inside the envelope, and whether an HTTP trigger brought it. What this
// module deploys has one trigger and no other input binding.
func (e *envelope) item() (item []byte, isHTTP bool) {
	for _, data := range e.Data {
		var request struct {
			Method string
			Body   json.RawMessage
		}
		if json.Unmarshal(data, &request) == nil && request.Method != "" {
			return unquote(request.Body), true
		}
		item = unquote(data)
	}
	return item, false
}

// unquote returns the text of a JSON string, and any other JSON unchanged: the host passes JSON
// on in either form.
func unquote(data json.RawMessage) []byte {
	var text string
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(`"`)) && json.Unmarshal(data, &text) == nil {
		return []byte(text)
	}
	return data
}

// answerItem is answerCall for a request that is not parsed yet.
func (s *httpServer) answerItem(ctx context.Context, item []byte) (int, []byte) {
	if faas.IsWarmRequest(item) {
		return http.StatusOK, []byte(faas.WarmResponse)
	}
	id, args, compact, err := faas.ParseAnyRequest(nil, item)
	if err != nil {
		return http.StatusBadRequest, appendError(nil, "INVALID_REQUEST", err.Error())
	}
	return s.answerCall(ctx, nil, id, args, compact)
}
