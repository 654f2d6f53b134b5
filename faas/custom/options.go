package custom

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// The environment variables that provide credentials if no option does.
const (
	TokenEnv        = "FAAS_CUSTOM_TOKEN"                // option token
	ClientSecretEnv = "FAAS_CUSTOM_OAUTH2_CLIENT_SECRET" // option oauth2_client_secret
)

// The values of option mode.
const (
	modeAuto       = "auto"
	modeDeploy     = "deploy"
	modeInvokeOnly = "invoke-only"
)

// given holds the options as given.
type given struct {
	mode, invokeURL           string
	invokeURLs                map[string]string
	token, clientSecret       faas.Secret
	header                    []string // which may be credentials
	tokenURL, clientID        string
	scopes                    []string
	caFile, certFile, keyFile string
	allowInsecure             bool
	readyTimeout              time.Duration
}

func declare(g *given) kit.Options {
	return kit.Options{
		kit.Into(&g.mode, faas.Option{
			Name: "mode", Default: modeAuto, Choices: []string{modeAuto, modeDeploy, modeInvokeOnly},
			Help: "auto, deploy, or invoke-only: for a platform on which functions are deployed by hand",
		}),
		kit.Into(&g.invokeURL, faas.Option{
			Name: "invoke_url", Place: true,
			Help: "where to invoke on an invoke-only platform, with {job_id} in it, and without a credential; " +
				"without it ENDPOINT/job/{job_id}",
		}),
		kit.Into(&g.invokeURLs, faas.Option{
			Name: "invoke_urls", Place: true, Valid: jobPattern.MatchString,
			Shape: "JOB=URL",
			Help: `where to invoke single jobs on an invoke-only platform, without credentials: ` +
				`"0=https://a.example,1=https://b.example"`,
		}),
		kit.Into(&g.token, faas.Option{
			Name: "token", Env: TokenEnv, Valid: isHeaderValue,
			Shape: "of characters that a header can hold",
			Help:  "bearer token",
		}),
		kit.Into(&g.header, faas.Option{
			Name: "header", Type: faas.OptionLines, Sensitive: true, Valid: isHeader,
			Shape: `of the form "Name: value"`,
			Help:  `header of every request, such as "X-Api-Key: abc"; several are separated by line breaks`,
		}),
		kit.Into(&g.tokenURL, faas.Option{
			Name: "oauth2_token_url", Type: faas.OptionURL,
			Help: "where OAuth 2.0 client credentials get their token",
		}),
		kit.Into(&g.clientID, faas.Option{Name: "oauth2_client_id", Help: "OAuth 2.0 client id"}),
		kit.Into(&g.clientSecret, faas.Option{
			Name: "oauth2_client_secret", Env: ClientSecretEnv,
			Help: "OAuth 2.0 client secret",
		}),
		kit.Into(&g.scopes, faas.Option{Name: "oauth2_scopes", Help: "OAuth 2.0 scopes"}),
		kit.Into(&g.caFile, faas.Option{
			Name: "ca_file",
			Help: "PEM file of the authorities to trust, in place of the system's",
		}),
		kit.Into(&g.certFile, faas.Option{
			Name: "client_cert",
			Help: "PEM file of the client certificate, for mutual TLS",
		}),
		kit.Into(&g.keyFile, faas.Option{Name: "client_key", Help: "PEM file of the client certificate's key"}),
		kit.Into(&g.allowInsecure, faas.Option{
			Name: "allow_insecure", Default: "false",
			Help: "send credentials and environment values over plain http to hosts other than this one",
		}),
		kit.Into(&g.readyTimeout, faas.Option{
			Name: "ready_timeout_secs", Default: "60", Min: 1, Max: 65535,
			Help: "how long a deployed function may take until it answers",
		}),
	}
}

var jobPattern = regexp.MustCompile(`^(0|[1-9][0-9]*)=`)

// settings is a checked configuration.
type settings struct {
	service      string
	base         *url.URL // without user information and trailing slash
	mode         string
	invokeURL    string            // template of invoke-only platforms
	invokeURLs   map[uint32]string // of single jobs
	header       headers           // of every request, credentials included
	oauth        *clientcredentials.Config
	tls          *tls.Config // nil: the default
	readyTimeout time.Duration
	inClear      bool          // what is sent can be read on the way, and allow_insecure does not say that it may
	secrets      []faas.Secret // the credentials
	hidden       []faas.Secret // what else may be one
}

// headers are those of a request. Their values may be credentials.
type headers map[string][]faas.Secret

func (h headers) set(name, value string) { h[name] = []faas.Secret{faas.NewSecret(value)} }
func (h headers) add(name, value string) { h[name] = append(h[name], faas.NewSecret(value)) }

func (h headers) get(name string) string {
	if len(h[name]) == 0 {
		return ""
	}
	return h[name][0].Reveal()
}

func (s *settings) keep(secrets ...string) {
	for _, secret := range secrets {
		s.secrets = append(s.secrets, faas.NewSecret(secret))
	}
}

func invalid(format string, args ...any) error {
	return faas.Errorf(faas.ErrInvalidArgument, "open", faas.Custom, format, args...)
}

// parse checks everything that can be checked without a request.
func parse(cfg faas.Config) (*settings, error) {
	if cfg.Service == "" {
		return nil, invalid("the service name is empty: an executor is bound to one service")
	}
	var g given
	if err := declare(&g).Fill(faas.Custom, cfg); err != nil {
		return nil, err
	}
	s := &settings{
		service: cfg.Service, mode: g.mode, readyTimeout: g.readyTimeout,
		header: headers{"User-Agent": {faas.NewSecret("blueprint-serverless")}},
	}
	for _, step := range []func(faas.Config, given) error{
		s.parseEndpoint, s.parseInvokeURLs, s.parseHeader, s.parseToken, s.parseOAuth, s.parseTLS, s.checkInsecure,
	} {
		if err := step(cfg, g); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parseURL parses an absolute http(s) URL. Its errors do not contain the value, which may hold a
// password.
func parseURL(name, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, invalid("%s is not a URL", name)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, invalid("%s is not an absolute http or https URL: %s", name, faas.RedactURL(raw))
	}
	return u, nil
}

func (s *settings) parseEndpoint(cfg faas.Config, _ given) error {
	if cfg.Endpoint == "" {
		return invalid("endpoint is empty; it is the base URL of the platform, such as https://faas.example.com")
	}
	u, err := parseURL("endpoint", cfg.Endpoint)
	if err != nil {
		return err
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return invalid("endpoint must have neither query nor fragment: paths are added to it")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		s.keep(basic, cmp.Or(password, u.User.Username())) // a user name alone is a token
		s.header.set("Authorization", "Basic "+basic)
		u.User = nil
	}
	s.base = canonical(u)
	return nil
}

// canonicalURL returns the canonical spelling of a URL: scheme and host in lower case, no default
// port, no trailing slash. It returns text that is not a URL unchanged.
func canonicalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return canonical(u).String()
}

func canonical(u *url.URL) *url.URL {
	c := *u
	c.Scheme, c.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := c.Port(); port == "" || c.Scheme == "http" && port == "80" || c.Scheme == "https" && port == "443" {
		c.Host = strings.TrimSuffix(strings.TrimSuffix(c.Host, port), ":")
	}
	c.Path, c.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return &c
}

func (s *settings) parseInvokeURLs(_ faas.Config, g given) error {
	s.invokeURL = s.base.String() + "/job/{job_id}"
	if g.invokeURL == "" && len(g.invokeURLs) == 0 {
		return nil
	}
	if s.mode == modeDeploy {
		return invalid("options invoke_url and invoke_urls are for invoke-only platforms, and mode is deploy")
	}
	s.mode, s.invokeURL = modeInvokeOnly, g.invokeURL
	if g.invokeURL != "" {
		if !strings.Contains(g.invokeURL, "{job_id}") {
			return invalid("option invoke_url has no {job_id} in it; invoke_urls takes one URL per job")
		}
		if err := s.checkInvokeURL("option invoke_url", strings.ReplaceAll(g.invokeURL, "{job_id}", "0")); err != nil {
			return err
		}
	}
	s.invokeURLs = map[uint32]string{}
	for job, raw := range g.invokeURLs {
		id, err := strconv.ParseUint(job, 10, 32)
		if err != nil {
			return invalid("option invoke_urls: %s is not the id of a job", job)
		}
		if err := s.checkInvokeURL("option invoke_urls, job "+job, raw); err != nil {
			return err
		}
		s.invokeURLs[uint32(id)] = raw
	}
	return nil
}

// checkInvokeURL checks the URL of a single job. Its query is not meant to contain a secret, but is
// hidden in any case.
func (s *settings) checkInvokeURL(name, raw string) error {
	u, err := parseURL(name, raw)
	if err != nil {
		return err
	}
	if u.User != nil {
		return invalid("%s holds a user name; credentials belong into the endpoint or an option", name)
	}
	for _, values := range u.Query() {
		for _, value := range values {
			s.hidden = append(s.hidden, faas.NewSecret(value))
		}
	}
	return nil
}

// reservedHeaders are set by this package or by net/http, or would make net/http repeat an
// invocation.
var reservedHeaders = []string{
	"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Expect", "Trailer", "Upgrade",
	"Idempotency-Key", "X-Idempotency-Key",
}

// isHeader reports whether text has the form "Name: value".
func isHeader(text string) bool {
	name, value, found := strings.Cut(text, ":")
	return found && isHeaderName(name) && isHeaderValue(strings.TrimSpace(value))
}

func (s *settings) parseHeader(_ faas.Config, g given) error {
	for _, line := range g.header {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		name = http.CanonicalHeaderKey(name)
		switch {
		case slices.Contains(reservedHeaders, name) || strings.HasPrefix(name, "X-Blueprint-"):
			return invalid("option header: %s is not a header that can be set", name)
		case name == "Authorization" && s.header.get(name) != "":
			return invalid("the endpoint holds a user name, and option header sets Authorization; give one")
		}
		_, credential, _ := strings.Cut(value, " ") // after the scheme
		s.keep(value, credential)
		s.header.add(name, value)
	}
	return nil
}

func (s *settings) parseToken(cfg faas.Config, g given) error {
	authorized := s.header.get("Authorization") != ""
	if strings.TrimSpace(cfg.Options["token"]) == "" && (authorized || g.clientID != "") {
		return nil // the variable counts if nothing else is given
	}
	token := g.token.Reveal()
	switch {
	case token == "":
		return nil
	case authorized:
		return invalid("option token is given besides another credential (in the endpoint or option header); give one")
	}
	s.keep(token)
	s.header.set("Authorization", "Bearer "+token)
	return nil
}

// isHeaderName reports whether text is a token of RFC 9110.
func isHeaderName(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return text != ""
}

func isHeaderValue(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func (s *settings) parseOAuth(cfg faas.Config, g given) error {
	if g.clientID == "" && g.tokenURL == "" && strings.TrimSpace(cfg.Options["oauth2_client_secret"]) == "" {
		return nil
	}
	secret := g.clientSecret.Reveal()
	for _, o := range []struct{ name, value string }{
		{"oauth2_client_id", g.clientID}, {"oauth2_token_url", g.tokenURL},
		{"oauth2_client_secret (or $" + ClientSecretEnv + ")", secret},
	} {
		if o.value == "" {
			return invalid("option %s is missing: OAuth 2.0 client credentials need id, secret and token URL", o.name)
		}
	}
	if s.header.get("Authorization") != "" {
		return invalid("OAuth 2.0 and another credential are both configured; give one")
	}
	s.keep(secret)
	s.oauth = &clientcredentials.Config{
		ClientID: g.clientID, ClientSecret: secret, TokenURL: g.tokenURL,
		Scopes: strings.Fields(strings.Join(g.scopes, " ")),
	}
	return nil
}

func (s *settings) parseTLS(cfg faas.Config, g given) error {
	if g.caFile == "" && g.certFile == "" && g.keyFile == "" {
		return nil
	}
	if cfg.HTTPClient != nil {
		return invalid("an HTTP client is given, so its TLS settings count; leave out options ca_file, client_cert and " +
			"client_key")
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if g.caFile != "" {
		pem, err := os.ReadFile(g.caFile)
		if err != nil {
			return invalid("option ca_file: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
			return invalid("option ca_file: %s holds no PEM certificate", g.caFile)
		}
	}
	if g.certFile == "" && g.keyFile == "" {
		return nil
	}
	if g.certFile == "" || g.keyFile == "" {
		return invalid("options client_cert and client_key go together")
	}
	cert, err := tls.LoadX509KeyPair(g.certFile, g.keyFile)
	if err != nil {
		return invalid("options client_cert and client_key: %w", err)
	}
	s.tls.Certificates = []tls.Certificate{cert}
	return nil
}

// checkInsecure refuses to send a credential where everyone on the way can read it.
func (s *settings) checkInsecure(_ faas.Config, g given) error {
	s.inClear = s.base.Scheme == "http" && !httputil.IsLoopback(s.base.Hostname()) && !g.allowInsecure
	if g.allowInsecure || len(s.secrets) == 0 {
		return nil
	}
	targets := []string{s.base.String(), strings.ReplaceAll(s.invokeURL, "{job_id}", "0")}
	targets = slices.AppendSeq(targets, maps.Values(s.invokeURLs))
	if s.oauth != nil {
		targets = append(targets, s.oauth.TokenURL)
	}
	for _, target := range targets {
		if u, err := url.Parse(target); err == nil && u.Scheme == "http" && !httputil.IsLoopback(u.Hostname()) {
			return invalid("a credential would go over plain http to %s: use https, or set option allow_insecure to true",
				u.Host)
		}
	}
	return nil
}
