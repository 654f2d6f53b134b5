package azuretest

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// quiet drops what net/http logs about connections that tests break.
var quiet = log.New(io.Discard, "", 0)

// app is a function app: its settings, its publish host and its Functions host.
type app struct {
	server    *Server
	name      string
	principal string
	plan      string // guarded by the server's lock
	container string // lower-case id of that with the package; guarded by the server's lock
	late      int    // deployments that failed because of RoleLate; guarded by the server's lock
	scm       *httptest.Server
	front     *httptest.Server
	host      *host

	mu       sync.Mutex
	settings map[string]string
	keys     map[string]string
	asked    int // how often the keys were asked for
	modified time.Time
	deploys  map[string]*published
	unseen   int // how many requests the publish host does not answer yet
	synced   bool
	stopped  bool
}

type published struct {
	began  time.Time
	ended  bool
	unseen int // how many requests do not find the record yet
	left   int
	status int
	text   string
	then   func() error
}

// newApp starts the hosts of an app.
func newApp(s *Server, name string) *app {
	a := &app{
		server: s, name: name, unseen: s.cfg.Appear, principal: "principal-" + random(), settings: map[string]string{},
		deploys: map[string]*published{},
		host: &host{store: s.cfg.Store, report: func(settings map[string]string) (io.Writer, io.Writer) {
			return s.report(name, settings)
		}},
	}
	a.renewKeys()
	start := func(serve http.HandlerFunc) *httptest.Server {
		server := httptest.NewUnstartedServer(serve)
		server.Config.ErrorLog = quiet
		server.StartTLS()
		return server
	}
	a.scm, a.front = start(a.servePublish), start(a.serveFront)
	return a
}

func (a *app) close() {
	a.front.CloseClientConnections()
	a.host.remove()
	a.front.Close()
	a.scm.Close()
}

func (a *app) renewKeys() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = map[string]string{"_master": "master-" + random(), "default": "function-" + random()}
}

func (a *app) copySettings() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.settings)
}

// configure applies the body of the app. The caller holds the server's lock.
func (a *app) configure(body map[string]any) {
	properties, _ := body["properties"].(map[string]any)
	a.plan, _ = properties["serverFarmId"].(string)
	a.moveTo(containerOf(properties))
	config, _ := properties["siteConfig"].(map[string]any)
	list, ok := config["appSettings"].([]any)
	if !ok {
		return
	}
	settings := map[string]string{}
	for _, item := range list {
		pair, _ := item.(map[string]any)
		name, _ := pair["name"].(string)
		settings[name], _ = pair["value"].(string)
	}
	a.set(settings)
}

// containerOf returns the URL of the container that holds the package of an app.
func containerOf(properties map[string]any) string {
	config, _ := properties["functionAppConfig"].(map[string]any)
	deployment, _ := config["deployment"].(map[string]any)
	storage, _ := deployment["storage"].(map[string]any)
	url, _ := storage["value"].(string)
	return url
}

// moveTo makes the app run the package of another container. The caller holds the server's lock.
func (a *app) moveTo(url string) {
	id := ""
	if c := a.server.findContainer(url); c != nil {
		id = strings.ToLower(c.ID)
	}
	if id == a.container {
		return
	}
	a.container = id
	a.host.remove()
	if text, ok := a.server.packages[id]; ok {
		_ = a.host.install(text) // it was installed before
	}
}

// set changes the settings, which restarts the app.
func (a *app) set(settings map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.modified = time.Now()
	if !maps.Equal(a.settings, settings) {
		a.settings = settings
		a.host.restart()
	}
}

// show adds to an answer what only Azure knows about an app, and removes what Azure does not show.
func (a *app) show(out, properties map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	front, scm := a.front.Listener.Addr().String(), a.scm.Listener.Addr().String()
	out["identity"] = map[string]any{"type": "SystemAssigned", "principalId": a.principal, "tenantId": Tenant}
	properties["state"] = "Running"
	if a.stopped {
		properties["state"] = "Stopped"
	}
	properties["sku"] = "FlexConsumption"
	properties["siteConfig"] = map[string]any{"appSettings": nil, "numberOfWorkers": 1}
	properties["lastModifiedTimeUtc"] = a.modified.UTC().Format("2006-01-02T15:04:05.0000000")
	properties["defaultHostName"] = front
	properties["enabledHostNames"] = []any{front, scm}
	properties["hostNameSslStates"] = []any{
		map[string]any{"name": front, "sslState": "Disabled", "hostType": "Standard"},
		map[string]any{"name": scm, "sslState": "Disabled", "hostType": "Repository"},
	}
}

// action answers a call of Resource Manager for something below the app.
func (a *app) action(c *call) {
	switch c.r.Method + " " + c.action {
	case "POST config/appsettings/list":
		answer(c.w, http.StatusOK, map[string]any{"name": "appsettings", "properties": a.copySettings()})
	case "PUT config/appsettings":
		properties, ok := c.body["properties"].(map[string]any)
		if !ok {
			refuse(c.w, http.StatusBadRequest, "BadRequest", "there are no properties")
			return
		}
		settings := map[string]string{}
		for name, value := range properties {
			settings[name], _ = value.(string)
		}
		a.set(settings)
		answer(c.w, http.StatusOK, map[string]any{"properties": settings})
	case "POST host/default/listkeys":
		a.listKeys(c.w)
	case "POST syncfunctiontriggers":
		if a.host.functions() == nil {
			refuse(c.w, http.StatusBadRequest, "BadRequest", "Encountered an error (ServiceUnavailable) from host runtime.")
			return
		}
		a.mu.Lock()
		a.synced = true
		a.mu.Unlock()
		c.w.WriteHeader(http.StatusNoContent)
	case "POST start":
		a.stop(false)
		c.w.WriteHeader(http.StatusOK)
	case "GET functions":
		a.listFunctions(c)
	default:
		a.server.unknown(c)
	}
}

func (a *app) stop(yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = yes
}

func (a *app) listKeys(w http.ResponseWriter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked++; a.asked <= a.server.cfg.KeysAfter {
		refuse(w, http.StatusBadRequest, "BadRequest", "Encountered an error (ServiceUnavailable) from host runtime.")
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"masterKey": a.keys["_master"], "functionKeys": map[string]any{"default": a.keys["default"]},
		"systemKeys": map[string]any{},
	})
}

func (a *app) listFunctions(c *call) {
	a.mu.Lock()
	synced := a.synced
	a.mu.Unlock()
	value := []any{}
	for name := range a.host.functions() {
		if synced { // Azure lists what it was told to read
			value = append(value, map[string]any{"name": a.name + "/" + name, "properties": map[string]any{"name": name}})
		}
	}
	answer(c.w, http.StatusOK, map[string]any{"value": value})
}

// servePublish is the publish host: One Deploy.
func (a *app) servePublish(w http.ResponseWriter, r *http.Request) {
	a.server.mu.Lock()
	a.server.requests = append(a.server.requests, r.Method+" scm"+r.URL.Path)
	a.server.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+a.server.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if a.server.fault(w, r) {
		return
	}
	if a.server.mayNot(publishPermission) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	switch id, isStatus := strings.CutPrefix(r.URL.Path, "/api/deployments/"); {
	case a.isUnseen():
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost && r.URL.Path == "/api/publish":
		a.accept(w, r)
	case r.Method == http.MethodGet && isStatus:
		a.deployStatus(w, id)
	default:
		a.server.problem("%s %s at the publish host is unknown", r.Method, r.URL.Path)
		http.NotFound(w, r)
	}
}

func (a *app) isUnseen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unseen--
	return a.unseen >= 0
}

func (a *app) accept(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.Header.Get("Content-Type") != "application/zip" || query.Get("isAsync") != "true" ||
		!strings.EqualFold(query.Get("RemoteBuild"), "false") {
		a.server.problem("publish with content type %q and query %s", r.Header.Get("Content-Type"), r.URL.RawQuery)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text := make([]byte, max(r.ContentLength, 0))
	if _, err := io.ReadFull(r.Body, text); err != nil {
		return
	}
	if a.isDeploying() {
		w.WriteHeader(http.StatusConflict)
		return
	}
	a.server.mu.Lock()
	a.server.uploads = append(a.server.uploads, len(text))
	a.server.deploys++
	n := a.server.deploys
	a.server.mu.Unlock()
	p := &published{began: time.Now(), unseen: a.server.cfg.Appear, left: a.server.cfg.Polls, status: 4}
	p.then = func() error { return a.release(text) }
	if a.server.cfg.Partial != nil && a.server.cfg.Partial(n) {
		p.status, p.text = 6, "The deployment was partially successful: the app could not be restarted."
	}
	if a.server.cfg.FailDeploy != nil {
		if why := a.server.cfg.FailDeploy(n); why != "" {
			p.status, p.text, p.then = 3, why, nil
		}
	}
	if why := a.storageProblem(); why != "" {
		p.status, p.text, p.then = 3, why, nil
	}
	id := random()
	a.mu.Lock()
	a.deploys[id] = p
	a.mu.Unlock()
	answer(w, http.StatusAccepted, id)
}

// isDeploying reports whether a deployment is in progress. The tools of the app ask until it has
// ended.
func (a *app) isDeploying() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.deploys {
		if !p.ended && time.Since(p.began) < mostDeploying {
			return true
		}
	}
	return false
}

// mostDeploying is how long a deployment takes if nobody asks for its state.
const mostDeploying = 200 * time.Millisecond

// release puts a package into the app's container and runs it.
func (a *app) release(text []byte) error {
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	if a.server.resources[a.container] == nil {
		return errors.New("ContainerNotFound: The specified container does not exist")
	}
	if err := a.host.install(text); err != nil {
		return err
	}
	a.server.packages[a.container] = text
	return nil
}

// storageProblem says why the app may not use its storage, or returns "".
func (a *app) storageProblem() string {
	settings := a.copySettings()
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	if connection := settings["DEPLOYMENT_STORAGE_CONNECTION_STRING"]; connection != "" {
		for _, r := range a.server.resources {
			if r.Type != accountType || !strings.Contains(
				connection, "AccountName="+nameOf(r.ID)+";AccountKey="+AccountKey(nameOf(r.ID))+";") {
				continue
			}
			if !takesKeys(r) {
				return "403 Key based authentication is not permitted on this storage account."
			}
			return ""
		}
		return "403 the key is not that of the account"
	}
	for _, r := range a.server.resources {
		properties, _ := r.Body["properties"].(map[string]any)
		if r.Type == roleType && properties["principalId"] == a.principal &&
			settings["AzureWebJobsStorage__blobServiceUri"] != "" {
			if n := a.late; n < len(a.server.cfg.RoleLate) {
				a.late++
				return a.server.cfg.RoleLate[n]
			}
			return ""
		}
	}
	return "403 this request is not authorized to perform this operation"
}

func (a *app) deployStatus(w http.ResponseWriter, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.deploys[id]
	if p == nil || p.unseen > 0 {
		if p != nil {
			p.unseen--
		}
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if p.left > 0 {
		p.left--
		answer(w, http.StatusOK, map[string]any{"id": id, "status": 1, "status_text": "Building", "complete": false})
		return
	}
	if then := p.then; then != nil {
		p.then = nil
		a.mu.Unlock() // it takes the server's lock, which comes first
		err := then()
		a.mu.Lock()
		if err != nil {
			p.status, p.text = 3, err.Error()
		}
	}
	p.ended = true
	answer(w, http.StatusOK, map[string]any{"id": id, "status": p.status, "status_text": p.text, "complete": true})
}

// serveFront is the front end and the Functions host behind it.
func (a *app) serveFront(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	keys, settings, stopped := maps.Clone(a.keys), maps.Clone(a.settings), a.stopped
	a.mu.Unlock()
	if stopped {
		http.Error(w, "Error 403 - This web app is stopped.", http.StatusForbidden)
		return
	}
	key := r.Header.Get("x-functions-key")
	if r.URL.Path == "/admin/host/status" {
		if key != keys["_master"] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		state, problems := a.host.status()
		answer(w, http.StatusOK, map[string]any{"id": a.name, "state": state, "version": "4.1040.300.0", "errors": problems})
		return
	}
	a.host.serve(w, r, request{authorized: key == keys["default"] || key == keys["_master"], settings: settings,
		frontEnd: a.server.cfg.FrontEnd})
}

// invocation returns the id that the host gives a call.
func invocation() string { return fmt.Sprintf("%s-%d", random(), time.Now().UnixNano()) }
