// Package azuretest is a stand-in for Azure, for tests: Entra ID's token endpoint, Resource Manager
// with the calls that deploying a function app takes, the publish endpoint of an app, and the
// Functions host. The host runs the package that was published: it reads host.json and
// function.json, and starts the executable as a custom handler, respecting its mode bits.
// Everything is served over TLS on loopback.
//
// It is strict: an unknown path, API version or member of a body is an error, and so is a token
// that it did not issue.
package azuretest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a client needs to log in.
const (
	Tenant       = "11111111-1111-1111-1111-111111111111"
	ClientID     = "22222222-2222-2222-2222-222222222222"
	ClientSecret = "the-client-secret"
	Subscription = "33333333-3333-3333-3333-333333333333"
	Audience     = "https://management.azure.com"
)

// Fault is the answer to a request in place of the usual one.
type Fault struct {
	Status     int
	Code       string
	Message    string
	RetryAfter int // seconds; 0: not said
	// Details are further members of the error, such as "details" and "additionalInfo".
	Details map[string]any
}

// Config configures the stand-in. The zero value is an Azure in which everything works at once.
type Config struct {
	// Polls is how often the state of an operation must be asked for until the operation ends.
	Polls int
	// Fail makes operations on resources of a type, such as "Microsoft.Web/sites", end with an error.
	// It is called with the number of the operation on the type, from 1, and returns the code of the
	// error, or "".
	Fail func(resourceType string, n int) string
	// Fault is called for every request to Resource Manager and to publish endpoints. It must not read
	// the body.
	Fault func(r *http.Request) *Fault
	// FailDeploy is called with the number of a deployment, from 1, and returns why it fails, or "".
	FailDeploy func(n int) string
	// Allowed are the only permissions that the caller has, such as "Microsoft.Web/sites/write"; nil
	// means all.
	Allowed []string
	// Unregistered are the resource providers that the subscription has not registered yet.
	Unregistered []string
	// NoRoles denies the assignment of roles, as Azure does to most users.
	NoRoles bool
	// KeysAfter is how often the keys of a host must be asked for until they exist.
	KeysAfter int
	// Taken are names that somebody else has.
	Taken []string
	// FrontEnd is how long the front end waits for an answer; 0 means Azure's 230 s.
	FrontEnd time.Duration
	// Store is where packages are unpacked.
	Store *Store
	// Looks are answers to reads of the subscription, in place of the usual ones, by the lower-case
	// path below the subscription.
	Looks map[string]any
	// Appear is how many requests do not find a resource after it was made: Azure's replicas learn
	// about it one by one. It also applies to operations, to the publish host of an app and to the
	// record of a deployment.
	Appear int
	// RoleLate are the words with which the deployments of an app fail, one after the other, once its
	// identity has its role and the role has no effect yet.
	RoleLate []string
	// Partial makes a deployment end with a partial success. It is called with the number of the
	// deployment, from 1.
	Partial func(n int) bool
	// Locked are names of resources and groups that somebody has locked, so that they cannot be
	// deleted.
	Locked []string
	// DataReader gives the caller a role that allows to read blobs. Even an owner of the subscription
	// does not have it by that alone.
	DataReader bool
	// NoKeys denies the caller the keys of storage accounts.
	NoKeys bool
	// Echo puts the body of a refused request into the error's message, as some services do.
	Echo bool
}

// Server is a stand-in for Azure.
type Server struct {
	cfg Config
	web *httptest.Server

	insights      insights
	mu            sync.Mutex
	token         string
	insightsToken string
	storageToken  string
	packages      map[string][]byte // by the lower-case id of the container
	fresh         map[string]int    // how many requests do not find it yet, by lower-case id
	groups        map[string]*Resource
	resources     map[string]*Resource // by lower-case id
	operations    map[string]*operation
	counts        map[string]int
	deploys       int
	uploads       []int
	used          map[string]bool // permissions since they were last asked for
	readOnly      []string        // names of what a lock lets nobody change, or ask for keys
	requests      []string
	problems      []string
}

// Resource is a resource that exists.
type Resource struct {
	ID   string
	Type string
	Body map[string]any
	app  *app // of a site
	// failed says that the last change ended with an error.
	failed bool
}

type operation struct {
	id     string // of the resource
	unseen int    // how many requests do not find it yet
	left   int
	code   string
	then   func()
}

// New starts a stand-in.
func New(cfg Config) *Server {
	if cfg.FrontEnd == 0 {
		cfg.FrontEnd = 230 * time.Second
	}
	s := &Server{
		cfg: cfg, token: "token-" + random(), insightsToken: "insights-" + random(), groups: map[string]*Resource{},
		resources: map[string]*Resource{}, operations: map[string]*operation{},
		counts: map[string]int{}, storageToken: "storage-" + random(), packages: map[string][]byte{}, fresh: map[string]int{},
		used: map[string]bool{},
	}
	s.web = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.web.Config.ErrorLog = quiet
	s.web.StartTLS()
	return s
}

func random() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Close stops the stand-in and every process that it started.
func (s *Server) Close() {
	s.mu.Lock()
	var apps []*app
	for _, r := range s.resources {
		if r.app != nil {
			apps = append(apps, r.app)
		}
	}
	s.mu.Unlock()
	for _, a := range apps {
		a.close()
	}
	s.web.Close()
}

// URL returns the URL of the authority and of Resource Manager.
func (s *Server) URL() string { return s.web.URL }

// Transport returns a transport that trusts the stand-in. The caller closes its idle connections.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{TLSClientConfig: s.web.Client().Transport.(*http.Transport).TLSClientConfig.Clone(),
		MaxIdleConnsPerHost: 64}
}

// CertificatePEM returns the certificate of all servers of the stand-in.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.web.Certificate().Raw})
}

// Left returns the ids of the resources and groups that exist.
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for _, all := range []map[string]*Resource{s.groups, s.resources} {
		for _, r := range all {
			left = append(left, r.ID)
		}
	}
	return left
}

// Requests returns method and path of every request since the last call.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// Uploads returns the sizes in bytes of all packages that publish hosts received.
func (s *Server) Uploads() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uploads)
}

// Problems returns what no correct client would have sent.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems
}

// Site returns the present body of an app, or nil.
func (s *Server) Site(name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.findSite(name); r != nil {
		return s.view(r)
	}
	return nil
}

// Settings returns the application settings of an app.
func (s *Server) Settings(name string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.findSite(name); r != nil {
		return r.app.copySettings()
	}
	return nil
}

// RenewKeys gives the host of an app new keys.
func (s *Server) RenewKeys(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.findSite(name); r != nil {
		r.app.renewKeys()
	}
}

// Add adds a resource of somebody else to a group, and makes the group if it does not exist.
func (s *Server) Add(group, resourceType, name string, tags map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := "/subscriptions/" + Subscription + "/resourceGroups/" + group
	if s.groups[strings.ToLower(id)] == nil {
		s.groups[strings.ToLower(id)] = &Resource{ID: id, Type: groupType,
			Body: map[string]any{"location": "westeurope", "tags": tags}}
	}
	if resourceType == "" {
		return
	}
	id += "/providers/" + resourceType + "/" + name
	s.resources[strings.ToLower(id)] = &Resource{
		ID: id, Type: resourceType, Body: map[string]any{
			"location": "westeurope", "tags": tags, "properties": map[string]any{}}}
}

// Lock makes exactly the resources and groups with these names read-only.
func (s *Server) Lock(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = names
}

// Stop stops an app, as somebody may do in the portal.
func (s *Server) Stop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.findSite(name); r != nil {
		r.app.stop(true)
	}
}

func (s *Server) findSite(name string) *Resource {
	for _, r := range s.resources {
		if r.Type == siteType && strings.EqualFold(nameOf(r.ID), name) {
			return r
		}
	}
	return nil
}

func nameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func (s *Server) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/"+Tenant+"/") {
		s.login(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/blob/") {
		s.serveBlob(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v1/apps/") {
		s.queryInsights(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		refuse(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "the token is not one of this server")
		return
	}
	if s.fault(w, r) {
		return
	}
	s.manage(w, r)
}

// fault answers with an injected fault, and reports whether it did.
func (s *Server) fault(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.Fault == nil {
		return false
	}
	f := s.cfg.Fault(r)
	if f == nil {
		return false
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(f.RetryAfter))
	}
	message := f.Message
	if s.cfg.Echo {
		body, _ := io.ReadAll(r.Body) // what was sent so far
		message += string(body)
	}
	said := map[string]any{"code": f.Code, "message": message}
	maps.Copy(said, f.Details)
	answer(w, f.Status, map[string]any{"error": said})
	return true
}

// login issues tokens for a client secret, as Entra ID does.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	base := s.web.URL + "/" + Tenant
	switch strings.TrimPrefix(r.URL.Path, "/"+Tenant) {
	case "/v2.0/.well-known/openid-configuration":
		answer(w, http.StatusOK, map[string]any{
			"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"issuer": base + "/v2.0",
		})
	case "/oauth2/v2.0/token":
		if r.FormValue("client_id") != ClientID || r.FormValue("client_secret") != ClientSecret ||
			r.FormValue("grant_type") != "client_credentials" {
			answer(w, http.StatusUnauthorized, map[string]any{
				"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
			return
		}
		if strings.HasPrefix(r.FormValue("scope"), InsightsAudience+"/.default") {
			answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": s.insightsToken})
			return
		}
		if strings.HasPrefix(r.FormValue("scope"), "https://storage.azure.com/.default") {
			answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": s.storageToken})
			return
		}
		if !strings.HasPrefix(r.FormValue("scope"), Audience+"/.default") {
			answer(w, http.StatusBadRequest, map[string]any{
				"error": "invalid_scope", "error_description": "AADSTS70011: " + r.FormValue("scope")})
			return
		}
		answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": s.token})
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("x-ms-request-id", random())
	if status == http.StatusTooManyRequests {
		w.Header().Set("x-ms-ratelimit-remaining-subscription-writes", "0")
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_ = json.NewEncoder(w).Encode(body) // the client is gone, and nobody else wants to know
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": message}})
}

// Environment returns the variables by which azidentity and the provider find the stand-in.
func (s *Server) Environment() map[string]string {
	return map[string]string{
		"AZURE_AUTHORITY_HOST": s.web.URL, "AZURE_TENANT_ID": Tenant, "AZURE_CLIENT_ID": ClientID,
		"AZURE_CLIENT_SECRET":             ClientSecret,
		"AZURE_RESOURCE_MANAGER_ENDPOINT": s.web.URL,
	}
}

// isExecutable reports whether the mode bits of a file of a package allow to start it.
func isExecutable(mode os.FileMode) bool { return mode.Perm()&0o111 != 0 }

var errNoHandler = errors.New("no package is deployed")
