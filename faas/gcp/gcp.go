//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/oauth2adapt"
	"cloud.google.com/go/functions/apiv2/functionspb"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	run "google.golang.org/api/run/v2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

func init() {
	faas.Register(faas.GCPFunctions, faas.ProviderInfo{
		MaxParallel:  8,
		AtomicUpdate: true,
		Resolve:      resolve,
		Options:      declare(new(settings)).Table(),
		Open: func(ctx context.Context, cfg faas.Config) (faas.Executor, error) {
			e, err := New(ctx, cfg)
			if err != nil {
				return nil, err // not e: a nil *Executor in an interface is not nil
			}
			return e, nil
		},
	})
}

// Executor deploys to Google Cloud Functions. It is bound to one service, project and region, and
// implements [faas.Executor].
type Executor struct {
	faas.Unimplemented
	set  *settings
	http *http.Client    // without credentials
	api  *http.Client    // Google's clients send over it
	own  *http.Transport // nil where the caller gave an HTTP client
	log  *slog.Logger
	host hosting

	clients
	access *access // nil where credentials are disabled, or the caller's HTTP client has them
	idFrom IDTokenSource
	tokens oauth2.TokenSource // nil: the credentials' own
	opts   []option.ClientOption

	idTokens kit.Once[string, *oauth2.Token] // by audience
	uploads  kit.Once[string, upload]        // by the package's SHA-256
	stores   kit.Turns[string]               // by the package's SHA-256
	routes   sync.Map                        // of job id to *route
	memories sync.Map                        // of unit id to *memory
	runtime  atomic.Pointer[string]          // the newest Go runtime on offer, once it is known
	offered  atomic.Pointer[[]string]        // all that can be deployed, beside it
}

// route says where a job is invoked.
type route struct {
	url  string
	form payloads.Form // that the function takes
}

func routeTo(got *resource) *route {
	if got.isCompact() {
		return &route{got.url, payloads.Raw}
	}
	return &route{got.url, payloads.Numbers}
}

// Service returns the service that the executor is bound to.
func (e *Executor) Service() string { return e.set.service }

// CheckPlace returns an ErrConflict if the state's resource is of another project or region. It
// accepts a project's number for its ID and the reverse, because they cannot be compared.
func (e *Executor) CheckPlace(_ context.Context, recorded faas.State) error {
	part := strings.Split(recorded.Resource, "/")
	if len(part) < 4 || part[0] != "projects" || part[2] != "locations" {
		return nil
	}
	isNumber := func(project string) bool { return strings.Trim(project, "0123456789") == "" }
	if part[1] != e.set.project && isNumber(part[1]) == isNumber(e.set.project) || part[3] != e.set.region {
		return faas.Errorf(faas.ErrConflict, "open", faas.GCPFunctions,
			"%s was deployed to project %s in %s, but this is project %s in %s",
			recorded.ID, part[1], part[3], e.set.project, e.set.region)
	}
	return nil
}

var (
	_ faas.Executor     = (*Executor)(nil)
	_ faas.Bound        = (*Executor)(nil)
	_ faas.PlaceChecker = (*Executor)(nil)
)

// IDTokenSource returns an ID token for an audience, which is a function's URL. The AccessToken of
// the result holds the ID token; its Expiry counts.
type IDTokenSource func(ctx context.Context, audience string) (*oauth2.Token, error)

// Option configures [New] beyond what a configuration can say.
type Option func(*Executor)

// WithTokenSource authorizes API calls with these OAuth 2.0 access tokens in place of Application
// Default Credentials. Unless an [IDTokenSource] is given too, private functions are still invoked
// with ID tokens of Application Default Credentials.
func WithTokenSource(source oauth2.TokenSource) Option {
	return func(e *Executor) { e.tokens = source }
}

// WithClientOptions passes options to Google's clients, and to the code that gets their credentials
// and ID tokens. Options of another transport, such as gRPC, are an error. The client of
// [option.WithHTTPClient] is used for API calls only, and must have credentials.
// [option.WithEndpoint] applies to every API whose place neither an option of the configuration nor
// a variable sets. Options that are nil are ignored.
func WithClientOptions(opts ...option.ClientOption) Option {
	return func(e *Executor) {
		for _, opt := range opts {
			if opt != nil {
				e.opts = append(e.opts, opt)
			}
		}
	}
}

// WithIDTokenSource authorizes invocations with these ID tokens.
func WithIDTokenSource(source IDTokenSource) Option { return func(e *Executor) { e.idFrom = source } }

// New returns an executor for cfg.ProjectID and cfg.Region, bound to cfg.Service, without the
// registry. It uses cfg.Service, ProjectID, Region, Options, HTTPClient and Logger, and sends
// nothing. The environment sets project, region and endpoints that cfg leaves open: see the package
// documentation. The error is ErrInvalidArgument.
//
// The executor uses the transport, cookie jar and timeout of a given HTTP client, and adds
// credentials to its requests. The transport must not repeat a POST by itself, because Invoke must
// never be repeated.
func New(ctx context.Context, cfg faas.Config, opts ...Option) (*Executor, error) {
	cfg.Provider = faas.GCPFunctions
	cfg = faas.Resolve(cfg)
	set, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	e := &Executor{set: set, log: cfg.Logger}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTPClient != nil {
		client := *cfg.HTTPClient
		e.http = &client
	} else {
		e.own = newTransport()
		e.http = &http.Client{Transport: e.own}
	}
	e.http.Transport = httputil.Guard(e.http.Transport)
	e.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, opt := range opts {
		if opt != nil {
			opt(e)
		}
	}
	if err := e.connect(ctx); err != nil {
		return nil, err
	}
	e.host = buildHost{e}
	if set.mode == modeRun {
		e.host = runHost{e}
	}
	return e, nil
}

// connect makes the clients of the APIs, and what authorizes them.
func (e *Executor) connect(ctx context.Context) error {
	base := e.http.Transport
	api := &http.Client{Transport: base, Jar: e.http.Jar, Timeout: e.http.Timeout, CheckRedirect: e.http.CheckRedirect}
	idToken := IDTokenSource(nil)
	switch {
	case e.tokens != nil:
		own := &credentials{e.set, base}
		e.access = &access{open: func(ctx context.Context) (*opened, error) {
			from := oauth2adapt.TokenProviderFromTokenSource(e.tokens)
			return own.authorize(ctx, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: from}))
		}}
		if !e.set.noCredentials {
			idToken = own.idToken
		}
	case len(e.opts) > 0:
		named, endpoint, authenticates, err := choose(ctx, e.opts)
		if err != nil {
			return invalid("the client options conflict: %w", err)
		}
		if endpoint != "" {
			e.set.moveTo(strings.TrimRight(endpoint, "/") + "/")
		}
		from := &chosen{e.opts, base}
		switch {
		case named != nil:
			api.Transport, api.Jar, api.Timeout = httputil.Guard(named.Transport), named.Jar, named.Timeout
			idToken = from.idToken
		case authenticates:
			e.access, idToken = &access{open: from.open}, from.idToken
		}
	case !e.set.noCredentials:
		own := &credentials{e.set, base}
		e.access, idToken = &access{open: own.open}, own.idToken
	}
	if e.idFrom == nil {
		e.idFrom = idToken
	}
	if e.access != nil {
		api.Transport = e.access
	}
	api.Transport = wire{api.Transport}
	e.api = api
	var err error
	if e.clients, err = newClients(ctx, e.set, api); err != nil {
		return faas.Errorf(faas.ErrInternal, "open", faas.GCPFunctions, "%w", err)
	}
	return nil
}

// newTransport returns a transport that keeps enough connections for many concurrent invocations.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 512
	t.DisableCompression = true
	return t
}

// Close closes the connections that are not in use. It removes nothing from Google Cloud.
func (e *Executor) Close() error {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
	return nil
}

// Format prints service, project, region and mode, and no credential, whatever the verb.
func (e *Executor) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "gcp-functions{service:%s project:%s region:%s mode:%s}", e.set.service, e.set.project, e.set.region,
		e.set.mode)
}

// resource is a deployed function, on either host.
type resource struct {
	id      string
	name    string // full resource name
	service string // full name of the Cloud Run service that runs it
	labels  map[string]string
	status  faas.Status
	reason  string
	url     string
	// revision changes with every change.
	revision  string
	updatedAt time.Time
	// leaving says that the function is being deleted.
	leaving  bool
	function *functionspb.Function // nil on Cloud Run
	run      *run.GoogleCloudRunV2Service
	raw      json.RawMessage // as the API gave it; nil in a list
}

// hosting runs a service's functions. It is Cloud Functions, which builds them, or Cloud Run
// itself.
type hosting interface {
	// files returns the contents of the binary's package.
	files(bin *faas.Binary) ([]faas.PackageFile, error)
	// get returns a function, whoever owns it. If the function does not exist, faas.CodeOf of the
	// error is ErrNotFound.
	get(ctx context.Context, r request, id string) (*resource, error)
	// read makes a function from the API's answer, and isWhole reports whether the answer held all
	// that the API returns for a function that is done.
	read(id string, raw json.RawMessage) (*resource, error)
	isWhole(got *resource) bool
	// list returns all functions of project and region.
	list(ctx context.Context, r request) ([]*resource, error)
	// apply creates the function, or changes what differs from old, and waits until that is done. It
	// reports an ErrConflict if something else is changing the function, and an ErrAlreadyExists if it
	// did not expect one.
	apply(ctx context.Context, d *deployment, old *resource, p *httputil.Progress) (*resource, error)
	// putBack makes the function what it was before, and waits until that is done. now is the function
	// as it is, or nil if there is none. If nothing differs, putBack returns now.
	putBack(ctx context.Context, r request, was *reading, id string, now *resource) (*resource, error)
	// remove sends the deletion of the function, and waits until it is done. If the function does not
	// exist, the error is ErrNotFound.
	remove(ctx context.Context, r request, id string) error
	// operation returns a function that looks at an operation of the hosting's API.
	operation(name string) func(context.Context) error
}

// observe returns a function of the service. A function of another service is an ErrConflict.
func (e *Executor) observe(ctx context.Context, r request, id string) (*resource, error) {
	job, ours := kit.CloudRunNames.Job(e.set.service, id)
	got, err := e.newest(ctx, r, id)
	if err != nil {
		if ours && faas.CodeOf(err) == faas.ErrNotFound {
			e.routes.Delete(job)
		}
		return nil, err
	}
	owner, labelled := got.labels[labelService]
	switch {
	case e.set.mode == modeRun && got.labels[labelManaged] == "cloudfunctions":
		return nil, e.errorf(faas.ErrConflict, r, "service %s belongs to a Cloud Function of the same name: remove that "+
			"first, or use mode %s", got.name, modeBuild)
	case labelled && owner != kit.CloudRunNames.Prefix(e.set.service):
		return nil, e.errorf(faas.ErrConflict, r, "function %s belongs to service %q", got.name, owner)
	case !labelled && !(ours && e.set.adopt):
		return nil, e.errorf(faas.ErrConflict, r, "function %s exists and was not deployed by this module (it lacks the "+
			"label %s): remove it, or set option adopt to true to take it over", got.name, labelService)
	}
	if ours {
		if got.url == "" || got.leaving {
			e.routes.Delete(job)
		} else {
			e.routes.Store(job, routeTo(got))
		}
	}
	return got, nil
}

// newest gets the function. While a read shows an older state than this executor has seen, it reads
// again for a while.
func (e *Executor) newest(ctx context.Context, r request, id string) (*resource, error) {
	for i, wait := 0, 250*time.Millisecond; ; i, wait = i+1, wait*2 {
		got, err := e.host.get(ctx, r, id)
		if err != nil || i == staleReads || !e.memory(id).isOld(got) || !httputil.Sleep(ctx, wait) {
			return got, err
		}
	}
}

// staleReads is how often a read that shows an older state is repeated: 16 s in all.
const staleReads = 6

// Observe reads the function. It costs one read, and one more if the service is public or has
// invokers.
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	r := request{op: "observe", job: faas.NoJob}
	got, err := e.observe(ctx, r, id)
	if err != nil {
		return faas.State{}, err
	}
	e.memory(id).keep(got)
	s := e.state(got)
	if s.Fingerprint != "" && len(e.set.members()) > 0 && got.service != "" {
		granted, err := e.granted(ctx, r, got.service)
		if err != nil {
			return faas.State{}, err
		}
		if !granted {
			s.Fingerprint = "" // who may invoke it is part of its configuration
		}
	}
	return s, nil
}

// List returns the service's functions.
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	r := request{op: "list", job: faas.NoJob}
	all, err := e.host.list(ctx, r)
	if faas.CodeOf(err) == faas.ErrNotFound { // that a list is not there says nothing of what it would have
		err = e.errorf(faas.ErrUnavailable, r, "the functions of the project cannot be listed: %w", err)
	}
	if err != nil {
		return nil, err
	}
	var states []faas.State
	for _, one := range all {
		if one.labels[labelService] == kit.CloudRunNames.Prefix(e.set.service) {
			states = append(states, e.state(one))
		}
	}
	slices.SortFunc(states, func(a, b faas.State) int { return strings.Compare(a.ID, b.ID) })
	return states, nil
}

// lastSegment returns the id at the end of a resource name.
func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
