package custom

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Environment variables that credentials are taken from where no option gives them.
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

// defaultReadyTimeout is how long a new function may take to become healthy.
const defaultReadyTimeout = 60 * time.Second

func options() []faas.Option {
	return []faas.Option{
		{Name: "mode", Default: modeAuto, Help: "auto, deploy, or invoke-only: for a platform on which functions are deployed by hand"},
		{Name: "invoke_url", Place: true, Help: "where to invoke on an invoke-only platform, with {job_id} in it, and without a credential; the default is ENDPOINT/job/{job_id}"},
		{Name: "invoke_urls", Place: true, Help: `where to invoke single jobs on an invoke-only platform, without credentials: "0=https://a.example,1=https://b.example"`},
		{Name: "token", Sensitive: true, Help: "bearer token; the default is $" + TokenEnv},
		{Name: "header", Sensitive: true, Help: `header of every request, such as "X-Api-Key: abc"; several are separated by line breaks`},
		{Name: "oauth2_token_url", Help: "where OAuth 2.0 client credentials get their token"},
		{Name: "oauth2_client_id", Help: "OAuth 2.0 client id"},
		{Name: "oauth2_client_secret", Sensitive: true, Help: "OAuth 2.0 client secret; the default is $" + ClientSecretEnv},
		{Name: "oauth2_scopes", Help: "OAuth 2.0 scopes"},
		{Name: "ca_file", Help: "PEM file of the authorities to trust, in place of the system's"},
		{Name: "client_cert", Help: "PEM file of the client certificate, for mutual TLS"},
		{Name: "client_key", Help: "PEM file of the client certificate's key"},
		{Name: "allow_insecure", Default: "false", Help: "true: send credentials and environment values over plain http to hosts other than this one"},
		{Name: "ready_timeout_secs", Default: strconv.Itoa(int(defaultReadyTimeout / time.Second)), Help: "how long a new function may take to become healthy, in seconds"},
	}
}

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

// parse checks everything that can be checked without calling anyone.
func parse(cfg faas.Config) (*settings, error) {
	if cfg.Service == "" {
		return nil, invalid("the service name is empty: an executor is bound to one service")
	}
	known := options()
	for name := range cfg.Options {
		if !slices.ContainsFunc(known, func(o faas.Option) bool { return o.Name == name }) {
			return nil, invalid("unknown option %q", name)
		}
	}
	s := &settings{service: cfg.Service, header: headers{"User-Agent": {faas.NewSecret("blueprint-serverless")}}, mode: cmp.Or(cfg.Options["mode"], modeAuto)}
	steps := []func(faas.Config) error{s.parseEndpoint, s.parseMode, s.parseHeader, s.parseToken, s.parseOAuth, s.parseTLS, s.parseReadyTimeout, s.checkInsecure}
	for _, step := range steps {
		if err := step(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parseURL parses an absolute http(s) URL. The value is not in its errors: it may hold a password.
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

func (s *settings) parseEndpoint(cfg faas.Config) error {
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

// canonicalURL returns the one spelling of a URL that has several: scheme and host in lower case, no port that goes without saying, and no slash at the
// end. A text that is no URL is returned as it is.
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

func (s *settings) parseMode(cfg faas.Config) error {
	if !slices.Contains([]string{modeAuto, modeDeploy, modeInvokeOnly}, s.mode) {
		return invalid("option mode is %q; it can be auto, deploy or invoke-only", s.mode)
	}
	template, list := cfg.Options["invoke_url"], cfg.Options["invoke_urls"]
	if template == "" && list == "" {
		s.invokeURL = s.base.String() + "/job/{job_id}"
		return nil
	}
	if s.mode == modeDeploy {
		return invalid("options invoke_url and invoke_urls are for invoke-only platforms, and mode is deploy")
	}
	s.mode = modeInvokeOnly
	if template != "" {
		if !strings.Contains(template, "{job_id}") {
			return invalid("option invoke_url has no {job_id} in it; invoke_urls takes one URL per job")
		}
		if err := s.checkInvokeURL("option invoke_url", strings.ReplaceAll(template, "{job_id}", "0")); err != nil {
			return err
		}
		s.invokeURL = template
	}
	s.invokeURLs = map[uint32]string{}
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		job, raw, _ := strings.Cut(item, "=")
		id, err := strconv.ParseUint(strings.TrimSpace(job), 10, 32)
		if err != nil {
			return invalid(`option invoke_urls: an item is not of the form JOB=URL, as in "0=https://a.example,1=https://b.example"`)
		}
		if _, dup := s.invokeURLs[uint32(id)]; dup {
			return invalid("option invoke_urls has job %d twice", id)
		}
		if err := s.checkInvokeURL("option invoke_urls, job "+job, strings.TrimSpace(raw)); err != nil {
			return err
		}
		s.invokeURLs[uint32(id)] = strings.TrimSpace(raw)
	}
	return nil
}

// checkInvokeURL checks the URL of a single job. What its query holds is not meant to be a secret, and is hidden all the same.
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

// reservedHeaders are set by this package or by net/http, or would make net/http repeat an invocation.
var reservedHeaders = []string{
	"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Expect", "Trailer", "Upgrade", "Idempotency-Key", "X-Idempotency-Key",
}

func (s *settings) parseHeader(cfg faas.Config) error {
	for line := range strings.Lines(cfg.Options["header"]) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !found || !isHeaderName(name) || !isHeaderValue(value) {
			return invalid(`option header: a line is not of the form "Name: value"`)
		}
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

func (s *settings) parseToken(cfg faas.Config) error {
	token, name := cfg.Options["token"], "option token"
	authorized := s.header.get("Authorization") != ""
	if token == "" && !authorized && cfg.Options["oauth2_client_id"] == "" {
		token, name = os.Getenv(TokenEnv), "$"+TokenEnv
	}
	token = strings.TrimSpace(token)
	switch {
	case token == "":
		return nil
	case authorized:
		return invalid("option token is given besides another credential (in the endpoint or option header); give one")
	case !isHeaderValue(token):
		return invalid("%s holds a character that no header can hold", name)
	}
	s.keep(token)
	s.header.set("Authorization", "Bearer "+token)
	return nil
}

// isHeaderName reports whether the text is a token of RFC 9110.
func isHeaderName(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
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

func (s *settings) parseOAuth(cfg faas.Config) error {
	id, tokenURL, secret := cfg.Options["oauth2_client_id"], cfg.Options["oauth2_token_url"], cfg.Options["oauth2_client_secret"]
	if id == "" && tokenURL == "" && secret == "" {
		return nil
	}
	secret = cmp.Or(secret, os.Getenv(ClientSecretEnv))
	for _, o := range []struct{ name, value string }{
		{"option oauth2_client_id", id}, {"option oauth2_token_url", tokenURL}, {"option oauth2_client_secret (or $" + ClientSecretEnv + ")", secret},
	} {
		if o.value == "" {
			return invalid("%s is missing: OAuth 2.0 client credentials need id, secret and token URL", o.name)
		}
	}
	if s.header.get("Authorization") != "" {
		return invalid("OAuth 2.0 and another credential are both configured; give one")
	}
	u, err := parseURL("option oauth2_token_url", tokenURL)
	if err != nil {
		return err
	}
	if u.User != nil {
		return invalid("option oauth2_token_url holds a user name; client id and secret have options of their own")
	}
	s.keep(secret)
	s.oauth = &clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: tokenURL, Scopes: strings.FieldsFunc(cfg.Options["oauth2_scopes"], func(r rune) bool { return r == ',' || r == ' ' })}
	return nil
}

func (s *settings) parseTLS(cfg faas.Config) error {
	caFile, certFile, keyFile := cfg.Options["ca_file"], cfg.Options["client_cert"], cfg.Options["client_key"]
	if caFile == "" && certFile == "" && keyFile == "" {
		return nil
	}
	if cfg.HTTPClient != nil {
		return invalid("an HTTP client is given, so its TLS settings count; leave out options ca_file, client_cert and client_key")
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return invalid("option ca_file: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
			return invalid("option ca_file: %s holds no PEM certificate", caFile)
		}
	}
	if certFile == "" && keyFile == "" {
		return nil
	}
	if certFile == "" || keyFile == "" {
		return invalid("options client_cert and client_key go together")
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return invalid("options client_cert and client_key: %w", err)
	}
	s.tls.Certificates = []tls.Certificate{cert}
	return nil
}

func (s *settings) parseReadyTimeout(cfg faas.Config) error {
	s.readyTimeout = defaultReadyTimeout
	text := cfg.Options["ready_timeout_secs"]
	if text == "" {
		return nil
	}
	secs, err := strconv.ParseUint(text, 10, 16)
	if err != nil || secs == 0 {
		return invalid("option ready_timeout_secs is %q; it is a whole number of seconds from 1 to 65535", text)
	}
	s.readyTimeout = time.Duration(secs) * time.Second
	return nil
}

// checkInsecure refuses to send a credential where everyone on the way can read it.
func (s *settings) checkInsecure(cfg faas.Config) error {
	insecure := cfg.Options["allow_insecure"]
	if insecure != "" && insecure != "true" && insecure != "false" {
		return invalid("option allow_insecure is %q; it can be true or false", insecure)
	}
	s.inClear = s.base.Scheme == "http" && !isLoopback(s.base.Hostname()) && insecure != "true"
	if insecure == "true" || len(s.secrets) == 0 {
		return nil
	}
	targets := []string{s.base.String(), strings.ReplaceAll(s.invokeURL, "{job_id}", "0")}
	targets = slices.AppendSeq(targets, maps.Values(s.invokeURLs))
	if s.oauth != nil {
		targets = append(targets, s.oauth.TokenURL)
	}
	for _, target := range targets {
		if u, err := url.Parse(target); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			return invalid("a credential would go over plain http to %s: use https, or set option allow_insecure to true", u.Host)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
