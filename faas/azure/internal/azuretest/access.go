package azuretest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Principal is the object id of every caller.
const Principal = "44444444-4444-4444-4444-444444444444"

// Permissions that are not for Resource Manager.
const (
	publishPermission = "Microsoft.Web/sites/publish/action"
	blobPermission    = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
)

// permissionFor returns the permission that a request to Resource Manager needs.
func permissionFor(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	verb := map[string]string{http.MethodGet: "read", http.MethodPut: "write", http.MethodDelete: "delete",
		http.MethodPost: "action"}[r.Method]
	parent := "Microsoft.Resources/subscriptions"
	if len(parts) > 3 && strings.EqualFold(parts[2], "resourceGroups") {
		parent += "/resourceGroups"
	}
	at := len(parts) - 1
	for at >= 0 && !strings.EqualFold(parts[at], "providers") {
		at--
	}
	switch {
	case at < 0 && len(parts) == 5: // in a group
		return parent + "/" + parts[4] + "/" + verb
	case at < 0:
		return parent + "/" + verb
	case at == len(parts)-2: // a resource provider
		return parent + "/providers/" + verb
	case strings.EqualFold(parts[at+2], "checknameavailability"):
		return parts[at+1] + "/" + parts[at+2] + "/read"
	}
	kind := parts[at+1]
	for i := at + 2; i < len(parts); i += 2 { // a type, and a name unless it is the last
		kind += "/" + parts[i]
	}
	return kind + "/" + verb
}

// Permissions returns, sorted, the permissions that requests needed since the last call.
func (s *Server) Permissions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Sorted(maps.Keys(s.used))
	s.used = map[string]bool{}
	return all
}

// mayNot records a permission, and reports whether no role of the caller allows it.
func (s *Server) mayNot(permission string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[permission] = true
	lower := strings.ToLower(permission)
	return s.cfg.Allowed != nil && !slices.ContainsFunc(
		s.cfg.Allowed, func(allowed string) bool { return strings.ToLower(allowed) == lower }) ||
		s.cfg.NoRoles && lower == "microsoft.authorization/roleassignments/write" || s.cfg.NoKeys &&
		lower == "microsoft.storage/storageaccounts/listkeys/action"
}

// denied refuses a request to Resource Manager that no role of the caller allows, and reports
// whether it did.
func (s *Server) denied(w http.ResponseWriter, r *http.Request) bool {
	taken := permissionFor(r)
	if !s.mayNot(taken) {
		return false
	}
	refuse(w, http.StatusForbidden, "AuthorizationFailed",
		"The client '"+ClientID+"' with object id '"+Principal+"' does not have authorization to perform action '"+taken+
			"' over scope '"+strings.TrimSuffix(r.URL.Path, "/")+
			"' or the scope is invalid. If access was recently granted, please refresh your credentials.")
	return true
}
