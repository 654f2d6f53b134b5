package custom_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

// quoted returns text as it appears in JSON.
func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b[1 : len(b)-1])
}

// A platform may write anything anywhere. Whatever it repeats of what it was sent is hidden.
func TestWhatAPlatformRepeatsIsHiddenInEveryEncoding(t *testing.T) {
	const value, token = `va"lue/of+an environment & <more>`, "t0ken-of/the+owner"
	secrets := []string{value, token}
	encodings := map[string]func(string) string{
		"plain":      func(s string) string { return s },
		"JSON":       quoted,
		"base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"base64 raw": func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
		"base64 URL": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		"URL":        url.QueryEscape,
		"path":       url.PathEscape,
		"cut":        func(s string) string { return s[:len(s)-2] + "..." },
		"long":       func(s string) string { return strings.Repeat("x", 490) + " " + s }, // is cut where errors are
	}
	// shown returns what remains of a secret. Its beginning is enough for a leak.
	shown := func(text string) string {
		for _, s := range secrets {
			for name, encode := range encodings {
				if name == "long" {
					continue
				}
				if part := encode(s); strings.Contains(text, part[:min(len(part), 8)]) {
					return part[:8]
				}
			}
		}
		return ""
	}
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			p := newFake(t)
			e := open(t, faas.Config{Endpoint: p.start(t).URL, Options: map[string]string{"token": token}})
			u := unit(t, e, small(value))
			var config string
			said := func() string { return "you sent " + encode(value) + " and " + encode(token) + " and " + config }
			reply := func(status int, body string) {
				p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					if c := r.Header.Get("X-Blueprint-Config"); c != "" {
						config = c
					}
					w.WriteHeader(status)
					_, _ = io.WriteString(w, strings.ReplaceAll(body, "SAID", quoted(said())))
					return true
				}
			}
			check := func(what string, got any) {
				t.Helper()
				if text := fmt.Sprintf("%v %+v", got, got); shown(text) != "" {
					t.Errorf("%s shows %q: %s", what, shown(text), text)
				}
				if err, ok := got.(error); ok {
					for ; err != nil; err = unwrap(err) {
						if shown(err.Error()) != "" {
							t.Errorf("%s: a cause shows a secret: %v", what, err)
						}
					}
				} else if text, err := json.Marshal(got); err != nil || shown(string(text)) != "" {
					t.Errorf("%s as JSON: %s, %v", what, text, err)
				}
			}
			for _, body := range []string{
				`{"error":"SAID","code":"SAID","details":{"type":"SAID","message":"SAID","log_tail":"SAID"}}`,
				`{"message":"SAID"}`, `SAID`, `"SAID`,
			} {
				for _, status := range []int{400, 401, 404, 409, 413, 429, 500, 501} {
					reply(status, body)
					_, err := e.Converge(t.Context(), u, nil, nil)
					check("Converge", err)
					_, err = e.Observe(t.Context(), u.ID)
					check("Observe", err)
					_, err = e.Invoke(t.Context(), 0, nil)
					check("Invoke", err)
					_, err = e.Health(t.Context(), 0)
					check("Health", err)
					_, err = e.Warm(t.Context(), 0, 1)
					check("Warm", err)
					_, err = e.List(t.Context())
					check("List", err)
				}
				reply(200, body)
				_, err := e.Observe(t.Context(), u.ID)
				check("Observe", err)
			}
			reply(500, `{"job_id":0,"result":[],"success":false,"error":"SAID","code":"SAID",`+
				`"details":{"type":"SAID","message":"SAID","log_tail":"SAID"}}`)
			_, err := e.Invoke(t.Context(), 0, nil)
			check("a failed function", err)
			reply(503, `{"status":"unhealthy","error":"SAID"}`)
			health, err := e.Health(t.Context(), 0)
			check("Health", health)
			check("Health", err)
			for _, status := range []string{"failed", "SAID"} {
				reply(200, `{"function_id":"`+u.ID+`","status":"`+status+
					`","error":"SAID","endpoint":"https://x.example/SAID","deployed_at":"SAID",`+
					`"package_sha256":"SAID","config_fingerprint":"SAID"}`)
				state, err := e.Observe(t.Context(), u.ID)
				if err != nil {
					t.Error(err)
				}
				check("a state", state)
			}
			reply(200, `{"function_id":"SAID","status":"deployed"}`)
			_, err = e.Observe(t.Context(), u.ID)
			check("another id", err)
			reply(200, `{"function_id":"`+u.ID+`","status":"deployed","service":"SAID"}`)
			_, err = e.Observe(t.Context(), u.ID)
			check("another service", err)
			reply(404, `{"error":"SAID"}`)
			check("Diagnose", e.Diagnose(t.Context()))
		})
	}
}

func unwrap(err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return e.Unwrap()
	case interface{ Unwrap() []error }:
		if all := e.Unwrap(); len(all) > 0 {
			return all[len(all)-1]
		}
	}
	return nil
}

func TestATokenThatWasFetchedIsHiddenToo(t *testing.T) {
	l := &login{t: t, expiry: 3600}
	tokens := server(t, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]any{"access_token": "fetched-t0ken", "token_type": "Bearer",
			"expires_in": l.expiry})
	})
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusForbidden, "%s is not allowed", r.Header.Get("Authorization"))
	})
	_, err := open(t, faas.Config{Endpoint: url, Options: oauthOptions(tokens)}).Observe(t.Context(), "svc-job0")
	if faas.CodeOf(err) != faas.ErrPermissionDenied || holds(err, "fetched") {
		t.Errorf("got %v", err)
	}
}

func TestTheEndpointsUserIsHiddenToo(t *testing.T) {
	for _, user := range []string{"operator:pass-w0rd", "t0ken-alone"} {
		to := server(t, func(w http.ResponseWriter, r *http.Request) {
			name, password, _ := r.BasicAuth()
			refuse(w, http.StatusForbidden, "%s, that is %s, is not allowed", r.Header.Get("Authorization"), name+":"+password)
		})
		_, err := open(t, faas.Config{Endpoint: strings.Replace(to, "http://", "http://"+user+"@", 1)}).Observe(
			t.Context(), "svc-job0")
		if faas.CodeOf(err) != faas.ErrPermissionDenied || holds(err, "pass-w0rd") || holds(err, "t0ken-alone") ||
			holds(err, "b3BlcmF0b3I6cGF") {
			t.Errorf("got %v", err)
		}
	}
}

func TestAnEnvironmentGoesInClearOnlyIfToldTo(t *testing.T) {
	t.Setenv(custom.TokenEnv, "")
	bin := script(t)
	for name, test := range map[string]struct {
		cfg  faas.Config
		env  map[string]string
		want faas.Code
	}{
		"over plain http": {faas.Config{Endpoint: "http://faas.example"}, map[string]string{"A": secret},
			faas.ErrInvalidArgument},
		"over plain http, if so": {faas.Config{Endpoint: "http://faas.example",
			Options: map[string]string{"allow_insecure": "true"}}, map[string]string{"A": secret}, ""},
		"over https":               {faas.Config{Endpoint: "https://faas.example"}, map[string]string{"A": secret}, ""},
		"to this machine":          {faas.Config{Endpoint: "http://LOCALHOST:8080"}, map[string]string{"A": secret}, ""},
		"to this machine, by IPv6": {faas.Config{Endpoint: "http://[::1]:8080"}, map[string]string{"A": secret}, ""},
		"with nothing to hide":     {faas.Config{Endpoint: "http://faas.example"}, map[string]string{"A": ""}, ""},
		"where nothing is sent": {faas.Config{Endpoint: "http://faas.example",
			Options: map[string]string{"mode": "invoke-only"}}, map[string]string{"A": secret}, ""},
	} {
		calls := 0
		test.cfg.HTTPClient = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			calls++
			return nil, io.ErrUnexpectedEOF
		})}
		e := open(t, test.cfg)
		f := faas.Function{JobID: 3, MemoryMB: 128, TimeoutSecs: 5, Env: faas.NewEnv(test.env)}
		_, err := e.Units(bin, []faas.Function{f})
		if faas.CodeOf(err) != test.want || holds(err, secret) || err != nil &&
			!strings.Contains(err.Error(), "allow_insecure") {
			t.Errorf("%s: %v, want code %q", name, err, test.want)
		}
		if test.want != "" { // nor by a unit that was made elsewhere
			_, err := e.Converge(t.Context(), faas.Unit{ID: "svc-job3", Functions: []faas.Function{f}}, nil, nil)
			if faas.CodeOf(err) != test.want || !strings.Contains(err.Error(), "allow_insecure") || calls > 0 {
				t.Errorf("%s: Converge: %v, after %d calls", name, err, calls)
			}
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOnePlaceHasOneSpelling(t *testing.T) {
	for _, test := range []struct{ raw, want string }{
		{"https://faas.example", "https://faas.example"},
		{"https://faas.example/", "https://faas.example"},
		{"HTTPS://FaaS.Example:443//", "https://faas.example"},
		{"http://faas.example:80/Base/", "http://faas.example/Base"},
		{"https://faas.example:/", "https://faas.example"},
		{"http://faas.example:443", "http://faas.example:443"},
		{"http://[::1]:80", "http://[::1]"},
		{"http://[FE80::1]:8080/a%2Fb/", "http://[fe80::1]:8080/a%2Fb"},
		{"https://user:pass@FAAS.example/", "https://user:pass@faas.example"},
		{"not a URL", "not a URL"},
		{"", ""},
	} {
		cfg := faas.Resolve(faas.Config{Provider: faas.Custom, Endpoint: test.raw})
		if cfg.Endpoint != test.want {
			t.Errorf("%q is spelled %q, want %q", test.raw, cfg.Endpoint, test.want)
		}
		if again := faas.Resolve(cfg); again.Endpoint != cfg.Endpoint {
			t.Errorf("%q is spelled %q at last", test.raw, again.Endpoint)
		}
	}
}

func TestAnAnswerThatEndsNoRequestIsRefused(t *testing.T) {
	url := rawServer(t, func(conn net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tea\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn) // until the client closes it
		}
	})
	for name, cfg := range map[string]faas.Config{
		"the platform":       {Endpoint: url},
		"with a client":      {Endpoint: url, HTTPClient: &http.Client{}},
		"the login":          {Endpoint: "http://127.0.0.1:1", Options: oauthOptions(url)},
		"an invoke-only one": {Endpoint: url, Options: map[string]string{"mode": "invoke-only"}},
		"with a clients own way": {Endpoint: url, HTTPClient: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone()}},
	} {
		e := open(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, observe := e.Observe(ctx, "svc-job0")
		_, invoke := e.Invoke(ctx, 0, nil)
		for call, err := range map[string]error{"Observe": observe, "Invoke": invoke} {
			if faas.CodeOf(err) != faas.ErrUnavailable || ctx.Err() != nil {
				t.Errorf("%s, %s: %v", name, call, err)
			}
		}
		for _, c := range e.Diagnose(ctx) {
			if c.Status == faas.CheckOK && c.Name == "protocol" && cfg.Options["mode"] == "" {
				t.Errorf("%s: Diagnose: %+v", name, c)
			}
		}
		for _, err := range e.Logs(ctx, faas.LogQuery{JobIDs: []uint32{0}}) {
			if err == nil {
				t.Errorf("%s: Logs gives a line", name)
			}
		}
		if ctx.Err() != nil {
			t.Errorf("%s hangs", name)
		}
		cancel()
	}
}

func TestUnitsAndWarmRefuseUnderTheirOwnNames(t *testing.T) {
	e := open(t, faas.Config{Endpoint: "https://faas.example"})
	_, err := e.Units(nil, []faas.Function{{JobID: 1}})
	if got := asError(t, err); got.Op != "units" || got.Code != faas.ErrInvalidArgument {
		t.Errorf("Units: %v", err)
	}
	for _, n := range []int{0, -1} {
		_, err := e.Warm(t.Context(), 0, n)
		if got := asError(t, err); got.Op != "warm" || got.Code != faas.ErrInvalidArgument {
			t.Errorf("Warm of %d: %v", n, err)
		}
	}
}

// The header holds the whole environment, so a platform that repeats it repeats all values.
func TestConfigurationHeaderIsHiddenWhole(t *testing.T) {
	p := newFake(t)
	e := open(t, faas.Config{Endpoint: p.start(t).URL})
	var header string
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		header = r.Header.Get("X-Blueprint-Config")
		refuse(w, http.StatusBadRequest, "bad header X-Blueprint-Config: %s", header)
		return true
	}
	_, err := e.Converge(t.Context(), unit(t, e, small("abc")), nil, nil) // a value that is too short to be looked for
	if faas.CodeOf(err) != faas.ErrInvalidArgument || header == "" || holds(err, header[len(header)/2:]) ||
		!bytes.Contains([]byte(err.Error()), []byte("(hidden)")) {
		t.Errorf("got %v", err)
	}
}
