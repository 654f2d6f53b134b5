package gcptest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// methods lists the methods of the APIs and the permissions that they require, according to
// https://cloud.google.com/iam/docs/permissions-reference. A method is an HTTP method, and a
// beginning and an end of the path.
var methods = []struct {
	method, begin, end string
	permissions        []string
}{
	{"POST", "/v2/", "/functions:generateUploadUrl", []string{"cloudfunctions.functions.sourceCodeSet"}},
	{"POST", "/v2/", "/functions", []string{"cloudfunctions.functions.create", "iam.serviceAccounts.actAs"}},
	{"GET", "/v2/", "/functions", []string{"cloudfunctions.functions.list"}},
	{"GET", "/v2/", "/functions/*", []string{"cloudfunctions.functions.get"}},
	{"PATCH", "/v2/", "/functions/*", []string{"cloudfunctions.functions.update", "iam.serviceAccounts.actAs"}},
	{"DELETE", "/v2/", "/functions/*", []string{"cloudfunctions.functions.delete"}},
	{"GET", "/v2/", "/runtimes", []string{"cloudfunctions.runtimes.list"}},
	{"GET", "/v2/", "/operations/functions-*", []string{"cloudfunctions.operations.get"}},
	{"GET", "/v2/", "/operations/services-*", []string{"run.operations.get"}},
	{"GET", "/v2/", "/services/*:getIamPolicy", []string{"run.services.getIamPolicy"}},
	{"POST", "/v2/", "/services/*:setIamPolicy", []string{"run.services.setIamPolicy"}},
	{"POST", "/v2/", "/services", []string{"run.services.create", "iam.serviceAccounts.actAs"}},
	{"GET", "/v2/", "/services", []string{"run.services.list"}},
	{"GET", "/v2/", "/services/*", []string{"run.services.get"}},
	{"PATCH", "/v2/", "/services/*", []string{"run.services.update", "iam.serviceAccounts.actAs"}},
	{"DELETE", "/v2/", "/services/*", []string{"run.services.delete"}},
	{"POST", "/v2/", "/entries:list", []string{"logging.logEntries.list"}},
	{"POST", "/upload/storage/v1/", "/o", []string{"storage.objects.create"}},
	{"GET", "/storage/v1/", "/o", []string{"storage.objects.list"}},
	{"GET", "/storage/v1/", "/o/*", []string{"storage.objects.get"}},
	{"DELETE", "/storage/v1/", "/o/*", []string{"storage.objects.delete"}},
	{"DELETE", "/v1/", "/packages/*", []string{"artifactregistry.packages.delete"}},
	{"GET", "/v1/", "/services:batchGet", []string{"serviceusage.services.get"}},
	{"GET", "/v1/", "/services/*", []string{"serviceusage.services.get"}},
	{"POST", "/v1/", ":getIamPolicy", []string{"resourcemanager.projects.getIamPolicy"}},
	{"POST", "/v1/", ":generateAccessToken", []string{"iam.serviceAccounts.getAccessToken"}},
	{"POST", "/v1/", ":generateIdToken", []string{"iam.serviceAccounts.getOpenIdToken"}},
	{"GET", "/v1/projects/", "/projects/*", []string{"resourcemanager.projects.get"}},
	{"POST", "/fn/", "", []string{"run.routes.invoke"}},
}

// permissionsOf returns the permissions that a call requires, or nil.
func permissionsOf(r *http.Request) []string {
	path := r.URL.EscapedPath() // the name of an object is one segment of it
	for _, m := range methods {
		if r.Method != m.method || !strings.HasPrefix(path, m.begin) {
			continue
		}
		end, wild, _ := strings.Cut(m.end, "*")
		rest, ok := strings.CutSuffix(path, wild)
		if m.end != "" && !strings.Contains(m.end, "*") {
			if !strings.HasSuffix(path, m.end) {
				continue
			}
			return m.permissions
		}
		if at := strings.LastIndex(rest, end); ok && at >= 0 && !strings.ContainsAny(rest[at+len(end):], "/:") {
			return m.permissions
		}
	}
	return nil
}

// may reports whether the caller may make a call, and records the permissions that it requires. If
// the caller may not, may answers the request.
func (s *Server) may(w http.ResponseWriter, r *http.Request) bool {
	taken := permissionsOf(r)
	s.mu.Lock()
	for _, one := range taken {
		s.taken[one] = true
	}
	s.mu.Unlock()
	for _, one := range taken {
		if slices.Contains(s.Withheld, one) {
			Fail(w, 403, "PERMISSION_DENIED", "Permission '"+one+"' denied on resource '"+strings.TrimPrefix(r.URL.Path, "/")+
				"' (or it may not exist).",
				"IAM_PERMISSION_DENIED", "permission", one, "resource", strings.TrimPrefix(r.URL.Path, "/"))
			return false
		}
	}
	return true
}

// Permissions returns the permissions that the calls so far required, sorted.
func (s *Server) Permissions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.taken))
}
