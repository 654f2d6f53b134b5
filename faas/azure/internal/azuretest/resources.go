package azuretest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// begin starts an operation and answers. When the operation ends, it calls then with the lock held,
// and created returns its resource.
func (s *Server) begin(c *call, kind string, async bool, accepted int, created func() any, then func()) {
	s.mu.Lock()
	s.counts[kind]++
	op := &operation{id: strings.ToLower(c.id), left: s.cfg.Polls, then: then}
	if kind == containerType || kind == roleType {
		op.left = 0 // never takes time
	}
	if s.cfg.Fail != nil {
		op.code = s.cfg.Fail(kind, s.counts[kind])
	}
	if op.left == 0 && op.code == "" {
		then()
		var view any
		if created != nil {
			view = created()
		}
		s.mu.Unlock()
		if created == nil {
			c.w.WriteHeader(http.StatusOK)
			return
		}
		answer(c.w, http.StatusOK, view)
		return
	}
	id := random()
	op.unseen = s.cfg.Appear
	s.operations[id] = op
	s.mu.Unlock()
	where := s.web.URL + "/operations/" + id + "?api-version=1"
	if async {
		c.w.Header().Set("Azure-AsyncOperation", where)
		answer(c.w, http.StatusCreated, map[string]any{
			"id": c.id, "name": nameOf(c.id), "properties": map[string]any{"provisioningState": "Creating"}})
		return
	}
	c.w.Header().Set("Location", where+"&location=1")
	c.w.WriteHeader(accepted)
}

// fail makes a resource show that its last change failed. Otherwise the resource is as it was
// before. The caller holds the lock.
func (s *Server) fail(id string) {
	if r := s.resources[id]; r != nil && (r.Type == planType || r.Type == siteType) {
		r.failed = true
	}
}

// poll answers with the state of an operation.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := s.operations[id]
	location := r.URL.Query().Get("location") != ""
	if op != nil && op.code != "" && op.unseen == 0 && op.left == 0 {
		s.fail(op.id)
	}
	switch {
	case op == nil:
		refuse(w, http.StatusNotFound, "NotFound", "there is no such operation")
	case op.unseen > 0:
		op.unseen--
		refuse(w, http.StatusNotFound, "NotFound", "the operation is not known here yet")
	case op.left > 0:
		op.left--
		if location {
			w.Header().Set("Location", s.web.URL+r.URL.RequestURI())
			w.WriteHeader(http.StatusAccepted)
			return
		}
		answer(w, http.StatusOK, map[string]any{"status": "InProgress"})
	case op.code != "" && location:
		refuse(w, http.StatusConflict, op.code, "the operation failed")
	case op.code != "":
		answer(w, http.StatusOK, map[string]any{"status": "Failed",
			"error": map[string]any{"code": op.code, "message": "the operation failed"}})
	default:
		if op.then != nil {
			op.then()
			op.then = nil
		}
		if location {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(w, http.StatusOK, map[string]any{"status": "Succeeded"})
	}
}

func (s *Server) resourceCall(c *call) {
	key := strings.ToLower(c.id)
	s.mu.Lock()
	existing := s.resources[key]
	s.mu.Unlock()
	switch c.r.Method {
	case http.MethodGet:
		if existing == nil {
			refuse(c.w, http.StatusNotFound, "ResourceNotFound", "The Resource '"+nameOf(c.id)+"' was not found.")
			return
		}
		s.mu.Lock()
		view := s.view(existing)
		s.mu.Unlock()
		answer(c.w, http.StatusOK, view)
	case http.MethodDelete:
		s.deleteCall(c, key, existing)
	case http.MethodPut:
		if s.check(c) {
			s.putCall(c, key, existing)
		}
	default:
		s.unknown(c)
	}
}

func (s *Server) deleteCall(c *call, key string, existing *Resource) {
	if existing == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	if c.resource == planType && s.planInUse(existing.ID) {
		refuse(c.w, http.StatusConflict, "Conflict",
			"Server farm cannot be deleted because it has web app(s) assigned to it.")
		return
	}
	s.begin(c, c.resource, false, http.StatusAccepted, nil, func() { s.drop(key) })
}

// drop removes a resource and everything in it. The caller holds the lock.
func (s *Server) drop(key string) {
	for id, r := range s.resources {
		if id != key && !strings.HasPrefix(id, key+"/") {
			continue
		}
		if r.app != nil {
			go r.app.close()
		}
		delete(s.resources, id)
		delete(s.fresh, id)
		if r.Type != containerType {
			continue
		}
		delete(s.packages, id)
		for _, other := range s.resources {
			if other.app != nil && other.app.container == id {
				other.app.host.remove() // an instance that starts finds no package
			}
		}
	}
}

// locked refuses what a lock on the resource, or on what contains it, does not allow, and reports
// whether it did.
func (s *Server) locked(c *call) bool {
	verb := map[string]string{http.MethodDelete: "delete", http.MethodPut: "write", http.MethodPost: "write"}[c.r.Method]
	s.mu.Lock()
	readOnly := slices.Clone(s.readOnly)
	s.mu.Unlock()
	for scope := c.id; verb != "" && len(scope) >= len(c.group) &&
		c.group != ""; scope = scope[:strings.LastIndexByte(scope, '/')] {
		if name := nameOf(scope); slices.Contains(readOnly, name) || verb == "delete" && slices.Contains(s.cfg.Locked, name) {
			refuse(c.w, http.StatusConflict, "ScopeLocked",
				"The scope '"+c.id+"' cannot perform "+verb+" operation because following scope(s) are locked: '"+scope+
					"'. Please remove the lock and try again.")
			return true
		}
	}
	return false
}

// isFull reports whether a plan has another app than the one with the id.
func (s *Server) isFull(plan *Resource, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if r.app != nil && strings.EqualFold(r.app.plan, plan.ID) && !strings.EqualFold(r.ID, id) {
			return true
		}
	}
	return false
}

func (s *Server) planInUse(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if r.app != nil && strings.EqualFold(r.app.plan, id) {
			return true
		}
	}
	return false
}

func (s *Server) putCall(c *call, key string, existing *Resource) {
	if existing == nil && (c.resource == accountType || c.resource == siteType) &&
		slices.Contains(s.cfg.Taken, nameOf(c.id)) {
		if c.resource == accountType {
			refuse(c.w, http.StatusConflict, "StorageAccountAlreadyTaken",
				"The storage account named "+nameOf(c.id)+" is already taken.")
			return
		}
		answer(c.w, http.StatusConflict, map[string]any{
			"Code": "Conflict", "Message": "Website with given name " + nameOf(c.id) + " already exists.", "Target": nil})
		return
	}
	if c.resource == roleType {
		s.putRole(c, key, existing)
		return
	}
	if c.resource == siteType {
		if err := s.checkSite(c.id, c.body); err != nil {
			s.problem("PUT %s: %v", c.r.URL.Path, err)
			refuse(c.w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
	}
	store := func() {
		r := s.resources[key]
		if r == nil {
			r = &Resource{ID: c.id, Type: c.resource}
			if c.resource == siteType {
				r.app = newApp(s, nameOf(c.id))
			}
			s.resources[key] = r
			s.fresh[key] = s.cfg.Appear
		}
		r.Body, r.failed = c.body, false
		if r.app != nil {
			r.app.configure(c.body)
		}
	}
	view := func() any { return s.view(s.resources[key]) }
	s.begin(c, c.resource, c.resource == planType || c.resource == siteType, http.StatusAccepted, view, store)
}

// checkSite refuses what Flex Consumption refuses.
func (s *Server) checkSite(id string, body map[string]any) error {
	var site struct {
		Properties struct {
			ServerFarmID string
			SiteConfig   struct {
				AppSettings []struct{ Name, Value string }
			}
			Config struct {
				Deployment struct {
					Storage struct {
						Type, Value    string
						Authentication struct{ Type, StorageAccountConnectionStringName string }
					}
				}
				Runtime struct{ Name, Version string }
				Scale   struct {
					InstanceMemoryMB, MaximumInstanceCount int
				} `json:"scaleAndConcurrency"`
			} `json:"functionAppConfig"`
		}
	}
	text, err := json.Marshal(body)
	if err == nil {
		err = json.Unmarshal(text, &site)
	}
	if err != nil {
		return err
	}
	p := site.Properties
	s.mu.Lock()
	plan := s.resources[strings.ToLower(p.ServerFarmID)]
	s.mu.Unlock()
	settings := map[string]string{}
	for _, v := range p.SiteConfig.AppSettings {
		settings[v.Name] = v.Value
		switch v.Name {
		case "FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE":
			return fmt.Errorf("the setting %s is not allowed on Flex Consumption", v.Name)
		}
	}
	auth := p.Config.Deployment.Storage.Authentication
	switch {
	case plan == nil:
		return fmt.Errorf("server farm %q does not exist", p.ServerFarmID)
	case plan.Body["location"] != body["location"]:
		return fmt.Errorf("server farm %q is not in %v", p.ServerFarmID, body["location"])
	case s.isFull(plan, id):
		return fmt.Errorf("server farm %q has an app, and takes one on Flex Consumption", p.ServerFarmID)
	case p.Config.Runtime.Name != "custom" || p.Config.Runtime.Version != "1.0":
		return fmt.Errorf("runtime %v is not known", p.Config.Runtime)
	case !slices.Contains([]int{512, 2048, 4096}, p.Config.Scale.InstanceMemoryMB):
		return fmt.Errorf("instanceMemoryMB is %d", p.Config.Scale.InstanceMemoryMB)
	case p.Config.Scale.MaximumInstanceCount < 40 || p.Config.Scale.MaximumInstanceCount > 1000:
		return fmt.Errorf("maximumInstanceCount is %d", p.Config.Scale.MaximumInstanceCount)
	case p.Config.Deployment.Storage.Type != "blobContainer" || s.containerAt(p.Config.Deployment.Storage.Value) == nil:
		return fmt.Errorf("there is no container %q", p.Config.Deployment.Storage.Value)
	case auth.Type == "StorageAccountConnectionString" && settings[auth.StorageAccountConnectionStringName] == "":
		return fmt.Errorf("there is no setting %q", auth.StorageAccountConnectionStringName)
	case auth.Type != "StorageAccountConnectionString" && auth.Type != "SystemAssignedIdentity":
		return fmt.Errorf("authentication type %q", auth.Type)
	}
	return nil
}

// containerAt returns the container of a URL.
func (s *Server) containerAt(url string) *Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findContainer(url)
}

// findContainer is containerAt for a caller that holds the lock.
func (s *Server) findContainer(url string) *Resource {
	rest, ok := strings.CutPrefix(url, s.web.URL+"/blob/")
	account, name, _ := strings.Cut(rest, "/")
	if !ok {
		return nil
	}
	for _, r := range s.resources {
		if r.Type == containerType && nameOf(r.ID) == name &&
			strings.Contains(strings.ToLower(r.ID), "/storageaccounts/"+account+"/") {
			return r
		}
	}
	return nil
}

func (s *Server) putRole(c *call, key string, existing *Resource) {
	properties, _ := c.body["properties"].(map[string]any)
	principal, _ := properties["principalId"].(string)
	s.mu.Lock()
	known := slices.ContainsFunc(slices.Collect(maps.Values(s.resources)),
		func(r *Resource) bool { return r.app != nil && r.app.principal == principal })
	s.mu.Unlock()
	switch {
	case existing != nil:
		refuse(c.w, http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists.")
	case !known:
		refuse(c.w, http.StatusBadRequest, "PrincipalNotFound", "Principal "+principal+" does not exist in the directory.")
	default:
		s.mu.Lock()
		s.resources[key] = &Resource{ID: c.id, Type: roleType, Body: c.body}
		view := s.view(s.resources[key])
		s.mu.Unlock()
		answer(c.w, http.StatusCreated, view)
	}
}

// actionCall answers a call for something below a resource.
func (s *Server) actionCall(c *call) {
	s.mu.Lock()
	r := s.resources[strings.ToLower(c.id)]
	s.mu.Unlock()
	if r == nil {
		refuse(c.w, http.StatusNotFound, "ResourceNotFound", "The Resource '"+nameOf(c.id)+"' was not found.")
		return
	}
	switch {
	case r.Type == accountType && c.action == "listkeys" && c.r.Method == http.MethodPost:
		answer(c.w, http.StatusOK, map[string]any{"keys": []any{
			map[string]any{"keyName": "key1", "value": AccountKey(nameOf(r.ID)), "permissions": "FULL"}}})
	case r.Type == accountType && c.action == "providers/microsoft.authorization/roleassignments" &&
		c.r.Method == http.MethodGet:
		s.mu.Lock()
		value := []any{}
		for id, role := range s.resources {
			if role.Type == roleType && strings.HasPrefix(id, strings.ToLower(r.ID)+"/") {
				value = append(value, s.view(role))
			}
		}
		s.mu.Unlock()
		answer(c.w, http.StatusOK, map[string]any{"value": value})
	case r.app == nil:
		s.unknown(c)
	default:
		r.app.action(c)
	}
}
