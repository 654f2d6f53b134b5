package lambdatest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRequestsMustBeSigned(t *testing.T) {
	server := New(Config{})
	defer server.Close()
	for _, test := range []struct{ name, authorization, want string }{
		{"none", "", "MissingAuthenticationTokenException"},
		{"an unknown key", "AWS4-HMAC-SHA256 Credential=AKIDNOBODY/20260101/us-east-1/lambda/aws4_request, " +
			"SignedHeaders=host, Signature=0", "UnrecognizedClientException"},
		{"another region", "AWS4-HMAC-SHA256 Credential=" + accessKey +
			"/20260101/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0", "InvalidSignatureException"},
		{"a wrong signature", "AWS4-HMAC-SHA256 Credential=" + accessKey +
			"/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0", "InvalidSignatureException"},
	} {
		req, err := http.NewRequest("GET", server.URL()+"/2015-03-31/functions", nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.authorization != "" {
			req.Header.Set("Authorization", test.authorization)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Amzn-Errortype") != test.want {
			t.Errorf("%s: %s, %s", test.name, resp.Status, resp.Header.Get("X-Amzn-Errortype"))
		}
	}
	if n := len(server.Calls()); n != 0 {
		t.Errorf("%d calls were let in", n)
	}
}

// miniature is as much of a service model as the checks need, for machines without the official
// one.
const miniature = `{
	"operations": {"PutThing": {"http": {"method": "PUT", "requestUri": "/things/{Name}", "responseCode": 200},
		"input": {"shape": "In"}, "output": {"shape": "Out"}}},
	"shapes": {
		"In": {"type": "structure", "required": ["Name", "Size"], "members": {
			"Name": {"shape": "Name", "location": "uri", "locationName": "Name"},
			"Size": {"shape": "Size"}, "Kind": {"shape": "Kind"},
			"Tags": {"shape": "Tags"}, "List": {"shape": "List"},
			"Marker": {"shape": "Name", "location": "querystring", "locationName": "Marker"}, "Code": {"shape": "Blob"}}},
		"Out": {"type": "structure", "members": {"Size": {"shape": "Size"}}},
		"Name": {"type": "string", "max": 4, "pattern": "[a-z]+"}, "Size": {"type": "integer", "min": 1, "max": 9},
		"Kind": {"type": "string", "enum": ["A", "B"]},
		"Tags": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Kind"}},
		"List": {"type": "list", "member": {"shape": "Size"}, "max": 2},
		"Blob": {"type": "blob"},
		"BadThing": {"type": "structure", "exception": true}
	}
}`

func TestTheModelIsEnforced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service-2.json")
	if err := os.WriteFile(path, []byte(miniature), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := ReadModel(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, query, body, problem string }{
		{"ab", "", `{"Size":1,"Kind":"A","Tags":{"x":"B"},"List":[1,9],"Code":"AAEC"}`, ""},
		{"ab", "?Marker=x", `{"Size":9}`, ""},
		{"ab", "", `{}`, "Size is missing"},
		{"ab", "", `{"Size":1,"Siez":1}`, "Siez is unknown"},
		{"ab", "?mark=x", `{"Size":1}`, "mark is unknown"},
		{"ab", "", `{"Size":"1"}`, "not of type integer"},
		{"ab", "", `{"Size":0}`, "less than 1"},
		{"ab", "", `{"Size":10}`, "more than 9"},
		{"ab", "", `{"Size":1,"Kind":"C"}`, "none of"},
		{"AB", "", `{"Size":1}`, "does not match"},
		{"abcde", "", `{"Size":1}`, "more than 4"},
		{"ab", "", `{"Size":1,"Tags":{"X":"A"}}`, "does not match"},
		{"ab", "", `{"Size":1,"List":[1,2,3]}`, "more than 2"},
		{"ab", "", `{"Size":1,"Code":"*"}`, "not of type blob"},
		{"ab", "", `[]`, "not a JSON object"},
	} {
		req := httptest.NewRequest("PUT", "/things/"+test.name+test.query, nil)
		err := m.checkRequest("PutThing", req, map[string]string{"Name": test.name}, []byte(test.body))
		if (err == nil) != (test.problem == "") || (err != nil && !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%s%s %s: %v, want %q", test.name, test.query, test.body, err, test.problem)
		}
	}
	answer := func(status int, code, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		if code != "" {
			w.Header().Set("X-Amzn-Errortype", code)
		}
		w.WriteHeader(status)
		w.WriteString(body)
		return w
	}
	for want, w := range map[string]*httptest.ResponseRecorder{
		"":           answer(200, "", `{"Size":3}`),
		"unknown":    answer(200, "", `{"Sise":3}`),
		"no error":   answer(400, "WorseThing", `{}`),
		"more than ": answer(200, "", `{"Size":33}`),
	} {
		if err := m.checkAnswer("PutThing", w); (err == nil) != (want == "") ||
			(err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", w.Body, err, want)
		}
	}
}

func TestPackagesAreChecked(t *testing.T) {
	server := New(Config{})
	defer server.Close()
	for name, test := range map[string]struct {
		from packageSource
		want string
	}{
		"nothing":       {packageSource{}, "provide a source"},
		"no zip":        {packageSource{ZipFile: []byte("hello")}, "Could not unzip"},
		"a way out":     {packageSource{ZipFile: packed(t, "../bootstrap", "x")}, "Could not unzip"},
		"a lost bucket": {packageSource{S3Bucket: "b", S3Key: "k"}, "NoSuchBucket"},
	} {
		if _, err := server.unpack(test.from); err == nil || !strings.Contains(err.message, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.CreateBucket("b")
	if _, err := server.unpack(packageSource{S3Bucket: "b", S3Key: "k"}); err == nil || !strings.Contains(err.message,
		"NoSuchKey") {
		t.Errorf("a lost object: %v", err)
	}
	server.CreateBucketIn("eu-west-3", "far")
	if _, err := server.unpack(packageSource{S3Bucket: "far", S3Key: "k"}); err == nil || !strings.Contains(err.message,
		"PermanentRedirect") {
		t.Errorf("a bucket elsewhere: %v", err)
	}
	if _, err := server.unpack(packageSource{ZipFile: packed(t, "bootstrap", "x")}); err != nil {
		t.Error(err)
	}
}

func TestTheModelIsFoundWhereItIs(t *testing.T) {
	m, err := FindModel()
	if err != nil {
		t.Fatal(err)
	}
	if m == nil {
		t.Skip("neither botocore nor the AWS CLI is installed")
	}
	server := New(Config{})
	defer server.Close()
	for _, route := range server.lambdaRoutes() {
		op, ok := m.Operations[route.operation]
		if !ok || op.HTTP.Method != route.method || strings.Trim(op.HTTP.RequestURI, "/") != strings.Trim(route.path, "/") {
			t.Errorf("%s: the model has %+v, the fake %s %s", route.operation, op.HTTP, route.method, route.path)
		}
		// Older versions of Lambda answer 204, newer ones 200.
		if ok && op.HTTP.ResponseCode != route.status && route.operation != "DeleteFunction" {
			t.Errorf("%s: the model answers %d, the fake %d", route.operation, op.HTTP.ResponseCode, route.status)
		}
	}
}
