//go:build !faas_only || faas_aws

package aws

import (
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

var endpointFlag = flag.Bool("endpoint", false,
	"run TestConformanceAtEndpoint against what the environment leads to: AWS_ENDPOINT_URL_LAMBDA, or a real account")

func TestConformanceAtEndpoint(t *testing.T) {
	if !*endpointFlag {
		t.Skip("needs -endpoint: it deploys to wherever the environment leads")
	}
	bin, err := faas.InspectBinary(faastest.JobBinaryFor(t, "linux", "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	faastest.Run(t, faastest.Harness{Provider: faas.AWSLambda, Binary: bin, NoLogs: os.Getenv("FAASTEST_NO_LOGS") != "",
		Open: func(t testing.TB, service string) faas.Executor {
			e, err := faas.Open(t.Context(), faas.Config{
				Provider: faas.AWSLambda, Service: service, Region: os.Getenv("AWS_REGION"),
				Options: map[string]string{"remove_logs": os.Getenv("FAASTEST_DELETE_LOGS")}})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}})
}

// setenv points the process to the fake, as a user's environment points to AWS.
func setenv(t *testing.T, server *lambdatest.Server) {
	t.Helper()
	for name, value := range server.Environment() {
		t.Setenv(name, value)
	}
}

func TestOpenReadsTheEnvironmentOfAWS(t *testing.T) {
	server := serve(t, lambdatest.Config{Handler: answering})
	setenv(t, server)
	secure := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if r.In.ProtoMajor != 1 {
			t.Errorf("%s %s came over %s", r.In.Method, r.In.URL.Path, r.In.Proto)
		}
		to, _ := url.Parse(server.URL())
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host // the Host header stays, which is signed
	}})
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // the service's own goes first
	t.Setenv("AWS_ENDPOINT_URL_LAMBDA", secure.URL)
	exec, err := faas.Open(t.Context(), faas.Config{Provider: faas.AWSLambda, Service: "env"})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	e := exec.(*Executor)
	e.pace = fastPace
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	answers(t, e, 0, "1-one")
	if got, _ := server.Function("blueprint-env-0"); got.Role != server.RoleARN() {
		t.Errorf("role %s", got.Role)
	}
}

func TestWhatIsMissingIsNamedBeforeAnyChange(t *testing.T) {
	server := serve(t, lambdatest.Config{Handler: answering})
	setenv(t, server)
	for _, test := range []struct {
		name string
		env  map[string]string
		cfg  faas.Config
		want faas.Code
		text []string
	}{
		{"no role", map[string]string{"AWS_LAMBDA_ROLE_ARN": ""}, faas.Config{}, faas.ErrInvalidArgument,
			[]string{"role_arn", "AWS_LAMBDA_ROLE_ARN", "create_role"}},
		{"a malformed role", map[string]string{"AWS_LAMBDA_ROLE_ARN": "my-role"}, faas.Config{}, faas.ErrInvalidArgument,
			[]string{"AWS_LAMBDA_ROLE_ARN", "my-role", "arn:aws:iam::"}},
		{"no credentials", map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, faas.Config{},
			faas.ErrPermissionDenied, []string{"no AWS credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"}},
		{"credentials that nobody knows", map[string]string{"AWS_ACCESS_KEY_ID": "AKIDNOBODY"}, faas.Config{},
			faas.ErrPermissionDenied, []string{"UnrecognizedClientException"}},
		{"a malformed region", nil, faas.Config{Region: "Frankfurt"}, faas.ErrInvalidArgument,
			[]string{"Frankfurt", "us-east-1"}},
		{"another account", nil, faas.Config{Options: map[string]string{"account_id": "999999999999"}},
			faas.ErrPermissionDenied, []string{"123456789012", "999999999999", "account_id"}},
		{"an unknown option", nil, faas.Config{Options: map[string]string{"rolearn": "x"}}, faas.ErrInvalidArgument,
			[]string{"rolearn", "role_arn"}},
		{"an option that is no number", nil, faas.Config{Options: map[string]string{"keep_versions": "many"}},
			faas.ErrInvalidArgument, []string{"keep_versions", "many", "2 to 100"}},
		{"half a VPC", nil, faas.Config{Options: map[string]string{"subnet_ids": "subnet-1"}}, faas.ErrInvalidArgument,
			[]string{"security_group_ids"}},
		{"a tag of ours", nil, faas.Config{Options: map[string]string{"tags": "Blueprint:service=x"}},
			faas.ErrInvalidArgument, []string{"blueprint:"}},
		{"an alias that is a version", nil, faas.Config{Options: map[string]string{"alias": "12"}}, faas.ErrInvalidArgument,
			[]string{"alias", "12"}},
		{"an unknown profile", nil, faas.Config{Options: map[string]string{"profile": "nobody"}}, faas.ErrInvalidArgument,
			[]string{"nobody"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			cfg := test.cfg
			cfg.Provider, cfg.Service = faas.AWSLambda, "missing"
			exec, err := faas.Open(t.Context(), cfg)
			if err == nil {
				defer exec.Close()
				var units []faas.Unit
				if units, err = exec.Units(script(t, "x"), []faas.Function{small(0)}); err == nil {
					units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files)
					if err != nil {
						t.Fatal(err)
					}
					_, err = exec.Converge(t.Context(), units[0], nil, nil)
				}
			}
			if faas.CodeOf(err) != test.want {
				t.Fatalf("got %v (%q), want %q", err, faas.CodeOf(err), test.want)
			}
			for _, text := range test.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error does not say %q: %v", text, err)
				}
			}
			if strings.Contains(err.Error(), os.Getenv("AWS_SECRET_ACCESS_KEY")) && os.Getenv("AWS_SECRET_ACCESS_KEY") != "" {
				t.Errorf("the error holds a credential: %v", err)
			}
		})
	}
	if left := server.Left(); len(left) != 0 {
		t.Errorf("something was made: %v", left)
	}
}

func TestUnitsRefuseWhatLambdaWould(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{})
	e := openAt(t, server, "units", opening{})
	elf := faas.Binary{Path: "job", Size: 1, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64, Static: true,
		Protocols: faas.SpeaksAll}
	with := func(f func(*faas.Binary)) *faas.Binary { b := elf; f(&b); return &b }
	fn := func(change func(*faas.Function)) faas.Function { f := small(3); change(&f); return f }
	for _, test := range []struct {
		name string
		bin  *faas.Binary
		f    faas.Function
		want faas.Code
		text string
	}{
		{"another system", with(func(b *faas.Binary) { b.OS = "freebsd" }), small(3), faas.ErrUnsupported, "GOOS=linux"},
		{"another format", with(func(b *faas.Binary) { b.Format = faas.FormatMachO }), small(3), faas.ErrUnsupported,
			"mach-o"},
		{"another processor", with(func(b *faas.Binary) { b.Arch = "riscv64" }), small(3), faas.ErrUnsupported, "riscv64"},
		{"too big", with(func(b *faas.Binary) { b.Size = maxUnpacked + 1 }), small(3), faas.ErrTooLarge, "262144000"},
		{"a reserved name", &elf, fn(func(f *faas.Function) { f.Env["AWS_REGION"] = faas.NewSecret("x") }),
			faas.ErrInvalidArgument, "AWS_REGION"},
		{"a big environment", &elf, fn(func(f *faas.Function) { f.Env["BIG"] = faas.NewSecret(strings.Repeat("x", 4096)) }),
			faas.ErrTooLarge, "4096"},
		{"less memory than there is", &elf, fn(func(f *faas.Function) { f.MemoryMB = 127 }), faas.ErrInvalidArgument, "127"},
		{"more kept warm than may run", &elf, fn(func(f *faas.Function) { f.MaxConcurrency, f.KeepWarm = 2, 3 }),
			faas.ErrInvalidArgument, "keep_warm"},
	} {
		_, err := e.Units(test.bin, []faas.Function{test.f})
		if faas.CodeOf(err) != test.want || !strings.Contains(fmt.Sprint(err), test.text) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	f := small(3)
	f.Env = faas.NewEnv(map[string]string{"BIG": strings.Repeat("<", 4096-len(`{"BIG":""}`))})
	if _, err := e.Units(&elf, []faas.Function{f}); err != nil {
		t.Errorf("an environment of exactly 4 KB is refused: %v", err)
	}
	units, err := e.Units(&elf, []faas.Function{small(3)})
	if err != nil {
		t.Fatal(err)
	}
	units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(),
		[]faas.PackageFile{{Name: "bootstrap", Content: []byte("x"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	e.direct = 10
	_, err = e.Converge(t.Context(), units[0], nil, nil)
	if faas.CodeOf(err) != faas.ErrTooLarge || !strings.Contains(fmt.Sprint(err), "bucket") || len(server.Calls()) != 0 {
		t.Errorf("a package over the limit without a bucket: %v, %v", err, server.Calls())
	}
}

func TestABucketIsMadeOnRequest(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"us-east-1", "eu-central-1"} {
		server := serve(t, lambdatest.Config{Handler: answering, Region: region})
		e := openAt(t, server, "bucket name", opening{region: region, options: map[string]string{"create_bucket": "true"}})
		e.direct = 10
		u := unitOf(t, e, script(t, "x"), small(0))
		mustDeploy(t, e, u)
		answers(t, e, 0, "1-one")
		if diff := cmp.Diff([]string{"CreateBucket", "PutBucketLifecycleConfiguration", "HeadObject", "PutObject"},
			slices.DeleteFunc(operations(server.Calls()), func(o string) bool {
				return !strings.Contains(o, "Bucket") && !strings.Contains(o, "Object")
			})); diff != "" {
			t.Error(diff)
		}
		again := openAt(t, server, "bucket name", opening{
			region: region, options: map[string]string{"create_bucket": "true"}})
		again.direct = 10
		if err := again.Remove(t.Context(), u.ID); err != nil {
			t.Fatal(err)
		}
		if left := server.Left(); !onlyLogs(left) {
			t.Errorf("left %v", left)
		}
	}
}

// The policy in the package documentation allows exactly what is called.
func TestTheDocumentedPolicyIsWhatIsCalled(t *testing.T) {
	server := serve(t, lambdatest.Config{Handler: answering})
	server.CreateBucket("packages")
	run := func(options map[string]string, f func(*Executor)) {
		e := openAt(t, server, "policy", opening{options: options})
		f(e)
	}
	bin := script(t, "x")
	big := small(0)
	big.MaxConcurrency, big.KeepWarm = 5, 1
	all := map[string]string{"role_arn": "", "create_role": "true", "create_bucket": "true", "remove_logs": "true",
		"account_id": "123456789012", "keep_versions": "2"}
	run(all, func(e *Executor) {
		e.direct = 10
		u := unitOf(t, e, bin, big)
		mustDeploy(t, e, u)
		mustDeploy(t, e, u)
		answers(t, e, 0, "1-one")
		if _, err := logged(t.Context(), e, faas.LogQuery{}, -1); err != nil {
			t.Error(err)
		}
	})
	all["role_permissions_boundary"] = "arn:aws:iam::123456789012:policy/bound"
	run(all, func(e *Executor) {
		for i := range 3 {
			f := small(0)
			f.MemoryMB += uint32(i)
			mustDeploy(t, e, unitOf(t, e, script(t, fmt.Sprint(i)), f))
		}
		server.AttachPolicies(e.roleName(), "arn:aws:iam::aws:policy/AWSLambdaExecute")
		if err := e.Remove(t.Context(), "blueprint-policy-0"); faas.CodeOf(err) != faas.ErrConflict {
			t.Errorf("with a policy of somebody else: %v", err)
		}
		server.AttachPolicies(e.roleName())
		if err := e.Remove(t.Context(), "blueprint-policy-0"); err != nil {
			t.Fatal(err)
		}
		d := diagnosis{e: e, account: "123456789012"}
		for _, n := range d.needs() {
			for _, action := range append(n.actions, n.wished...) {
				if !slices.Contains(documentedActions(t), action) {
					t.Errorf("the diagnosis asks for %s, which is not documented", action)
				}
			}
		}
		e.Diagnose(t.Context())
	})
	needed := map[string]bool{ // for members of other calls
		"iam:PassRole": true, "iam:TagRole": true, "lambda:ListTags": true, "lambda:GetLayerVersion": true,
		"kms:CreateGrant": true, "kms:Encrypt": true, "kms:Decrypt": true,
		"ec2:DescribeSecurityGroups": true, "ec2:DescribeSubnets": true, "ec2:DescribeVpcs": true,
	}
	named := map[string]string{"Invoke": "InvokeFunction", "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
		"HeadObject": "GetObject", "ListObjectsV2": "ListBucket", "HeadBucket": "ListBucket"}
	for _, c := range server.Calls() {
		action := c.Operation
		if n, ok := named[action]; ok {
			action = n
		}
		needed[c.Service+":"+action] = true
	}
	var got []string
	for action := range needed {
		got = append(got, action)
	}
	slices.Sort(got)
	if diff := cmp.Diff(documentedActions(t), got); diff != "" {
		t.Errorf("(-documented +called):\n%s", diff)
	}
}

func documentedActions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		code, ok := strings.CutPrefix(line, "//\t")
		if ok {
			inside = true
			doc.WriteString(code)
		} else if inside {
			break
		}
	}
	var policy struct {
		Statement []struct{ Action []string }
	}
	if err := json.Unmarshal([]byte(doc.String()), &policy); err != nil {
		t.Fatalf("the policy in doc.go is no JSON: %v", err)
	}
	var actions []string
	for _, s := range policy.Statement {
		actions = append(actions, s.Action...)
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}
