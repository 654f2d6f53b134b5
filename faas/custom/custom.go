package custom

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

func init() {
	faas.Register(faas.Custom, faas.ProviderInfo{
		MaxParallel: 16,
		Options:     declare(new(given)).Table(),
		Resolve: func(cfg faas.Config) faas.Config {
			cfg.Endpoint = canonicalURL(cfg.Endpoint)
			return cfg
		},
		Open: func(ctx context.Context, cfg faas.Config) (faas.Executor, error) {
			e, err := New(ctx, cfg)
			if err != nil {
				return nil, err // not e: a nil *Executor in an interface is not nil
			}
			return e, nil
		},
	})
}

// Executor is the executor of a custom platform, bound to one service.
type Executor struct {
	faas.Unimplemented
	set    *settings
	name   string // of this executor, to know its states again
	http   *http.Client
	own    *http.Transport // nil if the caller gave an HTTP client
	tokens *tokenSource    // nil without OAuth 2.0
	clean  *sanitize.Cleaner
	made   histories
	log    *slog.Logger
	kind   atomic.Int32 // what is known of the platform in mode auto
	raw    atomic.Int32 // whether the platform takes the raw form of payloads
}

// What an executor has learnt about the form of invocations that its platform takes.
const (
	rawUnknown int32 = iota
	rawTaken         // the platform has announced it
	// The platform refused the raw form after announcing it: a proxy blocks it, or another version
	// answers now.
	rawRefused
)

// What an executor in mode auto has learnt about its platform.
const (
	kindUnknown int32 = iota
	kindDeploys
	kindInvokeOnly // by the option mode, never by guess: it makes deploying and removing change nothing
	kindGuessed    // an invocation was answered at ENDPOINT/job/N alone; only invocations and health go by that
)

// Service returns the service that the executor is bound to.
func (e *Executor) Service() string { return e.set.service }

var (
	_ faas.Executor = (*Executor)(nil)
	_ faas.Bound    = (*Executor)(nil)
)

// New returns an executor for the platform at cfg.Endpoint, bound to cfg.Service, without the
// registry. It uses cfg.Service, Endpoint, Options, HTTPClient and Logger, reads the certificate
// files that the options name, and makes no request. The error is ErrInvalidArgument.
//
// Of cfg.HTTPClient it uses the transport, cookie jar and timeout, and replaces the redirect
// policy. To guarantee that Invoke never repeats, the transport must not repeat a POST by itself.
func New(_ context.Context, cfg faas.Config) (*Executor, error) {
	set, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	e := &Executor{set: set, name: rand.Text(), clean: sanitize.NewCleaner(), log: cfg.Logger}
	for _, secret := range slices.Concat(set.secrets, set.hidden) {
		e.clean.Add(secret.Reveal())
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTPClient != nil {
		client := *cfg.HTTPClient
		e.http = &client
	} else {
		e.own = newTransport(set.tls)
		e.http = &http.Client{Transport: e.own}
	}
	e.http.Transport = httputil.Guard(e.http.Transport)
	e.http.CheckRedirect = checkRedirect
	if set.oauth != nil {
		e.tokens = newTokenSource(set.oauth, e.http, e.clean)
	}
	switch set.mode {
	case modeDeploy:
		e.kind.Store(kindDeploys)
	case modeInvokeOnly:
		e.kind.Store(kindInvokeOnly)
	}
	return e, nil
}

// Close closes idle connections. It removes nothing from the platform.
func (e *Executor) Close() error {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
	return nil
}

// Format prints the endpoint and the service, and no credential, for every verb.
func (e *Executor) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "custom{endpoint:%s service:%s mode:%s}", faas.RedactURL(e.set.base.String()), e.set.service,
		e.set.mode)
}

// functionURL returns the URL of a function, or of a path below it.
func (e *Executor) functionURL(id, below string) string {
	return e.set.base.String() + "/api/functions/" + url.PathEscape(id) + below
}

// jobURL returns the address at which an invoke-only platform runs the job, or "" if it is unknown.
func (e *Executor) jobURL(jobID uint32) string {
	if u := e.set.invokeURLs[jobID]; u != "" {
		return u
	}
	return strings.ReplaceAll(e.set.invokeURL, "{job_id}", strconv.FormatUint(uint64(jobID), 10))
}

// invokeOnly reports whether functions are deployed by hand.
func (e *Executor) invokeOnly() bool { return e.kind.Load() == kindInvokeOnly }

// invokesByHand reports whether jobs are invoked at their own addresses.
func (e *Executor) invokesByHand() bool { return e.invokeOnly() || e.kind.Load() == kindGuessed }
