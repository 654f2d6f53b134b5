package ec2

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns an orchestrator with the pace of tests.
func open(t testing.TB, change func(*Config)) *Orchestrator {
	t.Helper()
	cfg := Config{Region: "eu-west-1", Bucket: "binaries", SubnetID: "subnet-1",
		SecurityGroupIDs: []string{"sg-1", "sg-2"}, InstanceProfile: "runner", Tags: map[string]string{"team": "a"}}
	if change != nil {
		change(&cfg)
	}
	o, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	o.client.pace = quick
	hurry(o, nil)
	return o
}

func script(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runner")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// hurry repeats requests without a pause. It sends them through client, if that is not nil.
func hurry(o *Orchestrator, client ec2.HTTPClient) {
	options := o.client.ec2.Options()
	o.client.ec2 = ec2.New(options, func(options *ec2.Options) {
		if client != nil {
			options.HTTPClient, options.APIOptions = client, nil
		}
		options.Retryer = retry.NewStandard(func(standard *retry.StandardOptions) {
			standard.MaxAttempts = usualAttempts
			standard.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
		})
	})
}

// ledger keeps what a program's Record is given.
type ledger struct {
	refs []orchestrator.Ref
	fail int // the number of the call that fails, from 1
}

func (l *ledger) record(ref orchestrator.Ref) error {
	l.refs = append(l.refs, ref)
	if len(l.refs) == l.fail {
		return errors.New("the disk is full")
	}
	return nil
}

func runnerSpec(t testing.TB, l *ledger) orchestrator.Spec {
	t.Helper()
	binary, err := faas.InspectBinary(script(t))
	if err != nil {
		t.Fatal(err)
	}
	return orchestrator.Spec{
		Service: "svc", BlueprintID: 7, Binary: binary, Args: []string{"run"}, Record: l.record,
		Logger:    slog.New(slog.DiscardHandler),
		Delegated: faas.RunnerConfig{0: {Provider: "memory", FunctionID: "svc/job0"}},
	}
}

func TestAMachineIsLaunchedAsPromised(t *testing.T) {
	cloud := newCloud(t)
	cloud.hidden = 3
	l := &ledger{}
	spec := runnerSpec(t, l)
	spec.LocalJobs = []uint32{3} // the runner's own, though nobody can invoke them
	r, err := open(t, nil).Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	m := cloud.machines[0]
	form := map[string]string{}
	for key := range m.launch {
		if !strings.HasPrefix(key, "TagSpecification.") && key != "UserData" {
			form[key] = m.launch.Get(key)
		}
	}
	if diff := cmp.Diff(map[string]string{
		"Action": "RunInstances", "Version": "2016-11-15", "ImageId": fakeImage, "InstanceType": "t4g.nano", "MinCount": "1",
		"MaxCount": "1", "ClientToken": l.refs[0].ID,
		"MetadataOptions.HttpTokens": "required", "MetadataOptions.HttpEndpoint": "enabled",
		"InstanceInitiatedShutdownBehavior": "terminate",
		"SubnetId":                          "subnet-1", "SecurityGroupId.1": "sg-1", "SecurityGroupId.2": "sg-2",
		"IamInstanceProfile.Name": "runner",
	}, form); diff != "" {
		t.Errorf("launch (-want +got):\n%s", diff)
	}
	tags := map[string]map[string]string{}
	for _, i := range []string{"1", "2"} {
		prefix := "TagSpecification." + i + "."
		of := map[string]string{}
		for n := 1; m.launch.Has(prefix + "Tag." + string(rune('0'+n)) + ".Key"); n++ {
			tag := prefix + "Tag." + string(rune('0'+n))
			of[m.launch.Get(tag+".Key")] = m.launch.Get(tag + ".Value")
		}
		tags[m.launch.Get(prefix+"ResourceType")] = of
	}
	want := map[string]string{"Name": "blueprint-svc", "blueprint:managed-by": "blueprint-serverless",
		"blueprint:service": "svc", "blueprint:id": "7", "blueprint:client-token": m.token, "team": "a"}
	if diff := cmp.Diff(map[string]map[string]string{"instance": want, "volume": want}, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	path := "/binaries/blueprint-runners/" + m.token + "/" + spec.Binary.SHA256
	if len(cloud.objects[path]) != int(spec.Binary.Size) {
		t.Errorf("%s has %d bytes, want %d", path, len(cloud.objects[path]), spec.Binary.Size)
	}
	data, err := base64.StdEncoding.DecodeString(m.launch.Get("UserData"))
	if err != nil {
		t.Fatal(err)
	}
	link, err := base64.StdEncoding.DecodeString(
		regexp.MustCompile(`/opt/blueprint/url '([^']*)'`).FindStringSubmatch(string(data))[1])
	if err != nil || !strings.Contains(string(link), path+"?") || !strings.Contains(string(link), "X-Amz-Signature=") ||
		!strings.Contains(string(link), "X-Amz-Expires=3600") {
		t.Errorf("the binary's URL %q: %v", link, err)
	}
	if h, err := r.Health(t.Context()); err != nil || !h.Healthy {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := r.Invoke(t.Context(), 3, nil); !errors.Is(err, faas.ErrUnsupported) ||
		r.(orchestrator.Uninvokable).CannotInvoke() == "" {
		t.Errorf("Invoke: %v", err)
	}
	for range 2 {
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if m.state != "terminated" {
		t.Errorf("the machine is %s", m.state)
	}
	if h, err := r.Health(t.Context()); err != nil || h.Healthy || !strings.Contains(h.Reason, "terminated") {
		t.Errorf("%+v, %v", h, err)
	}
	cloud.nothingLeft()
}

func TestALaunchOutlastsWhatPasses(t *testing.T) {
	for name, spoil := range map[string]func(*cloud){
		"a profile that is not known yet": func(c *cloud) { c.freshProfile = 3 },
		"throttling":                      func(c *cloud) { c.throttled = 3 },
		"a lost answer":                   func(c *cloud) { c.lostLaunches = 2 },
		"looks that fail":                 func(c *cloud) { c.blind = 2*usualAttempts + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t)
			spoil(cloud)
			r, err := open(t, nil).Start(t.Context(), runnerSpec(t, &ledger{}))
			if err != nil {
				t.Fatal(err)
			}
			if len(cloud.machines) != 1 {
				t.Errorf("%d machines", len(cloud.machines))
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			cloud.nothingLeft()
		})
	}
}

func TestAFailedStartLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*cloud, *ledger)
		code  faas.Code
		text  string
	}{
		{"throttled for good", func(c *cloud, _ *ledger) { c.throttled = 5 }, faas.ErrThrottled, "RequestLimitExceeded"},
		{"no permission to launch", func(c *cloud, _ *ledger) { c.refuse = "RunInstances" }, faas.ErrPermissionDenied,
			"UnauthorizedOperation"},
		{"no permission for the bucket", func(c *cloud, _ *ledger) { c.refuse = "PutObject" }, faas.ErrPermissionDenied,
			"bucket binaries"},
		{"the machine ends itself", func(c *cloud, _ *ledger) { c.diesOfReason = "Instance initiated shutdown" },
			faas.ErrUnavailable, "the binary could not be fetched"},
		{"the launch is made and then refused", func(c *cloud, _ *ledger) {
			c.lostLaunches, c.refuseAfterLoss, c.hidden = 1, true, 3
		}, faas.ErrPermissionDenied, "UnauthorizedOperation"},
		{"nothing is recorded", func(_ *cloud, l *ledger) { l.fail = 1 }, faas.ErrInternal, "disk"},
		{"the machine's id is not recorded", func(_ *cloud, l *ledger) { l.fail = 2 }, "", "disk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud, l := newCloud(t), &ledger{}
			tt.spoil(cloud, l)
			r, err := open(t, nil).Start(t.Context(), runnerSpec(t, l))
			switch {
			case r != nil || err == nil || !strings.Contains(err.Error(), tt.text):
				t.Errorf("error %v, want %q", err, tt.text)
			case tt.code == faas.ErrInternal && cloud.count("PutObject")+cloud.count("RunInstances") > 0:
				t.Errorf("calls before the record: %v", cloud.actions)
			case tt.code != "" && tt.code != faas.ErrInternal && faas.CodeOf(err) != tt.code:
				t.Errorf("code %v, want %v", faas.CodeOf(err), tt.code)
			}
			cloud.nothingLeft()
		})
	}
}

func TestRefusedLaunchesAreClassed(t *testing.T) {
	for _, tt := range []struct {
		status   int
		code     string
		want     faas.Code
		attempts int
		lost     bool // a machine may exist, and is looked for
	}{
		{500, "InsufficientInstanceCapacity", faas.ErrUnavailable, 1, false},
		{400, "VcpuLimitExceeded", faas.ErrTooLarge, 1, false},
		{400, "InstanceLimitExceeded", faas.ErrTooLarge, 1, false},
		{400, "InvalidSubnetID.NotFound", faas.ErrInvalidArgument, 1, false},
		{403, "AuthFailure", faas.ErrPermissionDenied, 1, false},
		{503, "RequestLimitExceeded", faas.ErrThrottled, usualAttempts, false},
		{500, "InternalError", faas.ErrUnavailable, usualAttempts, true},
	} {
		cloud := newCloud(t)
		cloud.launchStatus, cloud.launchCode = tt.status, tt.code
		o := open(t, nil)
		o.client.pace.settle = 0
		_, err := o.Start(t.Context(), runnerSpec(t, &ledger{}))
		if faas.CodeOf(err) != tt.want || cloud.count("RunInstances") != tt.attempts ||
			(cloud.count("DescribeInstances") > 0) != tt.lost {
			t.Errorf("%s: %v (%q) after %v; want %q after %d attempts", tt.code, err, faas.CodeOf(err), cloud.actions, tt.want,
				tt.attempts)
		}
		cloud.nothingLeft()
	}
}

// The given client is used, whatever certificates the environment names for others.
func TestTheGivenClientIsUsedBesideABundle(t *testing.T) {
	newCloud(t)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	var calls atomic.Int64
	o := open(t, func(c *Config) {
		c.HTTPClient = &http.Client{Transport: counting{&calls}}
	})
	if image, err := o.client.image(t.Context(), faas.ARM64); err != nil || image != fakeImage || calls.Load() != 1 {
		t.Errorf("image %q, %v, after %d calls", image, err, calls.Load())
	}
}

type counting struct{ calls *atomic.Int64 }

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.calls.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

func TestWhatIsLeftBehindIsNamed(t *testing.T) {
	cloud, l := newCloud(t), &ledger{fail: 2}
	cloud.refuse = "TerminateInstances"
	_, err := open(t, nil).Start(t.Context(), runnerSpec(t, l))
	var fe *faas.Error
	if !errors.As(err, &fe) || len(fe.Leftovers) != 1 || !strings.Contains(fe.Leftovers[0], l.refs[0].ID) {
		t.Errorf("error %v", err)
	}
}

func TestAnEarlierRunnerIsKeptOrReplaced(t *testing.T) {
	cloud, l := newCloud(t), &ledger{}
	o, spec := open(t, nil), runnerSpec(t, l)
	start := func() orchestrator.Detached {
		t.Helper()
		r, err := o.Start(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		ref := r.(orchestrator.Detached).Ref()
		spec.Previous = &ref
		return r.(orchestrator.Detached)
	}
	first := start()
	if again := start(); again.Ref().ID != first.Ref().ID || len(cloud.machines) != 1 {
		t.Errorf("the same is launched again: %v", cloud.alive())
	}
	// The program crashed before it knew the machine's id, and EC2 does not show the machine yet.
	unsettled := l.refs[0]
	spec.Previous, cloud.machines[0].hidden = &unsettled, 3
	if again := start(); again.Ref().ID != first.Ref().ID || len(cloud.machines) != 1 {
		t.Errorf("a machine of an interrupted launch is not found: %v", cloud.alive())
	}
	spec.Args = []string{"run", "other"}
	changed := start()
	if ids := cloud.alive(); changed.Ref().ID == first.Ref().ID || len(ids) != 1 || ids[0] != cloud.machines[1].id ||
		len(cloud.objects) != 1 {
		t.Errorf("machines %v, %d objects", ids, len(cloud.objects))
	}
	cloud.machines[1].state = "terminated" // by somebody else
	if replaced := start(); replaced.Ref().ID == changed.Ref().ID || len(cloud.alive()) != 1 {
		t.Errorf("a machine that has ended is not replaced: %v", cloud.alive())
	}
	found, err := open(t, nil).Attach(t.Context(), *spec.Previous)
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Release(t.Context()); err != nil || len(cloud.alive()) != 1 {
		t.Errorf("Release: %v, machines %v", err, cloud.alive())
	}
	if err := found.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	cloud.machines, found.(*runner).note.Since = nil, time.Time{} // EC2 forgets, long after
	if h, err := found.Health(t.Context()); err != nil || h.Healthy {
		t.Errorf("%+v, %v", h, err)
	}
	if err := found.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	cloud.nothingLeft()
}

func TestAMachineOfAnotherLaunchIsLeftAlone(t *testing.T) {
	cloud := newCloud(t)
	r, err := open(t, nil).Start(t.Context(), runnerSpec(t, &ledger{}))
	if err != nil {
		t.Fatal(err)
	}
	cloud.machines[0].token = "somebody's"
	if err := r.Stop(t.Context()); !errors.Is(err, faas.ErrConflict) || cloud.count("TerminateInstances") > 0 {
		t.Errorf("error %v, %v", err, cloud.actions)
	}
}

func TestStopSaysWhatIsStillEnding(t *testing.T) {
	cloud := newCloud(t)
	r, err := open(t, nil).Start(t.Context(), runnerSpec(t, &ledger{}))
	if err != nil {
		t.Fatal(err)
	}
	cloud.stuckAtEnding = true
	ctx, cancel := context.WithCancel(t.Context())
	orc := r.(*runner).orc
	hurry(orc, cancelAfter{orc.client.ec2.Options().HTTPClient, cloud, cancel})
	if err := r.Stop(ctx); !errors.Is(err, faas.ErrTimeout) || cloud.count("TerminateInstances") != 1 {
		t.Errorf("error %v", err)
	}
}

func TestForeignReferencesAreRefused(t *testing.T) {
	newCloud(t)
	o := open(t, nil)
	for _, tt := range []struct {
		ref  orchestrator.Ref
		code faas.Code
	}{
		{orchestrator.Ref{Kind: "local", ID: "process 1"}, faas.ErrUnsupported},
		{orchestrator.Ref{Kind: Kind, ID: "a", Private: []byte("{")}, faas.ErrInternal},
		{orchestrator.Ref{Kind: Kind, ID: "a", Private: []byte(`{"token":"b","region":"eu-west-1"}`)}, faas.ErrInternal},
		{orchestrator.Ref{Kind: Kind, ID: "a", Private: []byte(`{"token":"a","region":"us-east-1"}`)},
			faas.ErrInvalidArgument},
	} {
		if _, err := o.Attach(t.Context(), tt.ref); !errors.Is(err, tt.code) {
			t.Errorf("%+v: error %v, want %v", tt.ref, err, tt.code)
		}
	}
}

func TestWhatCannotRunIsRefusedBeforeAnythingIsMade(t *testing.T) {
	cloud := newCloud(t)
	elf := func(change func(*faas.Binary)) func(*orchestrator.Spec) {
		return func(s *orchestrator.Spec) {
			s.Binary = &faas.Binary{Path: "b", Size: 1, Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.ARM64,
				Static: true}
			change(s.Binary)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*orchestrator.Spec)
		text   string
	}{
		{"no arguments", func(s *orchestrator.Spec) { s.Args = nil }, "Args is empty"},
		{"an environment", func(s *orchestrator.Spec) { s.Env = faas.NewEnv(map[string]string{"KEY": "canary"}) },
			"EnvInUserData"},
		{"another processor", elf(func(b *faas.Binary) { b.Arch = faas.AMD64 }), "GOARCH=arm64"},
		{"another system", elf(func(b *faas.Binary) { b.OS = "darwin" }), "Linux"},
		{"musl", elf(func(b *faas.Binary) { b.Static, b.Interpreter = false, "/lib/ld-musl-aarch64.so.1" }), "musl"},
		{"too much", func(s *orchestrator.Spec) { s.Args = []string{strings.Repeat("x", 16<<10)} }, "16384"},
	} {
		l := &ledger{}
		spec := runnerSpec(t, l)
		tt.change(&spec)
		_, err := open(t, nil).Start(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "canary") ||
			len(l.refs) > 0 {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.text)
		}
	}
	if len(cloud.actions) > 0 {
		t.Errorf("calls: %v", cloud.actions)
	}
}

func TestConfigIsChecked(t *testing.T) {
	newCloud(t)
	for field, change := range map[string]func(*Config){
		"Region": func(c *Config) { c.Region = "" }, "Bucket": func(c *Config) { c.Bucket = "" },
		"InstanceType":     func(c *Config) { c.InstanceType = "nano" },
		"SubnetID":         func(c *Config) { c.SubnetID = "x" },
		"SecurityGroupIDs": func(c *Config) { c.SecurityGroupIDs = []string{"x"} },
		"ImageID":          func(c *Config) { c.ImageID = "x" },
		"KeyParameter":     func(c *Config) { c.KeyParameter = "a'b" },
		"EnvParameter":     func(c *Config) { c.EnvParameter = "a b" },
		"InstanceProfile":  func(c *Config) { c.EnvParameter = "a" },
		"Tags":             func(c *Config) { c.Tags = map[string]string{"blueprint:service": "x"} },
	} {
		cfg := Config{Region: "eu-west-1", Bucket: "binaries"}
		change(&cfg)
		if _, err := New(t.Context(), cfg); !errors.Is(err, faas.ErrInvalidArgument) ||
			!strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: error %v", field, err)
		}
	}
	for kind, want := range map[string]faas.Arch{
		"t4g.nano": faas.ARM64, "a1.medium": faas.ARM64, "m7gd.large": faas.ARM64, "g5g.xlarge": faas.ARM64,
		"t3.nano": faas.AMD64, "g4dn.xlarge": faas.AMD64} {
		if o := open(t, func(c *Config) { c.InstanceType = kind }); o.arch != want {
			t.Errorf("%s is %s, want %s", kind, o.arch, want)
		}
	}
}

func TestUserDataPassesEveryValueAsItIs(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh")
	}
	spec := runnerSpec(t, &ledger{})
	spec.Args = []string{"it's", "two\nlines", "$HOME `id`"}
	spec.Env = faas.NewEnv(map[string]string{"VALUE": "a 'b' \"c\"\n$HOME \\ @URL@ EOF"})
	data, err := Config{}.userData(spec, "https://example.com/?a=b&c='")
	if err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), sh, "-n")
	check.Stdin = strings.NewReader(data)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	start, err := Config{}.startScript(spec)
	if err != nil {
		t.Fatal(err)
	}
	start = strings.Replace(start, "/opt/blueprint/runner",
		`printf '%s|' "$VALUE" "$`+faas.RunnerConfigEnv+`"; printf '%s|'`, 1)
	start = strings.Replace(start, "exec ", "", 1)
	cmd := exec.CommandContext(t.Context(), sh)
	cmd.Stdin = strings.NewReader(start)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	parts := strings.Split(string(out), "|")
	if len(parts) != 6 {
		t.Fatalf("%q", parts)
	}
	delegated, err := faas.ParseRunnerConfig(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{spec.Env["VALUE"].Reveal(), "it's", "two\nlines", "$HOME `id`"},
		[]string{parts[0], parts[2], parts[3], parts[4]}) + cmp.Diff(spec.Delegated, delegated); diff != "" {
		t.Error(diff)
	}
}

func TestAServiceIsDeployedOpenedAndUndeployed(t *testing.T) {
	aws, functions, state := newCloud(t), faastest.NewMemory(), t.TempDir()
	spec := serverless.ServiceSpec{Name: "svc", BlueprintID: 7, BinaryPath: script(t), Args: []string{"run"}}
	cfg := serverless.DefaultPolicy().Serverless.Config()
	cfg.Provider = faas.Config{Provider: faas.Custom, Endpoint: "http://127.0.0.1:1"}
	executor := func() serverless.ServiceOption { return serverless.WithExecutor(functions.Executor("svc")) }
	machine := func() serverless.OpenOption { return serverless.WithOrchestrator(open(t, nil)) }
	for range 2 {
		svc, err := serverless.DeployServerless(t.Context(), spec, []uint32{0, 1}, cfg, executor(),
			serverless.WithStateDir(state), machine())
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(aws.machines) != 1 || len(aws.alive()) != 1 {
		t.Fatalf("machines %v", aws.alive())
	}
	svc, err := serverless.OpenService(t.Context(), "svc", executor(), serverless.WithStateDir(state), machine())
	if err != nil {
		t.Fatal(err)
	}
	if h, err := svc.Health(t.Context()); err != nil || !h.Healthy {
		t.Errorf("%+v, %v", h, err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if infos, err := serverless.ListServices(state); err != nil || len(infos) > 0 {
		t.Errorf("left in the ledger: %+v, %v", infos, err)
	}
	aws.nothingLeft()
}
