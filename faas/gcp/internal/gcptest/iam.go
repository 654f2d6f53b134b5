package gcptest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type policy struct {
	Version  int              `json:"version,omitempty"`
	Etag     string           `json:"etag"`
	Bindings []map[string]any `json:"bindings,omitempty"`
	// AuditConfigs stay unless an update mask names them.
	AuditConfigs any `json:"auditConfigs,omitempty"`
}

// etag returns an etag, which is in base64.
func etag(n int) string {
	return base64.StdEncoding.EncodeToString(strconv.AppendInt([]byte("etag-"), int64(n), 10))
}

// membersOf returns the members of a binding.
func membersOf(binding map[string]any) []string {
	var members []string
	switch all := binding["members"].(type) {
	case []string:
		members = all
	case []any:
		for _, one := range all {
			members = append(members, fmt.Sprint(one))
		}
	}
	return members
}

func (p *policy) has(role, member string) bool {
	return p != nil && slices.ContainsFunc(p.Bindings, func(b map[string]any) bool {
		return b["role"] == role && b["condition"] == nil && slices.Contains(membersOf(b), member)
	})
}

// valid returns what is wrong with a policy, or "".
func (p *policy) valid() string {
	for _, b := range p.Bindings {
		switch {
		case b["condition"] != nil && p.Version != 3:
			return "Policies with conditions need version 3."
		case b["role"] == nil || len(membersOf(b)) == 0:
			return "A binding has no role or no members."
		}
	}
	return ""
}

func (s *Server) iamPolicy(w http.ResponseWriter, r *http.Request, service string) {
	if _, ok := query(w, r, "options.requestedPolicyVersion"); !ok {
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.iam[service]
	if current == nil {
		fail(w, 404, "NOT_FOUND", "Resource '"+service+"' was not found")
		return
	}
	if r.Method == http.MethodGet {
		shown := *current
		if r.URL.Query().Get("options.requestedPolicyVersion") != "3" { // conditions are hidden from who does not know them
			shown.Bindings = slices.DeleteFunc(slices.Clone(shown.Bindings),
				func(b map[string]any) bool { return b["condition"] != nil })
		}
		reply(w, shown)
		return
	}
	var in struct {
		Policy     *policy `json:"policy"`
		UpdateMask string  `json:"updateMask"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Policy == nil {
		fail(w, 400, "INVALID_ARGUMENT", "no policy")
		return
	}
	if in.Policy.Etag != current.Etag {
		fail(w, 409, "ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write with "+
			"exponential backoff.")
		return
	}
	if wrong := in.Policy.valid(); wrong != "" {
		fail(w, 400, "INVALID_ARGUMENT", wrong)
		return
	}
	in.Policy.Etag, in.Policy.AuditConfigs = etag(s.next()), current.AuditConfigs
	s.iam[service] = in.Policy
	s.spread[service] = s.PolicyDelay
	reply(w, in.Policy)
}

// SetPolicy changes a service's policy behind the caller's back.
func (s *Server) SetPolicy(service, role string, members ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.iam[service]
	p.Etag = etag(s.next())
	p.Bindings = append(p.Bindings, map[string]any{"role": role, "members": members})
}

// SetBinding adds a whole binding and audit configurations to a service's policy, whose version
// becomes 3.
func (s *Server) SetBinding(service string, binding map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.iam[service]
	p.Etag, p.Version, p.AuditConfigs = etag(s.next()), 3, []any{map[string]any{"service": "allServices"}}
	p.Bindings = append(p.Bindings, binding)
}

// Policy returns a service's policy.
func (s *Server) Policy(service string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := *s.iam[service]
	text, _ := json.Marshal(p)
	var doc map[string]any
	_ = json.Unmarshal(text, &doc)
	return doc
}

// Allowed returns who has a role on a service.
func (s *Server) Allowed(service, role string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	if p := s.iam[service]; p != nil {
		for _, b := range p.Bindings {
			if b["role"] == role {
				all = append(all, membersOf(b)...)
			}
		}
	}
	return all
}

// token is the token endpoint of service accounts. It returns an ID token for the audience of the
// assertion.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	var claims struct {
		Audience string `json:"target_audience"`
	}
	part := strings.Split(r.Form.Get("assertion"), ".")
	if len(part) != 3 || r.Form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		http.Error(w, `{"error":"invalid_grant"}`, 400)
		return
	}
	text, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		http.Error(w, `{"error":"invalid_grant"}`, 400)
		return
	}
	if claims.Audience == "" {
		reply(w, map[string]any{"access_token": "access-token-of-the-test", "expires_in": 3600, "token_type": "Bearer"})
		return
	}
	reply(w, map[string]any{"id_token": IDToken(claims.Audience)})
}

// IDToken returns a token that is well-formed and not signed.
func IDToken(audience string) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims, err := json.Marshal(map[string]any{"aud": audience, "exp": 4102444800})
	if err != nil {
		panic(err)
	}
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode(claims) + "." + encode([]byte("signature"))
}

func validIDToken(r *http.Request, audience string) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && token == IDToken(audience)
}

// preflight answers the questions about a project before a deployment: which APIs are enabled,
// which permissions the caller has (all of them), and which account builds.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request, name string) {
	switch {
	case strings.HasSuffix(name, "/services:batchGet"):
		var all []map[string]any
		for _, one := range r.URL.Query()["names"] {
			all = append(all, map[string]any{"name": one, "state": "ENABLED"})
		}
		reply(w, map[string]any{"services": all})
	case strings.HasSuffix(name, ":testIamPermissions") && r.Method == http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	case strings.HasSuffix(name, ":generateAccessToken"), strings.HasSuffix(name, ":generateIdToken"):
		impersonate(w, r)
	case strings.Contains(name, "/services/") && r.Method == http.MethodGet:
		reply(w, map[string]any{"name": name, "state": "ENABLED"})
	case strings.HasSuffix(name, ":getIamPolicy") && r.Method == http.MethodPost:
		reply(w, policy{Etag: etag(1), Bindings: []map[string]any{
			{"role": "roles/cloudbuild.builds.builder", "members": []string{"serviceAccount:" + buildAccount}}}})
	case strings.HasSuffix(name, "/defaultServiceAccount"):
		reply(w, map[string]any{"name": name, "serviceAccountEmail": "projects/123456789/serviceAccounts/" + buildAccount})
	case strings.Count(name, "/") == 1 && r.Method == http.MethodGet:
		reply(w, map[string]any{"projectId": lastSegment(name), "projectNumber": "123456789", "lifecycleState": "ACTIVE"})
	default:
		fail(w, 404, "NOT_FOUND", "no such method: "+r.Method+" "+name)
	}
}

// impersonate returns tokens of a service account to a caller that has the token of another one.
func impersonate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Audience     string   `json:"audience"`
		IncludeEmail bool     `json:"includeEmail"`
		Delegates    []string `json:"delegates"`
		Scope        []string `json:"scope"`
		Lifetime     string   `json:"lifetime"`
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&in); {
	case err != nil || r.Method != http.MethodPost:
		fail(w, 400, "INVALID_ARGUMENT", "the request is not valid")
	case r.Header.Get("Authorization") != "Bearer access-token-of-the-test":
		fail(w, 403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied")
	case strings.HasSuffix(r.URL.Path, ":generateIdToken"):
		reply(w, map[string]any{"token": IDToken(in.Audience)})
	default:
		reply(w, map[string]any{"accessToken": "impersonated-token-of-the-test", "expireTime": "2100-01-01T00:00:00Z"})
	}
}

const buildAccount = "123456789-compute@developer.gserviceaccount.com"

func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
