//go:build !faas_only || faas_azure

package azure

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// pure returns an executor that makes no calls.
func pure(t testing.TB, options map[string]string) *Executor {
	t.Helper()
	e, err := New(t.Context(), faas.Config{Service: "pure", SubscriptionID: "sub", Options: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// job returns a binary that Azure accepts.
func job() *faas.Binary {
	return &faas.Binary{Path: "/bin/job", Size: 1, Executable: true, Format: faas.FormatELF, OS: "linux",
		Arch: faas.AMD64, Static: true, Protocols: faas.SpeaksAll}
}

func TestUnitsRefuseWhatAzureWould(t *testing.T) {
	change := func(f func(*faas.Function)) []faas.Function {
		functions := wanted(2, 5)
		f(&functions[1])
		return functions
	}
	for name, test := range map[string]struct {
		functions []faas.Function
		code      faas.Code
		words     []string
	}{
		"more memory than the plan sells": {change(func(f *faas.Function) { f.MemoryMB = 8192 }), faas.ErrTooLarge,
			[]string{"8192", "4096", faas.AWSLambda, faas.GCPFunctions, "locally"}},
		"a size that is not sold": {change(func(f *faas.Function) { f.MemoryMB = 1024 }), faas.ErrInvalidArgument,
			[]string{"1024", "512 2048 4096"}},
		"an answer that takes too long": {change(func(f *faas.Function) { f.TimeoutSecs = 231 }), faas.ErrTooLarge,
			[]string{"231", "230", faas.AWSLambda, faas.GCPFunctions, "locally"}},
		"no timeout": {change(func(f *faas.Function) { f.TimeoutSecs = 0 }), faas.ErrInvalidArgument,
			[]string{"0 s"}},
		"a name that no setting has": {change(func(f *faas.Function) { f.Env["a-b"] = faas.NewSecret("the-value") }),
			faas.ErrInvalidArgument, []string{"a-b"}},
		"a setting of Azure's": {change(
			func(f *faas.Function) { f.Env["azurewebjobsstorage"] = faas.NewSecret("the-value") }), faas.ErrInvalidArgument,
			[]string{"azurewebjobsstorage"}},
		"names that differ in case": {change(
			func(f *faas.Function) { f.Env["faastest_value"] = faas.NewSecret("the-value") }), faas.ErrInvalidArgument,
			[]string{"faastest_value", "FAASTEST_VALUE"}},
		"other values than those of a job": {change(
			func(f *faas.Function) { f.Env["FAASTEST_VALUE"] = faas.NewSecret("the-value") }), faas.ErrUnsupported,
			[]string{"FAASTEST_VALUE", "job 2"}},
		"a value that no environment has": {change(
			func(f *faas.Function) { f.Env["A"] = faas.NewSecret("the-value\x00") }), faas.ErrInvalidArgument, []string{"NUL"}},
		"more instances kept warm than sold": {change(func(f *faas.Function) { f.KeepWarm = 2000 }), faas.ErrTooLarge,
			[]string{"2000", "1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pure(t, nil).Units(job(), test.functions)
			var refused *faas.Error
			if !errors.As(err, &refused) || refused.Code != test.code || refused.JobID != 5 {
				t.Fatalf("error %v, want code %q for job 5", err, test.code)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
			if strings.Contains(err.Error(), "the-value") {
				t.Errorf("the error holds a value of the environment: %v", err)
			}
		})
	}
}

func TestUnitsRefuseBinariesThatCannotRun(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*faas.Binary)
		code   faas.Code
		words  []string
	}{
		"stdin and stdout only": {func(b *faas.Binary) { b.Protocols = faas.SpeaksStdio }, faas.ErrUnsupported,
			[]string{"faas/job", "job.Main", faas.AWSLambda}},
		"another architecture": {func(b *faas.Binary) { b.Arch = faas.ARM64 }, faas.ErrInvalidArgument,
			[]string{"GOARCH=amd64"}},
		"another system": {func(b *faas.Binary) { b.Format, b.OS = faas.FormatMachO, "darwin" },
			faas.ErrInvalidArgument, []string{"GOOS=linux"}},
		"no permission to be run": {func(b *faas.Binary) { b.Executable = false }, faas.ErrInvalidArgument,
			[]string{"chmod"}},
	} {
		t.Run(name, func(t *testing.T) {
			bin := job()
			test.change(bin)
			_, err := pure(t, nil).Units(bin, wanted(0))
			if faas.CodeOf(err) != test.code {
				t.Fatalf("error %v, want code %q", err, test.code)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
		})
	}
}

func TestNamesAreValid(t *testing.T) {
	for _, service := range []string{"a", "A", "", "日本", "-x-", "a..b", strings.Repeat("long name ", 30), "123",
		"bp-x"} {
		n := deriveNames(service, "sub", "eastus", options{})
		for what, ok := range map[string]bool{
			"app": appPattern.MatchString(n.app) && len(n.app) <= 32, "group": groupPattern.MatchString(n.group),
			"plan":    len(n.plan) <= 40 && appPattern.MatchString(n.plan),
			"account": accountPattern.MatchString(n.account),
			"container": len(n.container) >= 3 && len(n.container) <= 63 && !strings.Contains(n.container, "--") &&
				strings.ToLower(n.container) == n.container,
		} {
			if !ok {
				t.Errorf("service %q: the name of the %s is not valid: %+v", service, what, n)
			}
		}
	}
	first := deriveNames("x", "sub", "eastus", options{})
	if first != deriveNames("x", "SUB", "eastus", options{}) {
		t.Error("the names depend on the case of the subscription's id")
	}
	for _, other := range []names{deriveNames("x", "other", "eastus", options{}),
		deriveNames("x", "sub", "westus", options{})} {
		if other.app == first.app || other.account == first.account {
			t.Errorf("names in another subscription or region are the same: %+v", other)
		}
	}
}

func TestOptionsAndConfiguration(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  faas.Config
		word string // in the error; empty for none
	}{
		"nothing but the subscription": {faas.Config{SubscriptionID: "s"}, ""},
		"no subscription":              {faas.Config{}, "subscription_id"},
		"a subscription with a slash":  {faas.Config{SubscriptionID: "a/b"}, "subscription_id"},
		"a region as people write it":  {faas.Config{SubscriptionID: "s", Region: "West Europe"}, ""},
		"a region with a slash":        {faas.Config{SubscriptionID: "s", Region: "a/b"}, "region"},
		"a memory that is not sold": {faas.Config{
			SubscriptionID: "s", Options: map[string]string{"instance_memory_mb": "1024"}}, "instance_memory_mb"},
		"too few instances": {faas.Config{SubscriptionID: "s", Options: map[string]string{"max_instances": "3"}},
			"max_instances"},
		"an account with capitals": {faas.Config{
			SubscriptionID: "s", Options: map[string]string{"storage_account": "Account"}}, "storage_account"},
		"an unknown authentication": {faas.Config{
			SubscriptionID: "s", Options: map[string]string{"storage_auth": "magic"}}, "storage_auth"},
		"a Resource Manager over http": {faas.Config{
			SubscriptionID: "s", Options: map[string]string{"resource_manager_endpoint": "http://x"}}, "https://"},
		"a location, which is region": {faas.Config{SubscriptionID: "s", Options: map[string]string{"location": "eastus"}},
			"region is a setting of its own"},
		"a group with a slash": {faas.Config{
			SubscriptionID: "s", Options: map[string]string{"resource_group": "a/b"}}, "resource_group"},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Service = "x"
			e, err := New(t.Context(), test.cfg)
			if err == nil {
				e.Close()
			}
			if test.word == "" && err != nil {
				t.Fatal(err)
			}
			if test.word != "" && (faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), test.word)) {
				t.Errorf("error %v, want one about %s", err, test.word)
			}
		})
	}
	e := pure(t, map[string]string{"application_insights": "the-secret-string"})
	if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, "the-secret-string") {
		t.Errorf("printing the executor shows a secret: %s", text)
	}
}

func TestSovereignCloudsAreFoundByTheirAuthority(t *testing.T) {
	for authority, want := range map[string]string{
		"": "https://management.azure.com", "https://login.microsoftonline.us": "https://management.usgovcloudapi.net",
		"https://login.chinacloudapi.cn/":          "https://management.chinacloudapi.cn",
		"https://login.partner.microsoftonline.cn": "https://management.chinacloudapi.cn",
		"https://login.usgovcloudapi.net":          "https://management.usgovcloudapi.net",
		"https://login-us.microsoftonline.com":     "https://management.usgovcloudapi.net",
		"https://login.windows.net":                "https://management.azure.com",
	} {
		t.Setenv(authorityEnv, authority)
		if got := pure(t, nil).arm.Endpoint(); got != want {
			t.Errorf("authority %q: Resource Manager is %s, want %s", authority, got, want)
		}
	}
	t.Setenv(ResourceManagerEnv, "https://emulator.example:8443/")
	if got := pure(t, nil).arm.Endpoint(); got != "https://emulator.example:8443" {
		t.Errorf("Resource Manager is %s", got)
	}
}

func TestJobsTagIsReadAsItWasWritten(t *testing.T) {
	functions := wanted(0, 1, 2, 7, 8, 4294967295)
	functions[4].TimeoutSecs = 230
	tag := formatJobs(functions)
	if want := "0-2=60,7=60,8=230,4294967295=60"; tag != want {
		t.Errorf("tag %q, want %q", tag, want)
	}
	want := map[uint32]uint32{0: 60, 1: 60, 2: 60, 7: 60, 8: 230, 4294967295: 60}
	if diff := cmp.Diff(want, parseJobs(tag)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	var many []faas.Function
	for i := range uint32(200) {
		many = append(many, faas.Function{JobID: 3 * i, TimeoutSecs: 60})
	}
	if tag := formatJobs(many); tag != "" {
		t.Errorf("a tag of %d characters, which is too long", len(tag))
	}
}

func FuzzParseJobs(f *testing.F) {
	for _, seed := range []string{"", "0=1", "0-2=60,7=230", "1-0=5", "0-4294967295=1", "=", "a=b", "1=1,1=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		jobs := parseJobs(tag)
		var functions []faas.Function
		for _, id := range slices.Sorted(maps.Keys(jobs)) {
			functions = append(functions, faas.Function{JobID: id, TimeoutSecs: jobs[id]})
		}
		if again := formatJobs(functions); again != "" && !maps.Equal(jobs, parseJobs(again)) {
			t.Errorf("%q is read as %v, which is written as %q", tag, jobs, again)
		}
	})
}
