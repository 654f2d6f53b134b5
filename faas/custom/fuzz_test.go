package custom_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// canned answers every request with one status and body.
type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)),
		ContentLength: -1, Request: r}, nil
}

func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `[]`,
		`{"status":"deployed","function_id":"svc-job0","cold_start_ms":1e308,` +
			`"memory_mb":-1,"deployed_at":"2026-01-02T03:04:05Z"}`,
		`{"functions":[{"function_id":"svc-job0","service":"svc"},{}]}`, `{"functions":null}`,
		`{"status":"healthy","total_invocations":1e300}`,
		`{"instances_warmed":1e300}`, `{"result":[1,2,3]}`,
		`{"job_id":0,"result":[],"success":false,"error":{"message":"x"},"code":5,` +
			`"details":{"exit_code":1e300,"log_tail":"x"}}`,
		`{"error":"` + strings.Repeat("é", 600) + `"}`, "\xff\xfe", `{"error":"\ud800"}`,
	} {
		for _, status := range []uint16{200, 404, 500, 503} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status uint16, body string) {
		// Repeated requests would only wait; this tests the decoding.
		if s := status % 600; s == 408 || s == 502 || s == 503 || s == 504 || s < 200 {
			status = 500
		}
		e := open(t, faas.Config{Endpoint: "http://127.0.0.1:1",
			HTTPClient: &http.Client{Transport: canned{int(status % 600), body}}})
		state, err := e.Observe(t.Context(), "svc-job0")
		check(t, err)
		if (err == nil) != (state.Status != "") {
			t.Errorf("state %+v and error %v", state, err)
		}
		_, err = e.List(t.Context())
		check(t, err)
		_, err = e.Health(t.Context(), 0)
		check(t, err)
		n, err := e.Warm(t.Context(), 0, 1)
		check(t, err)
		if n < 0 {
			t.Errorf("%d instances are warm", n)
		}
		r, err := e.Invoke(t.Context(), 0, []byte("x"))
		check(t, err)
		if (r == nil) == (err == nil) {
			t.Errorf("result %v and error %v", r, err)
		}
	})
}

// check verifies that an error has a code and can be printed.
func check(t testing.TB, err error) {
	if err == nil {
		return
	}
	e := asError(t, err)
	if e.Code == "" || e.Provider != faas.Custom {
		t.Errorf("code %q, provider %q: %v", e.Code, e.Provider, err)
	}
	if text := err.Error(); len(text) > 4000 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x1b\n") {
		t.Errorf("the error's text is not fit to be printed: %q", text)
	}
}
