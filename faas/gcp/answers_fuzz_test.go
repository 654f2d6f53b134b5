//go:build !faas_only || faas_gcp

package gcp

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"cloud.google.com/go/functions/apiv2/functionspb"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// FuzzAnswers feeds answers to everything that reads them. Whatever they hold, the error has a
// code, and its text fits into a log line.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{
		`{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.actAs' denied","status":"PERMISSION_DENIED",` +
			`"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED",` +
			`"metadata":{"service":"x"}}]}}`,
		`{"name":"o","done":true,"error":{"code":3,"message":"Build failed"},` +
			`"metadata":{"buildName":"a/b","stages":[{"name":"BUILD",` +
			`"stateMessages":[{"severity":"ERROR","message":"no\nspace"}]}]}}`,
		`{"name":"f","state":"ACTIVE","labels":{"blueprint-package":"aaaa","blueprint-job":"7"},` +
			`"serviceConfig":{"uri":"https://x","availableMemory":"512Mi"},` +
			`"buildConfig":{"source":{"storageSource":{"generation":"17"}}}}`,
		`{"job_id":1,"success":false,"error":{"a":1},"code":"x"}`, "<html>", "", "null", "\xff\x00",
		`{"success":false,"error":"x","details":{"exit_code":3,"log_tail":"a\nb\u001b[0m"}}`,
	} {
		f.Add(text, 403)
	}
	e, err := New(f.Context(), faas.Config{Service: "fuzz", ProjectID: "test-project"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, status int) {
		check := func(err *faas.Error) {
			if err.Code == "" || len(err.Error()) > 16<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%d bytes, code %q: %q", len(err.Error()), err.Code, err.Error())
			}
		}
		r := request{op: "fuzz", job: 1, method: http.MethodGet, url: "https://example.com/x"}
		a := &answer{status: status, header: http.Header{}, body: []byte(text)}
		check(e.statusError(r, a))
		check(e.invokeError(r, a))
		var op operation
		if json.Unmarshal(a.body, &op) == nil && op.Error != nil {
			check(e.operationError(r, &op))
		}
		for _, host := range []interface {
			read(id string, raw json.RawMessage) (*resource, error)
		}{buildHost{e}, runHost{e}} {
			got, err := host.read("id", a.body)
			if err != nil {
				continue
			}
			if _, err := json.Marshal(e.state(got)); err != nil {
				t.Error(err)
			}
			difference(got.function, &functionspb.Function{}, true)
			environment(a.body)
		}
		p := policy(document(a.body))
		p.drop(everybody)
		if first, again := p.add([]string{everybody}), p.add([]string{everybody}); first == again {
			t.Error("a member that was added is missing, or one that was there was added")
		}
	})
}
