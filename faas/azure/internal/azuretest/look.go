package azuretest

import (
	"net/http"
	"slices"
	"strings"
)

// looks returns the reads of a subscription that change nothing and concern no resource: the path
// below the subscription, the API version, and the answer.
func (s *Server) looks() map[string]struct {
	version string
	body    any
} {
	type look = struct {
		version string
		body    any
	}
	all := []any{map[string]any{"actions": []string{"*"}, "notActions": []string{}, "dataActions": []string{},
		"notDataActions": []string{}}}
	if s.cfg.NoRoles {
		all = []any{map[string]any{"actions": []string{"*"},
			"notActions": []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"}}}
	}
	registered := func(name string) look {
		if s.unregistered(name) {
			return look{"2021-04-01", map[string]any{"namespace": name, "registrationState": "NotRegistered"}}
		}
		return look{"2021-04-01", map[string]any{"id": "/subscriptions/" + Subscription + "/providers/" + name,
			"namespace": name, "registrationState": "Registered"}}
	}
	return map[string]look{
		"": {"2022-12-01",
			map[string]any{"id": "/subscriptions/" + Subscription, "subscriptionId": Subscription, "displayName": "Test",
				"state": "Enabled"}},
		"/providers/microsoft.web":     registered("Microsoft.Web"),
		"/providers/microsoft.storage": registered("Microsoft.Storage"),
		"/providers/microsoft.web/georegions": {"2025-03-01", map[string]any{"value": []any{
			map[string]any{"name": "East US", "type": "Microsoft.Web/geoRegions"},
			map[string]any{"name": "West Europe", "type": "Microsoft.Web/geoRegions"}}}},
		"/providers/microsoft.authorization/permissions": {"2022-04-01", map[string]any{"value": all}},
	}
}

// look answers a read of the subscription, or of what the caller may do in a resource group, and
// reports whether the request was one.
func (s *Server) look(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(r.URL.Path), "/subscriptions/"+Subscription)
	if !ok || r.Method != http.MethodGet {
		return false
	}
	group := ""
	if inGroup, ok := strings.CutPrefix(rest, "/resourcegroups/"); ok {
		name, below, _ := strings.Cut(inGroup, "/")
		if below != "providers/microsoft.authorization/permissions" {
			return false
		}
		group, rest = name, "/"+below
	}
	l, ok := s.looks()[rest]
	if !ok {
		return false
	}
	s.mu.Lock()
	there := s.groups[strings.ToLower("/subscriptions/"+Subscription+"/resourcegroups/"+group)] != nil
	s.mu.Unlock()
	switch {
	// azcore's read of a resource provider
	case r.URL.Query().Get("api-version") != l.version &&
		!(len(rest) > 10 && strings.Count(rest, "/") == 2 && r.URL.Query().Get("api-version") == "2019-05-01"):
		s.problem("%s %s has the API version %q", r.Method, r.URL.Path, r.URL.Query().Get("api-version"))
		refuse(w, http.StatusBadRequest, "InvalidApiVersionParameter", "the api-version is invalid")
	case group != "" && !there:
		refuse(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+group+"' could not be found.")
	case s.cfg.Looks[rest] != nil:
		answer(w, http.StatusOK, s.cfg.Looks[rest])
	default:
		answer(w, http.StatusOK, l.body)
	}
	return true
}

// unregistered reports whether the subscription has not registered a resource provider yet.
func (s *Server) unregistered(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.cfg.Unregistered, func(name string) bool { return strings.EqualFold(name, namespace) })
}

// register answers the registration of a resource provider, and refuses requests to one that is not
// registered. It reports whether it answered.
func (s *Server) register(w http.ResponseWriter, r *http.Request) bool {
	rest := strings.Split(strings.TrimPrefix(r.URL.Path, "/subscriptions/"+Subscription), "/")
	if len(rest) == 4 && rest[1] == "providers" && rest[3] == "register" && r.Method == http.MethodPost {
		s.mu.Lock()
		s.cfg.Unregistered = slices.DeleteFunc(slices.Clone(s.cfg.Unregistered),
			func(name string) bool { return strings.EqualFold(name, rest[2]) })
		s.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"namespace": rest[2], "registrationState": "Registering"})
		return true
	}
	i := slices.Index(rest, "providers")
	if i < 3 || i+1 == len(rest) || !s.unregistered(rest[i+1]) || r.Method == http.MethodGet {
		return false
	}
	refuse(w, http.StatusConflict, "MissingSubscriptionRegistration",
		"The subscription is not registered to use namespace '"+rest[i+1]+
			"'. See https://aka.ms/rps-not-found for how to register subscriptions.")
	return true
}
