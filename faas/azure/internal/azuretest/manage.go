package azuretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

const (
	groupType     = "Microsoft.Resources/resourceGroups"
	siteType      = "Microsoft.Web/sites"
	planType      = "Microsoft.Web/serverfarms"
	accountType   = "Microsoft.Storage/storageAccounts"
	containerType = accountType + "/blobServices/containers"
	roleType      = "Microsoft.Authorization/roleAssignments"
)

// versions holds the API versions of each namespace.
var versions = map[string][]string{
	"":                        {"2021-04-01", "2025-04-01"},
	"microsoft.web":           {"2024-11-01", "2025-03-01"},
	"microsoft.storage":       {"2024-01-01", "2025-01-01"},
	"microsoft.authorization": {"2022-04-01"},
}

// members holds the members that the body of a resource may have in a request: a list for each
// path.
var members = map[string]map[string][]string{
	groupType: {"": {"location", "tags"}},
	planType: {"": {"location", "kind", "tags", "sku", "properties"}, "sku": {"name", "tier"},
		"properties": {"reserved"}},
	containerType: {"": {"properties"}, "properties": {"publicAccess"}},
	roleType:      {"": {"properties"}, "properties": {"roleDefinitionId", "principalId", "principalType"}},
	accountType: {"": {"location", "kind", "tags", "sku", "properties"}, "sku": {"name"},
		"properties": {"minimumTlsVersion", "supportsHttpsTrafficOnly", "allowBlobPublicAccess", "allowSharedKeyAccess"}},
	siteType: {"": {"location", "kind", "tags", "identity", "properties"}, "identity": {"type"},
		"properties": {
			"serverFarmId", "reserved", "httpsOnly", "functionAppConfig", "siteConfig"},
		"properties.siteConfig":        {"appSettings"},
		"properties.functionAppConfig": {"deployment", "runtime", "scaleAndConcurrency"},
		"properties.functionAppConfig.scaleAndConcurrency": {
			"instanceMemoryMB", "maximumInstanceCount", "alwaysReady", "triggers"},
		"properties.functionAppConfig.runtime":                           {"name", "version"},
		"properties.functionAppConfig.deployment":                        {"storage"},
		"properties.functionAppConfig.deployment.storage":                {"type", "value", "authentication"},
		"properties.functionAppConfig.deployment.storage.authentication": {"type", "storageAccountConnectionStringName"}},
}

// required holds the members that the body of a resource must have.
var required = map[string][]string{
	groupType: {"location"}, planType: {"location", "sku.name"}, accountType: {"location", "kind", "sku.name"},
	siteType: {"location", "properties.serverFarmId"},
	roleType: {"properties.roleDefinitionId", "properties.principalId", "properties.principalType"},
}

// named holds patterns for the names of resources.
var named = map[string]*regexp.Regexp{
	groupType: regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`), planType: regexp.MustCompile(`^[a-zA-Z0-9-]{1,60}$`),
	siteType:      regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`),
	accountType:   regexp.MustCompile(`^[a-z0-9]{3,24}$`),
	containerType: regexp.MustCompile(`^[a-z0-9]([a-z0-9]|-[a-z0-9]){2,62}$`),
	roleType:      regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
}

// Limits of tags. Those of storage accounts are the narrowest.
const (
	mostTags     = 50
	mostTagName  = 128
	mostTagValue = 256
	notInTagName = `<>%&\?/`
)

// call is a request to Resource Manager.
type call struct {
	w        http.ResponseWriter
	r        *http.Request
	body     map[string]any
	group    string // id
	id       string // of the resource
	resource string // type
	action   string // what follows the resource
	below    bool   // the action is of Microsoft.Authorization
}

func (s *Server) manage(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	if id, ok := strings.CutPrefix(path, "operations/"); ok {
		s.poll(w, r, id)
		return
	}
	if s.denied(w, r) || s.register(w, r) || s.look(w, r) {
		return
	}
	parts := strings.Split(path, "/")
	if len(parts) < 4 || !strings.EqualFold(parts[0], "subscriptions") || parts[1] != Subscription {
		refuse(w, http.StatusNotFound, "SubscriptionNotFound", "the subscription was not found")
		return
	}
	c := &call{w: w, r: r}
	namespace := ""
	switch {
	case strings.EqualFold(parts[2], "providers") && len(parts) == 5 &&
		strings.EqualFold(parts[4], "checknameavailability"):
		c.action, namespace = "checknameavailability", strings.ToLower(parts[3])
	case !strings.EqualFold(parts[2], "resourceGroups"):
		s.unknown(c)
		return
	case len(parts) == 4:
		c.group, c.id, c.resource = "/"+path, "/"+path, groupType
	case len(parts) == 5 && parts[4] == "resources":
		c.group, c.action = "/"+strings.Join(parts[:4], "/"), "resources"
	case len(parts) >= 7 && parts[4] == "providers":
		c.group = "/" + strings.Join(parts[:4], "/")
		namespace = strings.ToLower(parts[5])
		s.identify(c, parts)
	default:
		s.unknown(c)
		return
	}
	if c.resource == roleType || c.below {
		namespace = "microsoft.authorization"
	}
	if version := r.URL.Query().Get("api-version"); !slices.Contains(versions[namespace], version) {
		s.problem("%s %s has the API version %q", r.Method, r.URL.Path, version)
		refuse(w, http.StatusBadRequest, "InvalidApiVersionParameter", "the api-version is invalid")
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if len(text) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&c.body); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			refuse(w, http.StatusBadRequest, "InvalidRequestContent", "the body is no JSON")
			return
		}
	}
	s.route(c)
}

// identify parses the path of a resource.
func (s *Server) identify(c *call, parts []string) {
	kind := parts[5] + "/" + parts[6]
	for _, known := range []string{siteType, planType, accountType} {
		if strings.EqualFold(kind, known) {
			c.resource = known
		}
	}
	if len(parts) == 7 {
		c.action = "list"
		return
	}
	c.id = "/" + strings.Join(parts[:8], "/")
	c.action = strings.ToLower(strings.Join(parts[8:], "/"))
	c.below = strings.HasSuffix(c.action, "/roleassignments")
	switch {
	case c.resource == accountType && len(parts) == 12 && strings.HasPrefix(c.action, "blobservices/default/containers/"):
		c.id, c.resource, c.action = "/"+strings.Join(parts, "/"), containerType, ""
	case len(parts) == 12 && strings.HasPrefix(c.action, "providers/microsoft.authorization/roleassignments/"):
		c.id, c.resource, c.action = "/"+strings.Join(parts, "/"), roleType, ""
	}
}

func (s *Server) unknown(c *call) {
	s.problem("%s %s is unknown", c.r.Method, c.r.URL.Path)
	refuse(c.w, http.StatusNotFound, "InvalidResourceType", "there is no such path")
}

func (s *Server) route(c *call) {
	s.mu.Lock()
	group := s.groups[strings.ToLower(c.group)]
	unseen := s.unseen(c)
	s.mu.Unlock()
	switch {
	case unseen == groupType:
		refuse(c.w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+nameOf(c.group)+"' could not be found.")
	case unseen != "":
		refuse(c.w, http.StatusNotFound, "ResourceNotFound", "The Resource '"+unseen+"' was not found.")
	case c.action == "checknameavailability" && c.r.Method == http.MethodPost:
		name, _ := c.body["name"].(string)
		s.mu.Lock()
		free := s.findSite(name) == nil && !slices.Contains(s.cfg.Taken, name)
		s.mu.Unlock()
		answer(c.w, http.StatusOK, map[string]any{"nameAvailable": free})
	case s.locked(c):
	case c.resource == groupType:
		s.groupCall(c, group)
	case group == nil:
		refuse(c.w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+nameOf(c.group)+"' could not be found.")
	case c.action == "resources" || c.action == "list":
		s.listCall(c)
	case c.resource == "":
		s.unknown(c)
	case c.action == "":
		s.resourceCall(c)
	default:
		s.actionCall(c)
	}
}

// unseen returns what a request does not find although it exists, because it was just made, or "".
// The caller holds the lock.
func (s *Server) unseen(c *call) string {
	group, id := strings.ToLower(c.group), strings.ToLower(c.id)
	if s.fresh[group] > 0 {
		s.fresh[group]--
		return groupType
	}
	for key := range s.fresh {
		if s.fresh[key] > 0 && (id == key || strings.HasPrefix(id, key+"/")) {
			s.fresh[key]--
			return nameOf(key)
		}
	}
	return ""
}

func (s *Server) groupCall(c *call, group *Resource) {
	switch c.r.Method {
	case http.MethodPut:
		if !s.check(c) {
			return
		}
		status := http.StatusOK
		s.mu.Lock()
		if group == nil {
			status, group = http.StatusCreated, &Resource{ID: c.id, Type: groupType}
			s.groups[strings.ToLower(c.id)] = group
			s.fresh[strings.ToLower(c.id)] = s.cfg.Appear
		}
		group.Body = c.body
		view := s.view(group)
		s.mu.Unlock()
		answer(c.w, status, view)
	case http.MethodGet:
		if group == nil {
			refuse(c.w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+nameOf(c.id)+"' could not be found.")
			return
		}
		s.mu.Lock()
		view := s.view(group)
		s.mu.Unlock()
		answer(c.w, http.StatusOK, view)
	case http.MethodDelete:
		if group == nil {
			c.w.WriteHeader(http.StatusNotFound)
			return
		}
		s.begin(c, groupType, false, http.StatusAccepted, nil, func() { // with everything in it
			key := strings.ToLower(c.id)
			for id := range s.resources {
				if strings.HasPrefix(id, key+"/") {
					s.drop(id)
				}
			}
			delete(s.groups, key)
			delete(s.fresh, key)
		})
	default:
		s.unknown(c)
	}
}

func (s *Server) listCall(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := []any{}
	for _, id := range slices.Sorted(maps.Keys(s.resources)) {
		r := s.resources[id]
		top := r.Type != containerType && r.Type != roleType
		if strings.HasPrefix(id, strings.ToLower(c.group)+"/") && top && (c.resource == "" || c.resource == r.Type) {
			value = append(value, s.view(r))
		}
	}
	answer(c.w, http.StatusOK, map[string]any{"value": value})
}

// check refuses a body that the REST API does not describe.
func (s *Server) check(c *call) bool {
	err := checkMembers(members[c.resource], "", c.body)
	if err == nil && c.body == nil {
		err = fmt.Errorf("there is no body")
	}
	for _, path := range required[c.resource] {
		if err == nil && !isThere(c.body, path) {
			err = fmt.Errorf("the member %q is missing", path)
		}
	}
	if err == nil && !named[c.resource].MatchString(nameOf(c.id)) {
		err = fmt.Errorf("%q is not the name of a %s", nameOf(c.id), c.resource)
	}
	if err == nil {
		err = checkTags(c.body["tags"])
	}
	if err != nil {
		s.problem("%s %s: %v", c.r.Method, c.r.URL.Path, err)
		refuse(c.w, http.StatusBadRequest, "InvalidRequestContent", err.Error())
		return false
	}
	return true
}

// isThere reports whether a body has a member that is not empty.
func isThere(body map[string]any, path string) bool {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		return body[name] != nil && body[name] != ""
	}
	inner, _ := body[name].(map[string]any)
	return isThere(inner, rest)
}

func checkTags(tags any) error {
	all, _ := tags.(map[string]any)
	if len(all) > mostTags {
		return fmt.Errorf("%d tags are more than %d", len(all), mostTags)
	}
	for name, value := range all {
		text, ok := value.(string)
		if !ok || len(name) > mostTagName || len(text) > mostTagValue || strings.ContainsAny(name, notInTagName) {
			return fmt.Errorf("the tag %q with %d characters is not possible", name, len(text))
		}
	}
	return nil
}

func checkMembers(known map[string][]string, path string, body map[string]any) error {
	for name, value := range body {
		if !slices.Contains(known[path], name) {
			return fmt.Errorf("unknown member %q in %q", name, path)
		}
		inner := strings.TrimPrefix(path+"."+name, ".")
		if m, ok := value.(map[string]any); ok && known[inner] != nil {
			if err := checkMembers(known, inner, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// view returns a resource as an answer shows it. The caller holds the lock.
func (s *Server) view(r *Resource) map[string]any {
	out := maps.Clone(r.Body)
	out["id"], out["name"], out["type"] = r.ID, nameOf(r.ID), r.Type
	properties, _ := out["properties"].(map[string]any)
	properties = maps.Clone(properties)
	if properties == nil {
		properties = map[string]any{}
	}
	properties["provisioningState"] = "Succeeded"
	if r.failed {
		properties["provisioningState"] = "Failed"
	}
	out["properties"] = properties
	switch {
	case r.Type == accountType:
		blob := s.web.URL + "/blob/" + nameOf(r.ID) + "/"
		properties["primaryEndpoints"] = map[string]any{
			"blob": blob, "queue": s.web.URL + "/queue/" + nameOf(r.ID) + "/",
			"table": s.web.URL + "/table/" + nameOf(r.ID) + "/"}
	case r.app != nil:
		r.app.show(out, properties)
	}
	return out
}
