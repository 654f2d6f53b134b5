package platform

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

const apiPath = "/api/functions"

// ServeHTTP implements the protocol.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // also a body that nobody reads must end, or its connection would be kept for ever
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(p.opts.limits.RequestTimeout))
	}
	if status, err := p.authorize(r); err != nil {
		if r.Body != nil && r.ContentLength != 0 {
			p.discardBody(w, r, 1<<20)
		}
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="functions"`)
		}
		_, f := describe(w, err)
		if status == http.StatusForbidden {
			f.Code = "FORBIDDEN"
		}
		writeJSON(w, status, &f)
		return
	}
	if r.URL.Path == metricsPath {
		if allow(w, r, http.MethodGet, http.MethodHead) {
			p.serveMetrics(w, r)
		}
		return
	}
	id, verb, ok := route(r)
	if !ok {
		writeError(w, notRunError(faas.ErrNotFound, "serve",
			"there is nothing at this path: the calls are below %s, and %s has metrics", apiPath, metricsPath))
		return
	}
	if id == "" && verb == "" {
		if allow(w, r, http.MethodGet, http.MethodHead) {
			p.serveList(w, r)
		}
		return
	}
	if err := checkID(id); err != nil {
		writeError(w, err)
		return
	}
	switch verb {
	case "":
		switch {
		case r.Method == http.MethodPut:
			p.servePut(w, r, id)
		case r.Method == http.MethodDelete:
			p.serveDelete(w, r, id)
		case allow(w, r, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete):
			p.serveGet(w, r, id)
		}
	case "invoke":
		if allow(w, r, http.MethodPost) {
			p.serveInvoke(w, r, id)
		}
	case "warm":
		if allow(w, r, http.MethodPost) {
			p.serveWarm(w, r, id)
		}
	case "restore":
		if allow(w, r, http.MethodPost) {
			p.serveRestore(w, r, id)
		}
	case "health":
		if allow(w, r, http.MethodGet, http.MethodHead) {
			p.serveHealth(w, id)
		}
	case "logs":
		if allow(w, r, http.MethodGet, http.MethodHead) {
			p.serveLogs(w, r, id)
		}
	default:
		writeError(w, notRunError(faas.ErrNotFound, "serve",
			"a function has invoke, health, logs, warm and restore, and not %.60q", verb))
	}
}

// route splits the path. ok is false if the protocol has no such path. The id is unchecked.
func route(r *http.Request) (id, verb string, ok bool) {
	path := r.URL.Path
	if r.URL.RawPath != "" { // something is escaped that need not be: a slash in an id must not look like one between
		path = r.URL.RawPath
	}
	rest, ok := strings.CutPrefix(path, apiPath)
	if !ok || rest == "" {
		return "", "", ok
	}
	if rest[0] != '/' {
		return "", "", false
	}
	id, verb, _ = strings.Cut(rest[1:], "/")
	if r.URL.RawPath != "" {
		if plain, err := url.PathUnescape(id); err == nil {
			id = plain
		}
	}
	return id, verb, id != "" || verb == ""
}

// allow answers 405 unless the request's method is one of methods.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeJSON(w, http.StatusMethodNotAllowed, &failure{
		Error: "this path takes " + strings.Join(methods, ", "), Code: "METHOD_NOT_ALLOWED", Details: map[string]any{},
	})
	return false
}

// zipTypes are the content types of an upload, which may also have none.
var zipTypes = map[string]bool{"": true, "application/zip": true, "application/x-zip-compressed": true,
	"application/octet-stream": true}

func (p *Platform) servePut(w http.ResponseWriter, r *http.Request, id string) {
	d, err := p.newDeployment(w, r, id)
	if err == nil {
		err = p.checkDeployable(d)
	}
	if err != nil { // before the upload is read
		p.discardBody(w, r, int64(p.opts.limits.MaxPackageMB)<<20)
		writeErrorOf(w, id, err)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(p.opts.limits.UploadTimeout))
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := p.onStop(r, func() {
		cancel(errStopping)
		_ = control.SetReadDeadline(time.Now())
	})
	defer stop()
	d.pkg = &arrival{r.Body, control, stop}
	f, err := p.deploy(ctx, d)
	if err != nil {
		if faas.CodeOf(err) == faas.ErrTooLarge {
			p.discardBody(w, r, int64(p.opts.limits.MaxPackageMB)<<20)
		}
		writeErrorOf(w, id, err)
		return
	}
	writeJSON(w, http.StatusOK, f.describe(endpoint(r)))
}

// arrival lifts the deadline of a body once it has arrived, so that the deployment that follows can
// take its own time and is not cut off as if the client were gone.
type arrival struct {
	io.Reader
	control *http.ResponseController
	stop    func()
}

func (a *arrival) Read(b []byte) (int, error) {
	n, err := a.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		a.stop()
		_ = a.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (p *Platform) newDeployment(w http.ResponseWriter, r *http.Request, id string) (*deployment, error) {
	bad := func(format string, args ...any) error {
		return notRunError(faas.ErrInvalidArgument, "deploy", format, args...)
	}
	limit := int64(p.opts.limits.MaxPackageMB) << 20
	if r.ContentLength > limit {
		return nil, notRunError(faas.ErrTooLarge, "deploy", "the zip has %d bytes, the limit is %d", r.ContentLength, limit)
	}
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !zipTypes[strings.ToLower(strings.TrimSpace(contentType))] {
		return nil, notRunError(faas.ErrUnsupported, "deploy",
			"content type %.100q: a function is a zip, sent as application/zip", contentType)
	}
	cfg, err := parseConfig(r.Header.Get("X-Blueprint-Config"), &p.opts.limits)
	if err != nil {
		return nil, err
	}
	fingerprint := r.Header.Get("X-Blueprint-Fingerprint")
	if len(fingerprint) > 128 || strings.ContainsFunc(fingerprint, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}) {
		return nil, bad("header X-Blueprint-Fingerprint is not up to 128 letters and digits")
	}
	service, err := serviceHeader(r)
	if err != nil {
		return nil, err
	}
	replace := false
	switch v := r.Header.Get("X-Blueprint-If-Exists"); strings.ToLower(v) {
	case "", "fail":
	case "replace":
		replace = true
	default:
		return nil, bad("header X-Blueprint-If-Exists is %.60q and neither replace nor fail", v)
	}
	return &deployment{
		record: record{ID: id, Service: service, Fingerprint: fingerprint, Config: cfg}, pkg: r.Body, replace: replace,
		ifRevision: r.Header.Get("X-Blueprint-If-Revision"),
	}, nil
}

// serviceHeader returns the service that the request names, or "".
func serviceHeader(r *http.Request) (string, error) {
	service, err := url.PathUnescape(r.Header.Get("X-Blueprint-Service"))
	if err != nil || len(service) > 512 || strings.ContainsFunc(
		service, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", notRunError(faas.ErrInvalidArgument, "read request",
			"header X-Blueprint-Service is not up to 512 characters, percent-encoded")
	}
	return service, nil
}

// endpoint returns the URL that invokes the function of a PUT or GET, as the client sees this
// server.
func endpoint(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	path, _, _ := strings.Cut(r.RequestURI, "?") // the path before anything stripped a prefix from it
	host := r.Host
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && host == "" { // HTTP/1.0 has none
		host = addr.String()
	}
	return scheme + "://" + host + strings.TrimSuffix(path, "/") + "/invoke"
}

func (p *Platform) serveDelete(w http.ResponseWriter, r *http.Request, id string) {
	service, err := serviceHeader(r)
	if err == nil {
		err = p.remove(r.Context(), id, service)
	}
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"function_id": id, "status": "deleted"})
}
