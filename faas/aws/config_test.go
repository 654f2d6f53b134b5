//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// wire is an HTTP client's transport that connects to nothing and records what was sent.
type wire struct {
	mu     sync.Mutex
	sent   []*http.Request
	answer func(*http.Request, int) (status int, header http.Header, body string) // to the n-th request, from 1
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, r)
	status, header, body := w.answer(r, len(w.sent))
	if status == 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		Request: r, ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// hosts returns how many requests were sent to each host.
func (w *wire) hosts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for _, r := range w.sent {
		all[r.URL.Host]++
	}
	return all
}

// alone sets an environment in which only the given variables tell the SDK anything.
func alone(t *testing.T, env map[string]string) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL",
		"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
		"AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	for name, value := range map[string]string{
		"HOME": home, "USERPROFILE": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"),
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
		"AWS_EC2_METADATA_DISABLED":   "true", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
	} {
		t.Setenv(name, value)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}

// through opens an executor whose calls go through w.
func through(t *testing.T, w *wire, region string, options map[string]string) *Executor {
	t.Helper()
	e, err := open(t.Context(), faas.Config{Service: "svc", Region: region, Options: options,
		HTTPClient: &http.Client{Transport: w}}, fastPace)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// everyService calls each service once.
func everyService(e *Executor) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"lambda": func(ctx context.Context) error { _, err := e.get(ctx, "f", ""); return err },
		"iam": func(ctx context.Context) error {
			_, err := e.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: awssdk.String("r")})
			return err
		},
		"sts": func(ctx context.Context) error {
			_, err := e.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			return err
		},
		"s3": func(ctx context.Context) error {
			_, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: awssdk.String("a.bucket")})
			return err
		},
		"logs": func(ctx context.Context) error {
			_, err := e.logs.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: awssdk.String("g")})
			return err
		},
	}
}

func TestEveryServiceIsCalledAsTheEnvironmentSays(t *testing.T) {
	for name, tt := range map[string]struct {
		env      map[string]string
		attempts string
		hosts    map[string]string
	}{
		"by default": {nil, "max=3", map[string]string{
			"lambda": "lambda.eu-west-1.amazonaws.com", "iam": "iam.amazonaws.com", "sts": "sts.eu-west-1.amazonaws.com",
			"s3": "s3.eu-west-1.amazonaws.com", "logs": "logs.eu-west-1.amazonaws.com"}},
		"dual stack": {map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_MAX_ATTEMPTS": "7"}, "max=7",
			map[string]string{
				"lambda": "lambda.eu-west-1.api.aws", "iam": "iam.global.api.aws", "sts": "sts.eu-west-1.api.aws",
				"s3": "s3.dualstack.eu-west-1.amazonaws.com", "logs": "logs.eu-west-1.api.aws"}},
		"FIPS": {map[string]string{"AWS_USE_FIPS_ENDPOINT": "true", "AWS_MAX_ATTEMPTS": "1"}, "max=1", map[string]string{
			"lambda": "lambda-fips.eu-west-1.amazonaws.com", "iam": "iam-fips.amazonaws.com",
			"sts": "sts-fips.eu-west-1.amazonaws.com", "s3": "s3-fips.eu-west-1.amazonaws.com",
			"logs": "logs-fips.eu-west-1.amazonaws.com"}},
		"endpoints": {map[string]string{"AWS_ENDPOINT_URL": "http://all.example", "AWS_ENDPOINT_URL_S3": "http://s3.example",
			"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://logs.example"}, "max=3", map[string]string{
			"lambda": "all.example", "iam": "all.example", "sts": "all.example", "s3": "s3.example", "logs": "logs.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, tt.env)
			w := &wire{answer: func(*http.Request, int) (int, http.Header, string) { return 400, nil, "" }}
			e := through(t, w, "eu-west-1", nil)
			for service, call := range everyService(e) {
				w.sent = nil
				if err := call(t.Context()); codeOf(err) != faas.ErrInvalidArgument || len(w.sent) != 1 {
					t.Errorf("%s: %d requests, %v", service, len(w.sent), err)
					continue
				}
				if r := w.sent[0]; r.URL.Host != tt.hosts[service] ||
					!strings.Contains(r.Header.Get("Amz-Sdk-Request"), tt.attempts) {
					t.Errorf("%s is called at %s with %q, want %s and %s", service, r.URL.Host, r.Header.Get("Amz-Sdk-Request"),
						tt.hosts[service], tt.attempts)
				}
			}
		})
	}
}

// A call that is refused because of this machine's clock goes by the time that AWS tells.
func TestEveryServiceIsCalledByTheClockOfAWS(t *testing.T) {
	alone(t, nil)
	const stamp = "20060102T150405Z"
	theirs := time.Now().Add(time.Hour).UTC()
	w := &wire{answer: func(r *http.Request, _ int) (int, http.Header, string) {
		header := http.Header{"Date": {theirs.Format(http.TimeFormat)}, "X-Amzn-Errortype": {"SignatureDoesNotMatch"}}
		if at, err := time.Parse(stamp, r.Header.Get("X-Amz-Date")); err == nil && theirs.Sub(at).Abs() < time.Minute {
			return 400, http.Header{"X-Amzn-Errortype": {"Right"}}, ""
		}
		switch host, _, _ := strings.Cut(r.URL.Host, "."); host {
		case "lambda", "logs":
			return 403, header, `{"__type":"InvalidSignatureException","message":"Signature expired"}`
		case "s3":
			return 403, header, `<Error><Code>RequestTimeTooSkewed</Code></Error>`
		}
		return 403, header, `<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>`
	}}
	for service, call := range everyService(through(t, w, "us-east-1", nil)) {
		w.sent = nil
		if err := call(t.Context()); codeOf(err) != faas.ErrInvalidArgument || len(w.sent) != 2 {
			t.Errorf("%s: %d requests, %v", service, len(w.sent), err)
		}
	}
}

// bundle returns a file of certificates that a client given by the program has no use for.
func bundle(t *testing.T) string {
	t.Helper()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// signedIn sets up what "aws sso login" leaves behind for the session s.
func signedIn(t *testing.T) {
	t.Helper()
	sum := sha1.Sum([]byte("s"))
	cache := filepath.Join(os.Getenv("HOME"), ".aws", "sso", "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, hex.EncodeToString(sum[:])+".json"),
		[]byte(`{"accessToken":"token","expiresAt":"2100-01-01T00:00:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The given HTTP client, retries and endpoints also apply to calls that fetch the credentials of a
// role or of a sign-in.
func TestCredentialsAreFetchedByTheGivenClient(t *testing.T) {
	const keys = `"accessKeyId":"AKIDNEW","secretAccessKey":"s","sessionToken":"t","expiration":4102444800000`
	for name, tt := range map[string]struct {
		config  string
		fetched string // host
		body    string
	}{
		"a role": {"[profile p]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=base\n[profile " +
			"base]\naws_access_key_id=A\naws_secret_access_key=S\n", "sts.eu-west-1.amazonaws.com",
			`<AssumeRoleResponse><AssumeRoleResult><Credentials>` +
				`<AccessKeyId>AKIDNEW</AccessKeyId><SecretAccessKey>s</SecretAccessKey>` +
				`<SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>` +
				`</Credentials></AssumeRoleResult></AssumeRoleResponse>`},
		"a sign-in": {"[profile p]\nsso_session=s\nsso_account_id=123456789012\nsso_role_name=r\n[sso-session " +
			"s]\nsso_region=eu-north-1\nsso_start_url=https://x.example\n", "portal.sso.eu-north-1.amazonaws.com",
			`{"roleCredentials":{` + keys + `}}`},
	} {
		for _, ca := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, bundle %v", name, ca), func(t *testing.T) {
				alone(t, map[string]string{"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
				if ca {
					t.Setenv("AWS_CA_BUNDLE", bundle(t))
				}
				if err := os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte(tt.config), 0o600); err != nil {
					t.Fatal(err)
				}
				signedIn(t)
				w := &wire{answer: func(r *http.Request, n int) (int, http.Header, string) {
					switch {
					case n == 1:
						return 503, nil, "" // which passes
					case r.URL.Host == tt.fetched:
						return 200, nil, tt.body
					}
					return 404, http.Header{"X-Amzn-Errortype": {codeNotFound}}, "{}"
				}}
				e := through(t, w, "eu-west-1", nil)
				if _, err := e.get(t.Context(), "f", ""); !isNotFound(err) {
					t.Errorf("got %v", err)
				}
				if diff := cmp.Diff(map[string]int{tt.fetched: 2, "lambda.eu-west-1.amazonaws.com": 1}, w.hosts()); diff != "" {
					t.Errorf("requests by host (-want +got):\n%s", diff)
				}
				if auth := w.sent[len(w.sent)-1].Header.Get("Authorization"); !strings.Contains(auth, "AKIDNEW") {
					t.Errorf("Lambda was called with %q", auth)
				}
			})
		}
	}
}

// The error for missing credentials says what their source answered.
func TestWhyThereAreNoCredentialsIsTold(t *testing.T) {
	role := "[profile p]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=base\n[profile " +
		"base]\naws_access_key_id=A\naws_secret_access_key=S\n"
	sso := "[profile p]\nsso_session=s\nsso_account_id=123456789012\nsso_role_name=r\n[sso-session " +
		"s]\nsso_region=eu-north-1\nsso_start_url=https://x.example\n"
	refusal := func(code string) string {
		return "<ErrorResponse><Error><Code>" + code + "</Code><Message>no</Message></Error></ErrorResponse>"
	}
	for name, tt := range map[string]struct {
		config string
		status int
		body   string
		want   faas.Code
		text   string
	}{
		"throttled":            {role, 400, refusal("Throttling"), faas.ErrThrottled, "could not be fetched"},
		"down":                 {role, 503, "", faas.ErrUnavailable, "could not be fetched"},
		"not allowed":          {role, 403, refusal("AccessDenied"), faas.ErrPermissionDenied, "AccessDenied"},
		"a proxy":              {role, 407, "", faas.ErrPermissionDenied, "407"},
		"no connection":        {role, 0, "", faas.ErrUnavailable, "no route"},
		"no sign-in":           {sso, 200, "", faas.ErrPermissionDenied, "aws sso login"},
		"a sign-in that ended": {sso, 401, "{}", faas.ErrPermissionDenied, "aws sso login"},
		"a program that ends": {"[profile p]\ncredential_process=false\n", 200, "", faas.ErrPermissionDenied,
			"could not be fetched"},
		"nothing at all": {"[profile p]\nregion=eu-west-1\n", 200, "", faas.ErrPermissionDenied,
			"no AWS credentials were found"},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, map[string]string{"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
				"AWS_MAX_ATTEMPTS": "1"})
			if err := os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "a sign-in that ended" {
				signedIn(t)
			}
			w := &wire{answer: func(*http.Request, int) (int, http.Header, string) { return tt.status, nil, tt.body }}
			e := through(t, w, "eu-west-1", nil)
			for service, call := range everyService(e) {
				err := classify("test", 0, call(t.Context()))
				if err.Code != tt.want || strings.Count(err.Error(), tt.text) != 1 || !notStarted(err, err.Code) {
					t.Errorf("%s: %v, %s; want %s with %q", service, err, err.Code, tt.want, tt.text)
				}
			}
			for host := range w.hosts() {
				if !strings.HasPrefix(host, "sts.") && !strings.HasPrefix(host, "portal.sso.") {
					t.Errorf("%s was called", host)
				}
			}
		})
	}
}
