package lambdatest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// operation is a routed call.
type operation struct {
	call  Call
	uri   map[string]string // members that the path holds
	serve func(w http.ResponseWriter, r *http.Request, body []byte)
}

// route finds the operation of a request.
func (s *Server) route(r *http.Request, body, zip []byte) (operation, *apiError) {
	if service := signedFor(r); service != "lambda" {
		return s.routeOther(service, r, body)
	}
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i := range segments {
		if text, err := url.PathUnescape(segments[i]); err == nil {
			segments[i] = text
		}
	}
	for _, route := range s.lambdaRoutes() {
		uri, ok := route.match(r.Method, segments)
		if !ok {
			continue
		}
		op := operation{call: Call{Service: "lambda", Operation: route.operation, Qualifier: r.URL.Query().Get("Qualifier"),
			Body: body}, uri: uri}
		op.call.Function = bareName(uri["FunctionName"])
		if arn := uri["Resource"]; arn != "" {
			op.call.Function = bareName(arn)
		}
		op.serve = func(w http.ResponseWriter, r *http.Request, body []byte) {
			answer, err := route.serve(request{r, uri, body, zip, op.call.Function, op.call.Qualifier})
			if err != nil {
				err.write(w, "lambda")
				return
			}
			answer.write(w, route.status)
		}
		return op, nil
	}
	return operation{call: Call{Service: "lambda"}},
		failf(404, "UnknownOperationException", "no operation is at %s %s", r.Method, r.URL.Path)
}

// targets holds the services that name the operation in a header, with the prefix of its name
// there.
var targets = map[string]string{"logs": "Logs_20140328.", "servicequotas": "ServiceQuotasV20190624."}

// routeOther finds the operation of a request to a service other than Lambda.
func (s *Server) routeOther(service string, r *http.Request, body []byte) (operation, *apiError) {
	op := operation{call: Call{Service: service, Body: body}}
	switch service {
	case "iam", "sts":
		form, err := url.ParseQuery(string(body))
		if kind := r.Header.Get("Content-Type"); err != nil || r.Method != "POST" || !strings.HasPrefix(kind,
			"application/x-www-form-urlencoded") {
			return op, failf(400, "MalformedQueryString", "not a form: %s of %q", r.Method, kind)
		}
		op.call.Operation = form.Get("Action")
		op.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) {
			if service == "iam" {
				s.serveIAM(w, form)
			} else {
				s.serveSTS(w, form, s.caller(r))
			}
		}
	case "s3":
		op.call.Operation = s3Operation(r)
		op.serve = s.serveS3
	case "logs", "servicequotas":
		name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targets[service])
		if kind := r.Header.Get("Content-Type"); !ok || kind != "application/x-amz-json-1.1" {
			return op, failf(400, "UnknownOperationException", "target %q, content type %q", r.Header.Get("X-Amz-Target"), kind)
		}
		op.call.Operation = name
		op.serve = func(w http.ResponseWriter, _ *http.Request, body []byte) {
			if service == "logs" {
				s.serveLogs(w, name, body)
			} else {
				s.serveQuotas(w, name, body)
			}
		}
	default:
		return op, failf(404, "UnknownOperationException", "service %s is not known here", service)
	}
	return op, nil
}

// splitZip takes the package out of a request, so that megabytes need not pass through several
// parsers. It leaves one byte of base64 in its place.
func splitZip(body []byte) (rest, zip []byte, err error) {
	start := bytes.Index(body, []byte(`"ZipFile"`))
	if start < 0 || len(body) == 0 || body[0] != '{' {
		return body, nil, nil
	}
	start += len(`"ZipFile"`)
	open := bytes.IndexByte(body[start:], '"')
	if open < 0 {
		return body, nil, nil
	}
	start += open + 1
	end := bytes.IndexByte(body[start:], '"')
	if end < 0 {
		return body, nil, nil
	}
	zip = make([]byte, base64.StdEncoding.DecodedLen(end))
	n, err := base64.StdEncoding.Decode(zip, body[start:start+end])
	return slices.Concat(body[:start], []byte("AA=="), body[start+end:]), zip[:n], err
}

// bareName returns the function's own name, from a name that may be an ARN and have a qualifier.
func bareName(name string) string {
	if parts := strings.Split(name, ":"); len(parts) >= 7 {
		return parts[6]
	}
	name, _, _ = strings.Cut(name, ":")
	return name
}

type route struct {
	method, path string // path with {Member} for what is variable
	operation    string
	status       int
	serve        func(request) (answer, *apiError)
}

func (t route) match(method string, segments []string) (map[string]string, bool) {
	want := strings.Split(strings.Trim(t.path, "/"), "/")
	if method != t.method || len(want) != len(segments) {
		return nil, false
	}
	uri := map[string]string{}
	for i, w := range want {
		switch {
		case strings.HasPrefix(w, "{"):
			uri[strings.Trim(w, "{}")] = segments[i]
		case w != segments[i]:
			return nil, false
		}
	}
	return uri, true
}

// request is a routed request to Lambda.
type request struct {
	*http.Request
	uri            map[string]string
	body           []byte // without the package
	zip            []byte // the package
	name           string // of the function, without a qualifier
	queryQualifier string
}

// qualifier returns the version or alias that the request names, in the query or at the end of the
// name.
func (r request) qualifier() string {
	if r.queryQualifier != "" {
		return r.queryQualifier
	}
	name := r.uri["FunctionName"]
	if parts := strings.Split(name, ":"); len(parts) == 8 {
		return parts[7]
	} else if len(parts) == 2 {
		return parts[1]
	}
	return ""
}

func (s *Server) arn(name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", s.config.Region, s.config.Account, name)
}
