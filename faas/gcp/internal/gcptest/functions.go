package gcptest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// uploaded is an upload URL and what was put there.
type uploaded struct{ zip []byte }

// operation is a long-running operation.
type operation struct {
	name string
	done chan struct{}
	// Set before done is closed.
	err  *Status
	doc  map[string]any
	kind string
}

const uploadBucket = "gcf-v2-uploads-123456789-test"

func query(w http.ResponseWriter, r *http.Request, allowed ...string) (url.Values, bool) {
	values := r.URL.Query()
	for name := range values {
		if !slices.Contains(append(allowed, "alt", "$alt", "prettyPrint", "key", "fields", "quotaUser"), name) {
			fail(w, 400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unknown name \""+name+
				"\": Cannot bind query parameter.")
			return nil, false
		}
	}
	return values, true
}

func (s *Server) generateUploadURL(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("upload-%d.zip", s.next())
	s.uploads[name] = &uploaded{}
	to := s.URL + "/signed/" + name + "?X-Goog-Algorithm=GOOG4-RSA-SHA256" +
		"&X-Goog-SignedHeaders=content-type%3Bhost&X-Goog-Signature=secret-signature"
	if s.SignLengthRange {
		to = strings.Replace(to, "%3Bhost", "%3Bhost%3Bx-goog-content-length-range", 1)
	}
	reply(w, map[string]any{"uploadUrl": to, "storageSource": map[string]any{"bucket": uploadBucket, "object": name}})
}

func (s *Server) putUpload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.uploads[strings.TrimPrefix(r.URL.Path, "/signed/")]
	switch {
	case up == nil || r.Method != http.MethodPut:
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
	case r.Header.Get("Authorization") != "":
		http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
	case r.Header.Get("Content-Type") != "application/zip":
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
	case s.SignLengthRange && r.Header.Get("X-Goog-Content-Length-Range") != "0,104857600":
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
	case r.ContentLength != int64(len(body)):
		http.Error(w, "<Error><Code>MissingContentLength</Code></Error>", http.StatusLengthRequired)
	default:
		up.zip = body
	}
}

func (s *Server) runtimes() []Runtime {
	if s.Runtimes != nil {
		return s.Runtimes
	}
	return []Runtime{
		{"go124", "DEPRECATED", "GEN_2"}, {"go125", "GA", "GEN_1"}, {"go125", "GA", "GEN_2"}, {"go126", "GA", "GEN_2"},
		{"go127", "BETA", "GEN_2"}, {"nodejs24", "GA", "GEN_2"},
	}
}

func (s *Server) listRuntimes(w http.ResponseWriter, r *http.Request) {
	if _, ok := query(w, r, "filter"); ok {
		var all []any
		for _, one := range s.runtimes() {
			all = append(all, map[string]any{"name": one.Name, "stage": one.Stage, "environment": one.Environment})
		}
		s.answer(w, r, map[string]any{"runtimes": all})
	}
}

func (s *Server) createFunction(w http.ResponseWriter, r *http.Request, parent string) {
	q, ok := query(w, r, "functionId")
	if !ok {
		return
	}
	body, _ := io.ReadAll(r.Body)
	id := q.Get("functionId")
	doc, err := s.readFunction(r, body, true)
	switch {
	case err != nil:
		malformed(w, "function", err)
		return
	case !idPattern.MatchString(id):
		fail(w, 400, "INVALID_ARGUMENT", "function id "+id+" is not valid")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := parent + "/functions/" + id
	op := s.newOperation(parent, "CREATE_FUNCTION")
	if s.fns[name] != nil { // the API says so only in the operation
		s.finish(op, &Status{Code: 6, Message: "Resource '" + name + "' already exists"}, nil)
		s.answer(w, r, op.start())
		return
	}
	set(doc, "name", name)
	set(doc, "createTime", s.now())
	defaults(doc)
	if err := s.checkWhole(doc); err != nil {
		malformed(w, "service_config", err)
		return
	}
	s.fns[name] = &deployed{doc: doc}
	if s.runs[strings.Replace(name, "/functions/", "/services/", 1)] != nil { // what was begun stays, and is of no use
		set(doc, "state", "FAILED")
		set(doc, "updateTime", s.now())
		s.finish(op, &Status{Code: 6, Message: "Could not create Cloud Run service " + id +
			". A Cloud Run service with this name already exists. Please redeploy the function with a different name."}, nil)
		s.answer(w, r, op.start())
		return
	}
	s.deploy(op, s.fns[name], doc, "create")
	s.answer(w, r, op.start())
}

// defaults fills in the values that Google chooses if none is asked for.
func defaults(doc map[string]any) {
	for path, value := range map[string]any{
		"serviceConfig.timeoutSeconds": 60.0, "serviceConfig.availableMemory": "256M",
		"serviceConfig.maxInstanceCount":              100.0,
		"serviceConfig.maxInstanceRequestConcurrency": 1.0, "serviceConfig.ingressSettings": "ALLOW_ALL",
		"serviceConfig.serviceAccountEmail": "123456789-compute@developer.gserviceaccount.com", "environment": "GEN_2",
		"buildConfig.dockerRepository": "projects/p/locations/r/repositories/gcf-artifacts",
		"buildConfig.serviceAccount":   "projects/p/serviceAccounts/123456789-compute@developer.gserviceaccount.com",
	} {
		if at(doc, path) == nil {
			set(doc, path, value)
		}
	}
	if at(doc, "serviceConfig.availableCpu") == nil {
		set(doc, "serviceConfig.availableCpu", defaultCPU(mebibytes(str(doc, "serviceConfig.availableMemory"))))
	}
}

func (s *Server) patchFunction(w http.ResponseWriter, r *http.Request, name string) {
	q, ok := query(w, r, "updateMask")
	if !ok {
		return
	}
	body, _ := io.ReadAll(r.Body)
	doc, err := s.readFunction(r, body, false)
	var mask []string
	if err == nil && q.Get("updateMask") != "" {
		mask, err = checkMask(q.Get("updateMask"))
	}
	if err != nil {
		malformed(w, "function", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.fns[name]
	switch {
	case old == nil:
		fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
		return
	case str(old.doc, "state") == "DEPLOYING" || str(old.doc, "state") == "DELETING":
		fail(w, 409, "ABORTED", "unable to queue the operation")
		return
	}
	next := clone(old.doc)
	if mask == nil {
		for key, value := range doc {
			next[key] = value
		}
	}
	for _, path := range mask {
		set(next, path, at(doc, path))
	}
	defaults(next)
	err = s.checkWhole(next)
	switch {
	case err != nil:
		malformed(w, "service_config", err)
		return
	case str(old.doc, "state") != "ACTIVE" && mask != nil &&
		!slices.ContainsFunc(mask, func(path string) bool {
			return strings.HasPrefix(path, "buildConfig.source") || path == "buildConfig"
		}):
		fail(w, 400, "FAILED_PRECONDITION", "Precondition failed. Cannot update a GCF function without sourceUrl.")
		return
	}
	op := s.newOperation(name[:strings.Index(name, "/functions/")], "UPDATE_FUNCTION")
	s.deploy(op, old, next, "update")
	s.answer(w, r, op.start())
}

// deploy builds and starts what doc asks for, in the background. The caller holds the lock.
func (s *Server) deploy(op *operation, d *deployed, doc map[string]any, method string) {
	id := str(doc, "name")[strings.LastIndex(str(doc, "name"), "/")+1:]
	set(d.doc, "state", "DEPLOYING")
	set(d.doc, "updateTime", s.now())
	zip, source, lost := s.source(id, doc, method)
	s.work.Go(func() {
		var status *Status
		if s.Build != nil {
			status = s.Build(method, id)
		}
		var started *instance
		if status == nil && lost != nil {
			status = &Status{Code: 3, Message: lost.Error()}
		}
		if status == nil {
			started, status = s.bring(zip, doc, id)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if status != nil {
			state := "FAILED"
			if d.instance != nil {
				state = "ACTIVE" // the old revision goes on
			}
			set(d.doc, "state", state)
			set(d.doc, "updateTime", s.now())
			s.finish(op, status, nil)
			return
		}
		d.instance.retire()
		d.instance, d.doc = started, doc
		service := strings.Replace(str(doc, "name"), "/functions/", "/services/", 1)
		for path, value := range map[string]any{
			"state": "ACTIVE", "updateTime": s.now(), "url": s.functionURL(service),
			"serviceConfig.uri": s.functionURL(service), "serviceConfig.service": service,
			"serviceConfig.revision":       fmt.Sprintf("%s-%05d", id, s.next()),
			"buildConfig.source":           map[string]any{"storageSource": source},
			"buildConfig.sourceProvenance": map[string]any{"resolvedStorageSource": source},
			"buildConfig.build":            "projects/123456789/locations/us-central1/builds/b-1",
		} {
			set(d.doc, path, value)
		}
		if s.iam[service] == nil {
			s.iam[service] = &policy{Etag: etag(0)}
		}
		s.finish(op, nil, clone(d.doc))
	})
}

// source returns the source from which to build a function. The source of its last build is not
// copied again. The caller holds the lock.
func (s *Server) source(id string, doc map[string]any, method string) ([]byte, map[string]any, error) {
	from, _ := at(doc, "buildConfig.source.storageSource").(map[string]any)
	if method == "update" {
		if all := s.sources[str(from, "object")]; len(all) > 0 && str(from, "bucket") == sourceBucket &&
			all[len(all)-1].generation == from["generation"] {
			return all[len(all)-1].zip, from, nil
		}
	}
	return s.copySource(id, from)
}

// checkWhole refuses a function whose fields do not go together.
func (s *Server) checkWhole(doc map[string]any) error {
	if runtime := str(doc, "buildConfig.runtime"); !s.deploys(runtime) {
		return fmt.Errorf("runtime %q is not supported: it was decommissioned", runtime)
	}
	cpu, _ := strconv.ParseFloat(str(doc, "serviceConfig.availableCpu"), 64)
	concurrency, _ := at(doc, "serviceConfig.maxInstanceRequestConcurrency").(float64)
	return checkCPU(cpu, mebibytes(str(doc, "serviceConfig.availableMemory")), concurrency)
}

// bring builds a function and makes an instance of it, which starts with the first request.
func (s *Server) bring(zip []byte, doc map[string]any, id string) (*instance, *Status) {
	work, err := s.builder.Build(zip, str(doc, "buildConfig.entryPoint"), s.LoseExecutable)
	if err != nil {
		return nil, &Status{Code: 3, Message: "Build failed", Build: err.Error()}
	}
	env, _ := at(doc, "serviceConfig.environmentVariables").(map[string]any)
	timeout, _ := at(doc, "serviceConfig.timeoutSeconds").(float64)
	return s.newInstance(work, strings.Replace(str(doc, "name"), "/functions/", "/services/", 1), env, timeout), nil
}

func (s *Server) functionURL(service string) string {
	return s.URL + "/fn/" + url.PathEscape(service)
}

func (s *Server) getFunction(w http.ResponseWriter, r *http.Request, name string) {
	if _, ok := query(w, r, "revision"); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.fns[name]; d != nil {
		s.answer(w, r, d.doc)
		return
	}
	fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
}

// listFunctions answers in pages of two, so that every caller must read several.
func (s *Server) listFunctions(w http.ResponseWriter, r *http.Request, parent string) {
	q, ok := query(w, r, "filter", "orderBy", "pageSize", "pageToken")
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	for _, name := range slices.Sorted(maps.Keys(s.fns)) {
		if strings.HasPrefix(name, parent+"/functions/") || strings.HasSuffix(parent, "/locations/-") {
			all = append(all, s.fns[name].doc)
		}
	}
	from, _ := strconv.Atoi(q.Get("pageToken"))
	page := map[string]any{"functions": all[min(from, len(all)):min(from+2, len(all))]}
	if from+2 < len(all) {
		page["nextPageToken"] = strconv.Itoa(from + 2)
	}
	if s.Unreachable != nil {
		page["unreachable"] = s.Unreachable
	}
	s.answer(w, r, page)
}

func (s *Server) deleteFunction(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.fns[name]
	switch {
	case d == nil:
		fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
		return
	case str(d.doc, "state") == "DEPLOYING":
		fail(w, 409, "ABORTED", "unable to queue the operation")
		return
	}
	d.instance.stop()
	delete(s.fns, name)
	delete(s.iam, strings.Replace(name, "/functions/", "/services/", 1))
	op := s.newOperation(name[:strings.Index(name, "/functions/")], "DELETE_FUNCTION")
	s.finish(op, nil, map[string]any{})
	s.answer(w, r, op.start())
}

func (s *Server) newOperation(parent, kind string) *operation {
	family := "functions"
	if kind == "SERVICE" {
		family = "services"
	}
	op := &operation{name: fmt.Sprintf("%s/operations/%s-%d", parent, family, s.next()), done: make(chan struct{}),
		kind: kind}
	s.ops[op.name] = op
	return op
}

func (s *Server) finish(op *operation, err *Status, doc map[string]any) {
	op.err, op.doc = err, doc
	close(op.done)
}

// start is the answer to the call that begins an operation. It is never done at once.
func (op *operation) start() map[string]any {
	return map[string]any{"name": op.name, "metadata": map[string]any{
		"@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata", "operationType": op.kind,
	}}
}

func (s *Server) getOperation(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	op := s.ops[name]
	s.mu.Unlock()
	if op == nil {
		fail(w, 404, "NOT_FOUND", "operation not found: "+name)
		return
	}
	answer := op.start()
	metadata := answer["metadata"].(map[string]any)
	select {
	case <-op.done:
	default:
		metadata["stages"] = []any{map[string]any{"name": "BUILD", "state": "IN_PROGRESS"}}
		s.answer(w, r, answer)
		return
	}
	answer["done"] = true
	if op.err != nil {
		answer["error"] = map[string]any{"code": op.err.Code, "message": op.err.Message, "details": op.err.Details}
		if op.err.Build != "" {
			metadata["buildName"] = "projects/123/locations/r/builds/b-1"
			metadata["stages"] = []any{map[string]any{
				"name": "BUILD", "state": "COMPLETE",
				"resourceUri":   "https://console.cloud.google.com/cloud-build/builds;region=r/b-1",
				"stateMessages": []any{map[string]any{"severity": "ERROR", "type": "BuildFailed", "message": op.err.Build}},
			}}
		}
	} else {
		response := clone(op.doc)
		if op.kind != "DELETE_FUNCTION" {
			response["@type"] = "type.googleapis.com/google.cloud.functions.v2.Function"
		} else {
			response["@type"] = "type.googleapis.com/google.protobuf.Empty"
		}
		answer["response"] = response
	}
	s.answer(w, r, answer)
}

// Relabel replaces the labels of a function.
func (s *Server) Relabel(name string, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]any{}
	for key, value := range labels {
		all[key] = value
	}
	set(s.fns[name].doc, "labels", all)
}

// Functions returns the full names of all functions.
func (s *Server) Functions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.fns))
}

// SetMember changes a member of a function, or of a service in its place, behind the caller's back.
func (s *Server) SetMember(name, path string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.fns[name]
	if d == nil {
		d = s.runs[name]
	}
	set(d.doc, path, value)
	set(d.doc, "updateTime", s.now())
}

// Member returns a member of a function or service.
func (s *Server) Member(name, path string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.fns[name]; d != nil {
		return at(d.doc, path)
	}
	return at(s.runs[name].doc, path)
}

// Forget removes a function or service behind the caller's back.
func (s *Server) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range []map[string]*deployed{s.fns, s.runs} {
		if d := all[name]; d != nil {
			d.instance.stop()
			delete(all, name)
		}
	}
}
