package job_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// raw sends a body with the headers of a call, and returns the status, the header and the body of
// the answer.
func (p *httpProcess) raw(t *testing.T, h http.Header, body io.Reader) (status int, header http.Header, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/api/job", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

func TestHTTPAnswersTheRawFormInKind(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, env := range map[string][]string{"Cloud Run": {cloudRunService, cloudRunPort}, "Azure": {azurePort}} {
		t.Run(name, func(t *testing.T) {
			p := startHTTP(t, env...)
			for what, args := range map[string][]byte{
				"nothing": nil, "a NUL": {0}, "all bytes": all, "megabytes": bytes.Repeat(all, 5<<12),
				"another request": request(fails, []byte("x")), "a warm request": []byte(faas.WarmRequest),
			} {
				for how, announced := range map[string]bool{"announced": true, "chunked": false} {
					body := payloads.NewBody(args)
					var reader io.Reader = io.LimitReader(body.Open(), 1<<40) // hides that it is one of our own
					req := payloads.CallHeaders(echo, args)
					if announced {
						reader = bytes.NewReader(mustRead(t, body))
					}
					status, h, answer := p.raw(t, req, reader)
					got, err := payloads.ParseAnswer(h, answer)
					if status != 200 || err != nil || got.JobID != echo || !bytes.Equal(got.Result, args) {
						t.Errorf("%s, %s: status %d, job %d, %d bytes, %v", what, how, status, got.JobID, len(got.Result), err)
					}
				}
			}
			args := []byte("x")
			for what, test := range map[string]struct {
				job  uint32
				want httpAnswer
			}{
				"failure": {fails, httpAnswer{500, `{"job_id":2,"result":[],"success":false,"error":"no luck"}`}},
				"panic":   {panics, httpAnswer{500, `{"job_id":3,"result":[],"success":false,"error":"panic: out of cheese"}`}},
				"unknown job": {99, httpAnswer{404, `{"error":"job 99 does not exist (jobs: [0 1 2 3 4 5 6 7 8 9 10 11])",` +
					`"code":"NOT_FOUND","details":{}}`}},
			} {
				status, _, answer := p.raw(t, payloads.CallHeaders(test.job, args),
					bytes.NewReader(mustRead(t, payloads.NewBody(args))))
				if diff := cmp.Diff(test.want, httpAnswer{status, measured.ReplaceAllString(string(answer), "")}); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", what, diff)
				}
			}
		})
	}
}

func mustRead(t *testing.T, b *payloads.Body) []byte {
	t.Helper()
	text, err := io.ReadAll(b.Open())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A request that was damaged on the way runs nothing.
func TestHTTPRefusesWhatIsNotQuiteTheRawForm(t *testing.T) {
	p := startHTTP(t, cloudRunService, cloudRunPort)
	args := request(echo, []byte{1})
	whole := mustRead(t, payloads.NewBody(args))
	const kind, begin = "Content-Type", "application/octet-stream; blueprint=1; "
	header := func(call ...string) http.Header { return http.Header{kind: call} }
	good := payloads.CallHeaders(echo, args)[kind][0]
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
	}{
		"the parameters are lost":  {header("application/octet-stream"), whole},
		"another version":          {header("application/octet-stream; blueprint=2; job=1; size=0"), nil},
		"another type":             {header("text/plain; blueprint=1; job=1; size=0"), nil},
		"the header is lost":       {header(), whole},
		"the header is twice":      {header(good, good), whole},
		"the body is cut":          {header(good), whole[:len(whole)-1]},
		"the body is longer":       {header(good), append(whole[:len(whole):len(whole)], 0)},
		"the body is as it was":    {header(good), args},
		"the job is missing":       {header(begin + "size=1; first=1"), []byte{0}},
		"the first is missing":     {header(begin + "job=1; size=1"), []byte{0}},
		"the first is too large":   {header(begin + "job=1; size=1; first=256"), []byte{0}},
		"the job is too large":     {header(begin + "job=4294967296; size=1; first=1"), []byte{0}},
		"a field is unknown":       {header(begin + "job=1; size=1; first=1; x=1"), []byte{0}},
		"the size is another":      {header(begin + "job=1; size=99999999999999999999; first=1"), []byte{0}},
		"there is a first of none": {header(begin + "job=1; size=0; first=1"), nil},
	} {
		status, h, answer := p.raw(t, test.header, bytes.NewReader(test.body))
		if status != 400 || payloads.IsCall(h) || !bytes.Contains(answer, []byte(`"code":"INVALID_REQUEST"`)) ||
			!payloads.Refused(status) {
			t.Errorf("%s: status %d, %s", name, status, answer)
		}
	}
	status, _, answer := p.raw(t, payloads.CallHeaders(echo, nil), io.LimitReader(&endless{}, 32<<20+1))
	if status != 413 {
		t.Errorf("a body above the limit: status %d, %s", status, answer)
	}
	status, _, answer = p.raw(t, payloads.CallHeaders(big, uint64Bytes(32<<20+1)),
		bytes.NewReader(mustRead(t, payloads.NewBody(uint64Bytes(32<<20+1)))))
	want := fmt.Sprintf(`{"job_id":9,"result":[],"success":false,`+
		`"error":"the response has %d bytes, the platform's limit is %d","code":"TOO_LARGE"}`, 32<<20+1, 32<<20)
	if got := measured.ReplaceAllString(string(answer), ""); status != 500 || got != want {
		t.Errorf("an output above the limit: status %d, %s", status, got)
	}
	if status, h, _ := p.raw(t, payloads.CallHeaders(big, uint64Bytes(32<<20)),
		bytes.NewReader(mustRead(t, payloads.NewBody(uint64Bytes(32<<20))))); status != 200 || !payloads.IsCall(h) {
		t.Errorf("an output at the limit: status %d", status)
	}
}

// A job can have its answer ready before a proxy has seen the end of the request that it passes
// on. If the answer's length is known, net/http's proxy sometimes breaks such an answer off.
func TestFastAnswersGetThroughAProxy(t *testing.T) {
	p := startHTTP(t, azurePort)
	to, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: p.client.Transport,
		ErrorLog: log.New(io.Discard, "", 0),
	})
	defer proxy.Close()
	args := make([]byte, 8<<20)
	for range 40 {
		body := payloads.NewBody(args)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy.URL, body.Open())
		if err != nil {
			t.Fatal(err)
		}
		req.Header, req.ContentLength = payloads.CallHeaders(echo, args), payloads.Length
		resp, err := proxy.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(answer) != len(args) {
			t.Fatalf("%d bytes of %d: %v", len(answer), len(args), err)
		}
	}
}
