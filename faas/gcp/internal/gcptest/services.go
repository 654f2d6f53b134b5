package gcptest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cloud Run services are not built: the package holds the program.

func (s *Server) createService(w http.ResponseWriter, r *http.Request, parent string) {
	q, ok := query(w, r, "serviceId", "validateOnly")
	if !ok {
		return
	}
	body, _ := io.ReadAll(r.Body)
	id := q.Get("serviceId")
	s.mu.Lock()
	defer s.mu.Unlock()
	name := parent + "/services/" + id
	switch {
	case !idPattern.MatchString(id) || len(id) >= 50:
		fail(w, 400, "INVALID_ARGUMENT", "service id "+id+" is not valid")
		return
	case s.runs[name] != nil || s.fns[functionOf(name)] != nil:
		fail(w, 409, "ALREADY_EXISTS", "Resource '"+id+"' already exists.")
		return
	}
	s.runs[name] = &deployed{doc: map[string]any{"name": name, "etag": "0"}}
	s.deployService(w, name, body)
	if str(s.runs[name].doc, "uri") == "" {
		delete(s.runs, name)
	}
}

func (s *Server) patchService(w http.ResponseWriter, r *http.Request, name string) {
	if _, ok := query(w, r, "updateMask", "allowMissing", "validateOnly"); !ok {
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[name] == nil {
		fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
		return
	}
	s.deployService(w, name, body)
}

// serviceFields lists the members of a service in the discovery document.
var serviceFields = []string{
	"name", "description", "uid", "generation", "labels", "annotations", "createTime", "updateTime", "deleteTime",
	"expireTime", "creator", "lastModifier",
	"client", "clientVersion", "ingress", "launchStage", "binaryAuthorization", "template", "traffic", "scaling",
	"invokerIamDisabled", "defaultUriDisabled",
	"urls", "iapEnabled", "multiRegionSettings", "customAudiences", "observedGeneration", "terminalCondition",
	"conditions", "latestReadyRevision",
	"latestCreatedRevision", "trafficStatuses", "uri", "satisfiesPzs", "threatDetectionEnabled", "buildConfig",
	"reconciling", "etag",
}

// functionOf returns the name of the function that would run as a service.
func functionOf(service string) string {
	return strings.Replace(service, "/services/", "/functions/", 1)
}

// deployService deploys a service at once. The caller holds the lock.
func (s *Server) deployService(w http.ResponseWriter, name string, body []byte) {
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		fail(w, 400, "INVALID_ARGUMENT", err.Error())
		return
	}
	for key := range doc {
		if !slices.Contains(serviceFields, key) {
			fail(w, 400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unknown name \""+key+
				"\" at 'service': Cannot find field.")
			return
		}
	}
	d := s.runs[name]
	if etag := str(doc, "etag"); etag != "" && etag != str(d.doc, "etag") {
		fail(w, 409, "ABORTED", "Conflict for resource '"+name+"': version mismatch")
		return
	}
	containers, _ := at(doc, "template.containers").([]any)
	if len(containers) != 1 {
		fail(w, 400, "INVALID_ARGUMENT", "template.containers has to have one container")
		return
	}
	c, _ := containers[0].(map[string]any)
	object := str(c, "sourceCode.cloudStorageSource.bucket") + "/" + str(c, "sourceCode.cloudStorageSource.object")
	zip := s.objects[object]
	cpu, _ := strconv.ParseFloat(str(c, "resources.limits.cpu"), 64)
	concurrency, _ := at(doc, "template.maxInstanceRequestConcurrency").(float64)
	timeout, err := time.ParseDuration(str(doc, "template.timeout"))
	switch {
	case zip == nil:
		fail(w, 400, "INVALID_ARGUMENT", "there is no object "+object)
		return
	case str(c, "image") != "scratch" || str(c, "baseImageUri") == "":
		fail(w, 400, "INVALID_ARGUMENT", "the container is not one of a deployment without a build")
		return
	case err != nil || !memoryPattern.MatchString(str(c, "resources.limits.memory")):
		fail(w, 400, "INVALID_ARGUMENT", "timeout or memory is not valid")
		return
	}
	if err := checkCPU(cpu, mebibytes(str(c, "resources.limits.memory")), concurrency); err != nil {
		fail(w, 400, "INVALID_ARGUMENT", err.Error())
		return
	}
	dir, err := s.builder.once(fmt.Sprintf("unpack service %x", sha256.Sum256(zip)), func() (string, error) {
		dir, err := os.MkdirTemp(s.builder.dir, "service-") // servers share the builder
		if err != nil {
			return "", err
		}
		return dir, unpack(zip, dir, false)
	})
	if err != nil {
		fail(w, 400, "INVALID_ARGUMENT", err.Error())
		return
	}
	env := map[string]any{}
	if list, ok := c["env"].([]any); ok {
		for _, one := range list {
			e, _ := one.(map[string]any)
			env[str(e, "name")] = str(e, "value")
		}
	}
	d.instance.retire()
	d.instance = s.newInstance(&workspace{filepath.Join(dir, "bootstrap"), dir}, name, env, timeout.Seconds())
	d.doc = doc
	for path, value := range map[string]any{
		"name": name, "uri": s.functionURL(name), "updateTime": s.now(), "etag": fmt.Sprint(s.next()), "reconciling": nil,
		"terminalCondition": map[string]any{"type": "Ready", "state": "CONDITION_SUCCEEDED"},
	} {
		set(d.doc, path, value)
	}
	if s.iam[name] == nil {
		s.iam[name] = &policy{Etag: etag(0)}
	}
	op := s.newOperation(name[:strings.Index(name, "/services/")], "SERVICE")
	s.finish(op, nil, clone(d.doc))
	reply(w, op.start())
}

func (s *Server) getService(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.runs[name]; d != nil {
		reply(w, d.doc)
		return
	}
	if d := s.fns[functionOf(name)]; d != nil && d.instance != nil { // a function's service, which has its labels
		labels := map[string]any{"goog-managed-by": "cloudfunctions"}
		if own, ok := d.doc["labels"].(map[string]any); ok {
			maps.Copy(labels, own)
		}
		reply(w, map[string]any{
			"name": name, "labels": labels, "uri": s.functionURL(name), "updateTime": d.doc["updateTime"], "etag": "0",
			"terminalCondition": map[string]any{"type": "Ready", "state": "CONDITION_SUCCEEDED"},
		})
		return
	}
	fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
}

func (s *Server) listServices(w http.ResponseWriter, r *http.Request, parent string) {
	if _, ok := query(w, r, "pageSize", "pageToken", "showDeleted"); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.runs)) {
		if strings.HasPrefix(name, parent+"/services/") {
			all = append(all, s.runs[name].doc)
		}
	}
	reply(w, map[string]any{"services": all})
}

func (s *Server) deleteService(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.runs[name]
	if d == nil {
		fail(w, 404, "NOT_FOUND", "Resource '"+name+"' was not found")
		return
	}
	d.instance.stop()
	delete(s.runs, name)
	delete(s.iam, name)
	op := s.newOperation(name[:strings.Index(name, "/services/")], "SERVICE")
	s.finish(op, nil, clone(d.doc))
	reply(w, op.start())
}

// objectsPerPage is the largest number of objects in a page of a list; the real one has 1000.
const objectsPerPage = 2

// storage is Cloud Storage, in which objects can be put, read, listed and deleted.
func (s *Server) storage(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/upload"), "/storage/v1/b/")
	if bucket, ok := strings.CutSuffix(path, "/iam/testPermissions"); ok && r.Method == http.MethodGet &&
		!strings.Contains(bucket, "/") {
		reply(w, map[string]any{"kind": "storage#testIamPermissionsResponse", "permissions": r.URL.Query()["permissions"]})
		return
	}
	bucket, rest, _ := strings.Cut(path, "/o")
	name, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	if err != nil {
		fail(w, 400, "INVALID_ARGUMENT", err.Error())
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	info := func(name string) map[string]any {
		return map[string]any{"kind": "storage#object", "bucket": bucket, "name": name, "generation": "1700000000000007"}
	}
	_, exists := s.objects[bucket+"/"+name]
	switch {
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/upload/"):
		name, media, err := readUpload(r, body)
		if err != nil {
			fail(w, 400, "INVALID_ARGUMENT", err.Error())
			return
		}
		s.objects[bucket+"/"+name] = media
		reply(w, info(name))
	case r.Method == http.MethodGet && name == "":
		page := map[string]any{"kind": "storage#objects"}
		var items []any
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			rest, ok := strings.CutPrefix(key, bucket+"/")
			if !ok || !strings.HasPrefix(rest, r.URL.Query().Get("prefix")) || rest <= r.URL.Query().Get("pageToken") {
				continue
			}
			if len(items) == objectsPerPage {
				page["nextPageToken"] = items[len(items)-1].(map[string]any)["name"]
				break
			}
			items = append(items, info(rest))
		}
		if items != nil {
			page["items"] = items
		}
		reply(w, page)
	case r.Method == http.MethodGet && exists:
		reply(w, info(name))
	case r.Method == http.MethodDelete && exists:
		delete(s.objects, bucket+"/"+name)
		w.WriteHeader(http.StatusNoContent)
	default:
		fail(w, 404, "NOT_FOUND", "No such object: "+bucket+"/"+name)
	}
}

// readUpload reads an upload in one request, which holds the media alone or after the object's
// metadata.
func readUpload(r *http.Request, body []byte) (name string, media []byte, err error) {
	q := r.URL.Query()
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return "", nil, err
	case q.Get("uploadType") == "media" && q.Get("name") != "":
		return q.Get("name"), body, nil
	case q.Get("uploadType") != "multipart" || kind != "multipart/related":
		return "", nil, fmt.Errorf("uploadType %q with content %q", q.Get("uploadType"), kind)
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var meta struct{ Name, Bucket, ContentType string }
	one, err := parts.NextPart()
	if err != nil {
		return "", nil, err
	}
	if err := json.NewDecoder(one).Decode(&meta); err != nil || meta.Name == "" {
		return "", nil, fmt.Errorf("the object's metadata name no object: %v", err)
	}
	if one, err = parts.NextPart(); err != nil {
		return "", nil, err
	}
	media, err = io.ReadAll(one)
	return meta.Name, media, err
}

// Objects returns the names of all objects, as BUCKET/NAME.
func (s *Server) Objects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}
