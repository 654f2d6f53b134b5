package custom_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

const secret = "s3cr3t-canary"

func TestNewRefusesWhatCannotWorkAndShowsNoSecret(t *testing.T) {
	t.Setenv(custom.TokenEnv, "")
	t.Setenv(custom.ClientSecretEnv, "")
	with := func(pairs ...string) faas.Config {
		cfg := faas.Config{Service: "svc", Endpoint: "https://faas.example", Options: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			cfg.Options[pairs[i]] = pairs[i+1]
		}
		return cfg
	}
	endpoint := func(url string, pairs ...string) faas.Config {
		cfg := with(pairs...)
		cfg.Endpoint = url
		return cfg
	}
	oauth := func(without string) faas.Config {
		cfg := with("oauth2_client_id", "id", "oauth2_client_secret", secret, "oauth2_token_url",
			"https://login.example/token")
		delete(cfg.Options, without)
		return cfg
	}
	missing := filepath.Join(t.TempDir(), "missing.pem")
	withClient := with("ca_file", missing)
	withClient.HTTPClient = http.DefaultClient
	for name, test := range map[string]struct {
		cfg  faas.Config
		want string // in the error
	}{
		"no service":                   {faas.Config{Endpoint: "https://faas.example"}, "service"},
		"no endpoint":                  {endpoint(""), "endpoint is empty"},
		"endpoint without scheme":      {endpoint("faas.example"), "absolute http or https URL"},
		"endpoint of another scheme":   {endpoint("ftp://faas.example"), "absolute http or https URL"},
		"endpoint without host":        {endpoint("https:///x"), "absolute http or https URL"},
		"unparsable endpoint":          {endpoint("https://u:" + secret + "@faas.example:port"), "not a URL"},
		"endpoint with query":          {endpoint("https://faas.example/?key=" + secret), "query"},
		"unknown option":               {with("tokken", secret), "tokken"},
		"unknown mode":                 {with("mode", "sometimes"), "auto, deploy or invoke-only"},
		"invoke_url without job":       {with("invoke_url", "https://a.example/"), "{job_id}"},
		"invoke_url of another scheme": {with("invoke_url", "gopher://a.example/{job_id}"), "invoke_url"},
		"invoke_url with user":         {with("invoke_url", "https://u:"+secret+"@a.example/{job_id}"), "user name"},
		"invoke_url where mode deploys": {with("mode", "deploy", "invoke_url", "https://a.example/{job_id}"),
			"mode is deploy"},
		"invoke_urls without job":      {with("invoke_urls", "https://a.example"), "JOB=URL"},
		"invoke_urls with a job twice": {with("invoke_urls", "0=https://a.example,0=https://b.example"), `"0" twice`},
		"invoke_urls with no URL":      {with("invoke_urls", "0="), "invoke_urls, job 0"},
		"token with a line break":      {with("token", "a\n"+secret), `option "token"`},
		"token and user name":          {endpoint("https://u:"+secret+"@faas.example", "token", "x"), "give one"},
		"token and Authorization":      {with("token", secret, "header", "Authorization: x"), "give one"},
		"user name and Authorization": {endpoint("https://u:"+secret+"@faas.example", "header", "Authorization: x"),
			"give one"},
		"token and OAuth": {with("token", secret, "oauth2_client_id", "id", "oauth2_client_secret", secret,
			"oauth2_token_url", "https://l.example"), "give one"},
		"header without colon":      {with("header", secret), "Name: value"},
		"header with a bad name":    {with("header", "a b: "+secret), "Name: value"},
		"header of our own":         {with("header", "X-Blueprint-Config: "+secret), "X-Blueprint-Config"},
		"header that repeats calls": {with("header", "idempotency-key: "+secret), "Idempotency-Key"},
		"OAuth without id":          {oauth("oauth2_client_id"), "oauth2_client_id"},
		"OAuth without secret":      {oauth("oauth2_client_secret"), custom.ClientSecretEnv},
		"OAuth without URL":         {oauth("oauth2_token_url"), "oauth2_token_url"},
		"OAuth over plain http": {with("oauth2_client_id", "id", "oauth2_client_secret", secret, "oauth2_token_url",
			"http://login.example/token"), "plain http to login.example"},
		"token over plain http":     {endpoint("http://faas.example", "token", secret), "plain http to faas.example"},
		"user name over plain http": {endpoint("http://u:" + secret + "@faas.example"), "plain http"},
		"token to an invoke URL": {with("token", secret, "invoke_urls", "0=http://a.example"),
			"plain http to a.example"},
		"allow_insecure maybe":        {with("allow_insecure", "maybe"), "true or false"},
		"no such CA file":             {with("ca_file", missing), "ca_file"},
		"CA file without certificate": {with("ca_file", "options_test.go"), "no PEM certificate"},
		"certificate without key":     {with("client_cert", missing), "go together"},
		"no such certificate":         {with("client_cert", missing, "client_key", missing), "client_cert"},
		"TLS files beside a client":   {withClient, "HTTP client"},
		"ready timeout of nothing":    {with("ready_timeout_secs", "0"), "ready_timeout_secs"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := custom.New(t.Context(), test.cfg)
			if e != nil || faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v and error %v, want ErrInvalidArgument with %q", e, err, test.want)
			}
			if holds(err, secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestNewAcceptsWhatCanWork(t *testing.T) {
	for name, cfg := range map[string]faas.Config{
		"token on loopback":        {Endpoint: "http://127.0.0.1:8080/", Options: map[string]string{"token": secret}},
		"token on IPv6 loopback":   {Endpoint: "http://[::1]:8080", Options: map[string]string{"token": secret}},
		"no token over plain http": {Endpoint: "http://faas.example"},
		"token over plain http if so": {Endpoint: "http://faas.example",
			Options: map[string]string{"token": secret, "allow_insecure": "true"}},
		"blank token beside a user": {Endpoint: "https://u:p@faas.example", Options: map[string]string{"token": " "}},
		"several headers and no token": {Endpoint: "https://faas.example",
			Options: map[string]string{"header": "X-A: 1\n\nX-B: 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(custom.TokenEnv, "")
			if strings.Contains(cfg.Endpoint, "@") {
				t.Setenv(custom.TokenEnv, secret) // which counts only if no other credential is given
			}
			cfg.Service = "svc"
			e := open(t, cfg)
			if text := fmt.Sprintf("%v %+v %#v %s", e, e, e, e); strings.Contains(text, secret) {
				t.Errorf("the executor prints a secret: %s", text)
			}
		})
	}
}

func TestTheProviderIsRegisteredWithItsOptions(t *testing.T) {
	info, ok := faas.Provider(faas.Custom)
	if !ok {
		t.Fatal("not registered")
	}
	for _, o := range info.Options {
		holds := o.Name == "token" || o.Name == "header" || o.Name == "oauth2_client_secret"
		if o.Help == "" || o.Sensitive != holds {
			t.Errorf("option %s: help %q, sensitive %v", o.Name, o.Help, o.Sensitive)
		}
		if place := strings.HasPrefix(o.Name, "invoke_url"); o.Place != place {
			t.Errorf("option %s tells where functions are: %v, want %v", o.Name, o.Place, place)
		}
	}
	e, err := faas.Open(t.Context(), faas.Config{Provider: faas.Custom, Service: "svc", Endpoint: "not a URL"})
	if e != nil || faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Errorf("Open gives %v and error %v", e, err)
	}
}
