package custom

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// Diagnose checks whether the platform can be reached, accepts the credentials and speaks the
// protocol, what it declares about itself, and whether its clock is right. It sends two requests:
// for a function that does not exist and for the list of the service's functions. On an invoke-only
// platform it sends one HEAD, to the endpoint.
func (e *Executor) Diagnose(ctx context.Context) []faas.Check {
	ctx, cancel := context.WithTimeout(ctx, check.Time)
	defer cancel()
	d := &diagnosis{e: e}
	d.look(ctx)
	checks := make([]faas.Check, 0, 5)
	for _, c := range []struct {
		name  string
		check func() faas.Check
	}{{"endpoint", d.endpoint}, {"credentials", d.credentials}, {"protocol", d.protocol}, {"limits", d.limits},
		{"clock", d.clock}} {
		check := c.check()
		check.Name = c.name
		checks = append(checks, check)
	}
	return checks
}

// diagnosis holds the answers to the requests of one Diagnose.
type diagnosis struct {
	e          *Executor
	r          request
	a          *answer // nil beside err
	err        error
	tokenErr   error // of OAuth 2.0: nothing was asked then
	sent, came time.Time
	list       *declaration // nil where the platform does not list functions
}

// declaration is what a platform may declare beside the list of functions.
type declaration struct {
	Features []string `json:"features"`
	Limits   struct {
		MaxMemoryMB    uint32 `json:"max_memory_mb"`
		MaxTimeoutSecs uint32 `json:"max_timeout_secs"`
		MaxPayloadMB   uint32 `json:"max_payload_mb"`
		MaxPackageMB   uint32 `json:"max_package_mb"`
		MaxFunctions   uint32 `json:"max_functions"`
	} `json:"limits"`
}

func (d *diagnosis) look(ctx context.Context) {
	e := d.e
	d.r = request{op: "diagnose", job: faas.NoJob, method: http.MethodGet,
		url: e.functionURL(kit.ProtocolNames.Of(e.set.service, math.MaxUint32), "")}
	if e.invokeOnly() {
		d.r.method, d.r.url = http.MethodHead, e.set.base.String()
	}
	if e.tokens != nil {
		if _, err := e.tokens.get(ctx); err != nil {
			d.tokenErr = e.tokenError(ctx, d.r, err)
			return
		}
	}
	var listing sync.WaitGroup
	if !e.invokeOnly() {
		listing.Go(func() {
			r := request{op: "diagnose", job: faas.NoJob, method: http.MethodGet,
				url: e.set.base.String() + "/api/functions?service=" + url.QueryEscape(e.set.service), limit: maxList}
			var list declaration
			if a, err := e.send(ctx, r); err == nil && a.ok() && json.Unmarshal(a.body, &list) == nil {
				d.list = &list
			}
		})
	}
	d.sent = time.Now()
	d.a, d.err = e.send(ctx, d.r) // once: that a platform is unavailable now is what it is to tell
	d.came = time.Now()
	listing.Wait()
}

var setEndpoint = check.SetField("provider.endpoint", "URL")

func (d *diagnosis) endpoint() faas.Check {
	where := faas.RedactURL(d.e.set.base.String())
	switch {
	case d.tokenErr != nil:
		return check.Skip("there is no token to ask it with")
	case d.err == nil && d.a.status/100 == 3:
		return check.FailBy(d.e.statusError(d.r, d.a), setEndpoint)
	case d.err == nil:
		return check.OK("%s answers", where)
	}
	var (
		dns          *net.DNSError
		verification *tls.CertificateVerificationError
	)
	remedy := "start the platform at " + where + ", or name another one: " + setEndpoint
	switch {
	case errors.As(d.err, &dns) && dns.IsNotFound:
		remedy = setEndpoint
	case errors.As(d.err, &verification):
		remedy = check.SetOption("ca_file", "FILE")
	case faas.CodeOf(d.err) == faas.ErrPermissionDenied: // a TLS alert
		remedy = check.SetOption("client_cert", "FILE", "client_key", "FILE")
	case faas.CodeOf(d.err) == faas.ErrTimeout:
		remedy = "let this machine's network and firewall reach " + where + ", or name another platform: " + setEndpoint
	}
	return check.FailBy(d.err, remedy)
}

// kindOfCredentials returns what kind is sent, and how to configure another.
func (d *diagnosis) kindOfCredentials() (kind, remedy string) {
	set := d.e.set
	const token = "export " + TokenEnv + "=TOKEN"
	switch authorization := set.header.get("Authorization"); {
	case d.e.tokens != nil:
		return "an OAuth 2.0 token", check.SetOption("oauth2_client_id", "ID", "oauth2_scopes", "SCOPES") +
			"\nexport " + ClientSecretEnv + "=SECRET"
	case strings.HasPrefix(authorization, "Bearer "):
		return "a bearer token", token
	case strings.HasPrefix(authorization, "Basic "):
		return "a user name and password", check.SetField("provider.endpoint", "https://USER:PASSWORD@"+set.base.Host)
	case len(set.secrets) > 0:
		return "a header", check.SetOption("header", "NAME:VALUE")
	case set.tls != nil && len(set.tls.Certificates) > 0:
		return "a client certificate", token
	}
	return "", token
}

func (d *diagnosis) credentials() faas.Check {
	kind, remedy := d.kindOfCredentials()
	switch {
	case d.tokenErr != nil:
		return check.FailBy(d.tokenErr, remedy)
	case d.err != nil:
		return check.Skip("the platform cannot be reached")
	case d.a.status == http.StatusUnauthorized || d.a.status == http.StatusForbidden ||
		d.a.status == http.StatusProxyAuthRequired:
		sent := cmp.Or(kind, "no credential") + " was sent: "
		err := d.e.statusError(d.r, d.a)
		return check.Fail(err, remedy, "%s%s", sent, check.Words(err))
	case kind == "":
		return check.OK("none are sent, and none are asked for")
	}
	return check.OK("%s is sent, and accepted", kind)
}

// answered reports whether there is an answer for further checks.
func (d *diagnosis) answered() (faas.Check, bool) {
	switch {
	case d.tokenErr != nil || d.err != nil:
		return check.Skip("the platform cannot be reached"), false
	case d.a.status == http.StatusUnauthorized || d.a.status == http.StatusForbidden ||
		d.a.status == http.StatusProxyAuthRequired:
		return check.Skip("the credentials are not accepted"), false
	case d.a.status/100 == 3:
		return check.Skip("the platform is elsewhere"), false
	}
	return faas.Check{}, true
}

func (d *diagnosis) protocol() faas.Check {
	if skipped, ok := d.answered(); !ok {
		return skipped
	}
	e := d.e
	if e.invokeOnly() {
		if d.a.status >= 500 && d.a.status != http.StatusNotImplemented {
			return check.FailBy(e.statusError(d.r, d.a), "mend the platform: it answers with a failure of its own")
		}
		return check.OK("by option mode or invoke_url the platform is invoke-only: functions are deployed by hand, and "+
			"job 0 is invoked at %s", faas.RedactURL(e.jobURL(0)))
	}
	problem := decodeProblem(d.a.body)
	switch {
	case d.a.status == http.StatusNotFound && problem.text() != "", d.a.ok():
		features := "without extensions"
		if d.list != nil && len(d.list.Features) > 0 {
			features = "with the extensions " + d.e.clean.Line(strings.Join(d.list.Features, ", "), maxMessage)
		}
		return check.OK("it speaks the protocol %s", features)
	case d.a.status == http.StatusNotFound:
		return check.Warn(nil, "look whether the endpoint has a path that is missing: "+setEndpoint,
			"what is at %s answers, with status 404 for a function that does not exist, but not in the protocol's shape: it "+
				"may be another web server", faas.RedactURL(d.r.url))
	case d.a.missing():
		return check.Warn(nil, check.SetOption("mode", "invoke-only")+" (once the functions are deployed by hand)",
			"it knows no functions (status %d): it is an invoke-only platform, or another web server", d.a.status)
	}
	remedy := "mend the platform: it answers with a failure of its own"
	if d.a.status == http.StatusTooManyRequests {
		remedy = "try again later: the platform takes fewer requests than it is sent"
	}
	return check.FailBy(e.statusError(d.r, d.a), remedy)
}

func (d *diagnosis) limits() faas.Check {
	if skipped, ok := d.answered(); !ok {
		return skipped
	}
	assumed, _ := faas.ProviderLimits(faas.Custom)
	if d.list == nil || d.list.Limits.MaxTimeoutSecs == 0 {
		return check.Skip("the platform declares none: %d MB, %d s and a payload of %d MB are assumed",
			assumed.MaxMemoryMB, assumed.MaxTimeoutSecs, assumed.MaxPayloadMB)
	}
	l := d.list.Limits
	what := fmt.Sprintf("it declares %d MB, %d s, a payload of %d MB, packages of %d MB, %d functions", l.MaxMemoryMB,
		l.MaxTimeoutSecs, l.MaxPayloadMB, l.MaxPackageMB, l.MaxFunctions)
	if l.MaxMemoryMB < assumed.MaxMemoryMB || l.MaxTimeoutSecs < assumed.MaxTimeoutSecs ||
		l.MaxPayloadMB < assumed.MaxPayloadMB {
		return check.Warn(nil, check.SetField("default_memory_mb", fmt.Sprint(min(l.MaxMemoryMB, assumed.MaxMemoryMB)),
			"default_timeout_secs", fmt.Sprint(min(l.MaxTimeoutSecs, assumed.MaxTimeoutSecs))),
			"%s: jobs may fit the %d MB, %d s and %d MB of the analysis and not the platform", what, assumed.MaxMemoryMB,
			assumed.MaxTimeoutSecs, assumed.MaxPayloadMB)
	}
	return check.OK("%s", what)
}

func (d *diagnosis) clock() faas.Check {
	if d.a == nil {
		return check.Skip("the platform cannot be reached")
	}
	return check.Clock(faas.Custom, "the platform", d.a.header, d.sent, d.came)
}
