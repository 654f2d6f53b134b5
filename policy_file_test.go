package serverless_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// policyFile writes content to a policy file in a new directory.
func policyFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, path string) *serverless.Policy {
	t.Helper()
	p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const missionPolicy = `{
  "serverless": {
    "enable": true,
    "provider": {"type": "aws-lambda", "region": "us-east-1"},
    "default_memory_mb": 1024,
    "default_timeout_secs": 600,
    "fallback_to_vm": true
  }
}
`

func TestLoadPolicyReadsSettings(t *testing.T) {
	defaults := serverless.DefaultPolicy().Serverless
	with := func(change func(*serverless.ServerlessSettings)) serverless.ServerlessSettings {
		s := defaults
		change(&s)
		return s
	}
	tests := []struct {
		name, content string
		want          serverless.ServerlessSettings
	}{
		{"the whole section", missionPolicy, with(func(s *serverless.ServerlessSettings) {
			s.Enable, s.DefaultMemoryMB, s.DefaultTimeoutSecs = true, 1024, 600
		})},
		{"nothing", `{}`, defaults},
		{"an empty section", `{"serverless":{}}`, defaults},
		{"enable alone", `{"serverless":{"enable":true}}`, with(func(s *serverless.ServerlessSettings) { s.Enable = true })},
		{"foreign sections alone", `{"providers":{},"cost_limits":{"max":1.0},"regions":[],"failover":null}`, defaults},
		{"a region that is missing", `{"serverless":{"provider":{"type":"aws-lambda"}}}`, defaults},
		{"a provider without a type", `{"serverless":{"provider":{"region":"eu-west-1"}}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.Provider.Region = "eu-west-1"
			})},
		{"Google", `{"serverless":{"provider":{"type":"gcp-functions","project_id":"p"},"default_memory_mb":32768,` +
			`"default_timeout_secs":3600}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.Provider = serverless.ProviderSettings{Type: faas.GCPFunctions, ProjectID: "p"}
				s.DefaultMemoryMB, s.DefaultTimeoutSecs = 32768, 3600
			})},
		{"Azure", `{"serverless":{"provider":{"type":"azure-functions","subscription_id":"s"},"fallback_to_vm":false}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.Provider = serverless.ProviderSettings{Type: faas.AzureFunctions, SubscriptionID: "s"}
				s.FallbackToVM = false
			})},
		{"a custom platform",
			`{"serverless":{"provider":{"type":"custom","endpoint":"http:\/\/[::1]:8080/base"},"max_concurrency":7}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: "http://[::1]:8080/base"}
				s.MaxConcurrency = 7
			})},
		{"provider options of every kind",
			`{"serverless":{"provider_config":{"s":"v","n":1e5,"b":true,"l":["a,b",1.0,false],"none":[],"e":"",` +
				`"p":{"z":"<&>","a":1e5}}}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.ProviderConfig = map[string]string{"s": "v", "n": "1e5", "b": "true", "l": `["a,b","1.0","false"]`, "none": "[]",
					"e": "", "p": `{"a":"1e5","z":"<&>"}`}
			})},
		{"optional members that are null",
			`{"serverless":{"max_concurrency":null,"keep_warm":null,"jobs":null,"provider_config":null}}`, defaults},
		{"settings of jobs",
			`{"serverless":{"keep_warm":2,"jobs":{"0":{"memory_mb":512,"timeout_secs":30,"keep_warm":1,` +
				`"max_concurrency":5},"12":{"keep_warm":0,"memory_mb":null},"3":{}}}}`,
			with(func(s *serverless.ServerlessSettings) {
				s.KeepWarm = 2
				s.Jobs = map[uint32]serverless.JobSettings{
					0:  {MemoryMB: 512, TimeoutSecs: 30, KeepWarm: new(uint32(1)), MaxConcurrency: new(uint32(5))},
					12: {KeepWarm: new(uint32(0))},
				}
			})},
		{"TOML with settings of jobs", "[serverless]\nkeep_warm = 2\n[serverless.jobs.3]\nmax_concurrency = " +
			"0\n[serverless.jobs.0]\nmemory_mb = 1_024\n[serverless.jobs]\n7 = { keep_warm = 1 }\n",
			with(func(s *serverless.ServerlessSettings) {
				s.KeepWarm = 2
				s.Jobs = map[uint32]serverless.JobSettings{
					0: {MemoryMB: 1024}, 3: {MaxConcurrency: new(uint32(0))}, 7: {KeepWarm: new(uint32(1))}}
			})},
		{"TOML with headers", "# policy\n[serverless]\nenable = true\ndefault_memory_mb = " +
			"1_024\n[serverless.provider]\ntype = 'gcp-functions'\nproject_id = \"p\"\n[serverless.provider_config]\nlist = " +
			"['a', 2]\nf = 1.50\n[serverless.provider_config.pairs]\nb = 'x,y'\na = true\n",
			with(func(s *serverless.ServerlessSettings) {
				s.Enable, s.DefaultMemoryMB = true, 1024
				s.Provider = serverless.ProviderSettings{Type: faas.GCPFunctions, ProjectID: "p"}
				s.ProviderConfig = map[string]string{"list": `["a","2"]`, "f": "1.50", "pairs": `{"a":"true","b":"x,y"}`}
			})},
		{"TOML with dotted keys", "serverless.enable = true\nserverless.provider.type = 'aws-lambda'\n",
			with(func(s *serverless.ServerlessSettings) { s.Enable = true })},
		{"TOML inline", "serverless = {enable = true, provider = {type = 'aws-lambda'}}",
			with(func(s *serverless.ServerlessSettings) { s.Enable = true })},
		{"TOML of comments alone", "# nothing yet\n", defaults},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, load(t, policyFile(t, test.content)).Serverless); diff != "" {
				t.Errorf("settings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadPolicyRefusesBadContent(t *testing.T) {
	settings := func(members string) string { return `{"serverless":{` + members + `}}` }
	provider := func(members string) string { return settings(`"provider":{` + members + `}`) }
	tests := []struct{ name, content, want string }{
		{"empty file", "", `:1:1: the file is empty: write {} for the defaults, or remove it`},
		{"white space", " \n\t", `:1:1: the file is empty: write {} for the defaults, or remove it`},
		{"array", `[]`, `:1:1: the file must hold an object such as {"serverless": {"enable": true}}, not an array`},
		{"null", `null`, `:1:1: the file must hold an object such as {"serverless": {"enable": true}}, not null`},
		{"string", `"serverless"`,
			`:1:1: the file must hold an object such as {"serverless": {"enable": true}}, not a string`},
		{"byte order mark", "\ufeff{}", `:1:1: the file begins with a byte order mark: save it as UTF-8 without one`},
		{"UTF-16", "\xff\xfe{\x00}\x00", `:1:1: byte 0xff is not valid UTF-8`},
		{"invalid UTF-8 counts columns in characters", "{\"ä\": \"\xff\"}", `:1:8: byte 0xff is not valid UTF-8`},
		{"trailing garbage", "{}\n]", `:2:1: the document ends here, but ']' follows`},
		{"two documents", `{} {}`, `:1:4: the document ends here, but '{' follows`},
		{"NUL", "{}\x00", `:1:3: the document ends here, but the character U+0000 follows`},
		{"cut off", `{"serverless": {"enable": tr`, `:1:27: serverless.enable: a value is expected here, not 't'`},
		{"not closed", `{"serverless": {`,
			`:1:17: serverless: a name in double quotes is expected here, not the end of the file`},
		{"comma at the end", "{\"serverless\": {\n  \"enable\": true,\n}}",
			`:3:1: serverless: a name in double quotes is expected here, not '}'`},
		{"missing comma", "{\"serverless\": {\n  \"enable\": true\n  \"provider\": {}}}",
			`:3:3: serverless.enable: a comma or a closing brace is expected after the value, not '"'`},
		{"comment", "{\n  // off\n}", `:2:3: a name in double quotes is expected here, not '/'`},
		{"leading zero", settings(`"default_memory_mb":0512`),
			`:1:36: serverless.default_memory_mb: a number cannot begin with a zero`},
		{"new line in a string", "{\"a\n\": 1}",
			`:1:4: the character U+000A is not escaped in a string: is the closing quote missing?`},
		{"bad escape", `{"a": "\q"}`, `:1:8: a: a backslash cannot precede 'q'`},
		{"bad unicode escape", `{"a": "\u12+4"}`, `:1:8: a: \u is not followed by four hexadecimal digits`},
		{"nesting bomb", strings.Repeat(`{"a":`, 100_000),
			`:1:506: ` + strings.Repeat("a.", 100) + `a: nested more than 100 levels deep`},

		{"section is null", `{"serverless":null}`,
			`:1:15: serverless: must be an object, not null: leave it out for the defaults`},
		{"section is a boolean", `{"serverless":true}`,
			`:1:15: serverless: must be an object, not true or false: leave it out for the defaults`},
		{"provider is a string", settings(`"provider":"custom"`),
			`:1:27: serverless.provider: must be an object, not a string: leave it out for the defaults`},
		{"enable is a string", settings(`"enable":"true"`), `:1:25: serverless.enable: must be true or false, not a string`},
		{"enable is a number", settings(`"enable":1`), `:1:25: serverless.enable: must be true or false, not a number`},
		{"enable is null", settings(`"enable":null`), `:1:25: serverless.enable: must be true or false, not null`},
		{"memory is a string", settings(`"default_memory_mb":"512"`),
			`:1:36: serverless.default_memory_mb: must be a whole number, not a string`},
		{"memory is negative", settings(`"default_memory_mb":-1`),
			`:1:36: serverless.default_memory_mb: must not be negative: -1`},
		{"memory is fractional", settings(`"default_memory_mb":512.5`),
			`:1:36: serverless.default_memory_mb: must be a whole number, without fraction or exponent, not 512.5`},
		{"memory has an exponent", settings(`"default_memory_mb":1e3`),
			`:1:36: serverless.default_memory_mb: must be a whole number, without fraction or exponent, not 1e3`},
		{"memory overflows", settings(`"default_memory_mb":4294967808`),
			`:1:36: serverless.default_memory_mb: 4294967808 is above 4294967295`},
		{"memory overflows by far", settings(`"default_memory_mb":1` + strings.Repeat("0", 99)),
			`:1:36: serverless.default_memory_mb: 1` + strings.Repeat("0", 63) + `... is above 4294967295`},
		{"memory is 0", settings(`"default_memory_mb":0`),
			`:1:36: serverless.default_memory_mb: must be at least 1 MB, not 0`},
		{"memory above the limit", settings(`"default_memory_mb":10241`),
			`:1:36: serverless.default_memory_mb: 10241 MB is above the limit of aws-lambda, 10240 MB`},
		{"memory above the limit of another provider",
			settings(`"default_memory_mb":2049,"provider":{"type":"custom","endpoint":"http://h"}`),
			`:1:36: serverless.default_memory_mb: 2049 MB is above the limit of custom, 2048 MB`},
		{"timeout is 0", settings(`"default_timeout_secs":0`),
			`:1:39: serverless.default_timeout_secs: must be at least 1 s, not 0`},
		{"timeout above the limit", settings(`"default_timeout_secs":901`),
			`:1:39: serverless.default_timeout_secs: 901 s is above the limit of aws-lambda, 900 s`},
		{"concurrency is negative", settings(`"max_concurrency":-3`),
			`:1:34: serverless.max_concurrency: must not be negative: -3`},
		{"a disabled policy is held to the same rules", settings(`"enable":false,"default_timeout_secs":901`),
			`:1:54: serverless.default_timeout_secs: 901 s is above the limit of aws-lambda, 900 s`},

		{"keep_warm is a string", settings(`"keep_warm":"1"`),
			`:1:28: serverless.keep_warm: must be a whole number, not a string`},
		{"misspelt keep_warm", settings(`"keepWarm":1`),
			`:1:16: serverless.keepWarm: unknown name: did you mean "keep_warm"?`},
		{"more warm than can work", settings(`"keep_warm":4,"max_concurrency":3`),
			`:1:28: serverless.keep_warm: 4 instances are kept ready, but max_concurrency allows only 3 to work`},
		{"jobs are an array", settings(`"jobs":[]`),
			`:1:23: serverless.jobs: must be an object, not an array: leave it out for the defaults`},
		{"a job is a number", settings(`"jobs":{"0":512}`),
			`:1:28: serverless.jobs.0: must be an object, not a number: leave it out for the defaults`},
		{"a job by name", settings(`"jobs":{"hash":{}}`),
			`:1:24: serverless.jobs.hash: is not a job id: ids are whole numbers from 0`},
		{"a job with a leading zero", settings(`"jobs":{"01":{}}`),
			`:1:24: serverless.jobs.01: is not a job id: ids are whole numbers from 0`},
		{"a job with an id that overflows", settings(`"jobs":{"4294967296":{}}`),
			`:1:24: serverless.jobs.4294967296: is not a job id: ids are whole numbers from 0`},
		{"duplicate job", settings(`"jobs":{"0":{},"0":{}}`), `:1:31: serverless.jobs.0: duplicate name: remove one`},
		{"misspelt setting of a job", settings(`"jobs":{"0":{"memroy_mb":512}}`),
			`:1:29: serverless.jobs.0.memroy_mb: unknown name: did you mean "memory_mb"?`},
		{"unknown setting of a job", settings(`"jobs":{"0":{"memory":512}}`),
			`:1:29: serverless.jobs.0.memory: unknown name: settings of a job are memory_mb, timeout_secs, ` +
				`max_concurrency, keep_warm`},
		{"duplicate setting of a job", settings(`"jobs":{"0":{"keep_warm":1,"keep_warm":2}}`),
			`:1:43: serverless.jobs.0.keep_warm: duplicate name: remove one`},
		{"memory of a job is 0", settings(`"jobs":{"0":{"memory_mb":0}}`),
			`:1:41: serverless.jobs.0.memory_mb: must be at least 1 MB, not 0`},
		{"memory of a job above the limit", settings(`"jobs":{"2":{"memory_mb":10241}}`),
			`:1:41: serverless.jobs.2.memory_mb: 10241 MB is above the limit of aws-lambda, 10240 MB`},
		{"timeout of a job above the limit", settings(`"jobs":{"2":{"timeout_secs":901}}`),
			`:1:44: serverless.jobs.2.timeout_secs: 901 s is above the limit of aws-lambda, 900 s`},
		{"more warm than can work in a job", settings(`"keep_warm":3,"jobs":{"2":{"max_concurrency":1}}`),
			`:1:42: serverless.jobs.2.keep_warm: 3 instances are kept ready, but max_concurrency allows only 1 to work`},
		{"TOML job by name", "[serverless.jobs.hash]\nkeep_warm = 1\n",
			`:1:2: serverless.jobs.hash: is not a job id: ids are whole numbers from 0`},
		{"TOML misspelt setting of a job", "[serverless.jobs.0]\nkeep_warn = 1\n",
			`:2:1: serverless.jobs.0.keep_warn: unknown name: did you mean "keep_warm"?`},
		{"TOML with more keys than a policy has", "a = [" + strings.Repeat("1,", 5000) + "]\n",
			`:1:8194: more than 4096 keys and values in one TOML file: write it as JSON`},

		{"unknown provider", provider(`"type":"fargate"`),
			`:1:35: serverless.provider.type: unknown provider "fargate" (known: aws-lambda, azure-functions, custom, ` +
				`gcp-functions)`},
		{"misspelt provider", provider(`"type":"AWS_Lambda"`),
			`:1:35: serverless.provider.type: unknown provider "AWS_Lambda": did you mean "aws-lambda"? (known: ` +
				`aws-lambda, azure-functions, custom, gcp-functions)`},
		{"empty provider", provider(`"type":""`), `:1:35: serverless.provider.type: is empty`},
		{"provider missing beside what another needs", provider(`"endpoint":"http://h"`),
			`:1:27: serverless.provider.type: is missing, and the other members do not belong to the default, aws-lambda`},
		{"no project", provider(`"type":"gcp-functions"`),
			`:1:27: serverless.provider.project_id: is missing: gcp-functions needs it`},
		{"no subscription", provider(`"type":"azure-functions"`),
			`:1:27: serverless.provider.subscription_id: is missing: azure-functions needs it`},
		{"no endpoint", provider(`"type":"custom"`), `:1:27: serverless.provider.endpoint: is missing: custom needs it`},
		{"endpoint without a scheme", provider(`"type":"custom","endpoint":"user:secret@host"`),
			`:1:55: serverless.provider.endpoint: is not an http or https URL: it must look like https://faas.example`},
		{"endpoint of another scheme", provider(`"type":"custom","endpoint":"ftp://user:secret@host/x"`),
			`:1:55: serverless.provider.endpoint: "ftp://host/x" is not an http or https URL: it must look like ` +
				`https://faas.example`},
		{"endpoint without a host", provider(`"type":"custom","endpoint":"http://:80"`),
			`:1:55: serverless.provider.endpoint: has no host: it must look like https://faas.example`},
		{"endpoint that does not parse", provider(`"type":"custom","endpoint":"http://user:secret/@host"`),
			`:1:55: serverless.provider.endpoint: is not a URL: it must look like https://faas.example`},
		{"endpoint with a bad port", provider(`"type":"custom","endpoint":"http://h:65536"`),
			`:1:55: serverless.provider.endpoint: has a port that is not from 1 to 65535`},
		{"region that is none", provider(`"type":"aws-lambda","region":"us-east-1 "`),
			`:1:57: serverless.provider.region: "us-east-1 " contains characters that are not allowed in such a name`},
		{"half a surrogate pair", provider(`"type":"gcp-functions","project_id":"\ud800x"`),
			`:1:64: serverless.provider.project_id: contains half a surrogate pair`},

		{"duplicate section", `{"serverless":{"enable":true},"serverless":{}}`,
			`:1:31: serverless: duplicate name: remove one`},
		{"duplicate member", settings(`"enable":true,"\u0065nable":false`),
			`:1:30: serverless.enable: duplicate name: remove one`},
		{"duplicate foreign section", `{"providers":1,"providers":2}`, `:1:16: providers: duplicate name: remove one`},
		{"section of another case", `{"Serverless":{"enable":true}}`,
			`:1:2: Serverless: unknown name: did you mean "serverless"?`},
		{"misspelt section", `{"severless":{"enable":true}}`, `:1:2: severless: unknown name: did you mean "serverless"?`},
		{"member of another case", settings(`"Enable":true`),
			`:1:16: serverless.Enable: unknown name: did you mean "enable"?`},
		{"misspelt member", settings(`"enbale":true`), `:1:16: serverless.enbale: unknown name: did you mean "enable"?`},
		{"member in camel case", settings(`"defaultMemoryMb":1`),
			`:1:16: serverless.defaultMemoryMb: unknown name: did you mean "default_memory_mb"?`},
		{"misspelt provider member", provider(`"type":"aws-lambda","regoin":"x"`),
			`:1:48: serverless.provider.regoin: unknown name: did you mean "region"?`},

		{"options are an array", settings(`"provider_config":[]`),
			`:1:34: serverless.provider_config: must be an object, not an array: leave it out for the defaults`},
		{"option is an object of arrays", settings(`"provider_config":{"k":{"a":["secret"]}}`),
			`:1:44: serverless.provider_config.k.a: must be in an object a string, a number, true or false, not an array`},
		{"option is an array of arrays", settings(`"provider_config":{"k":[["secret"]]}`),
			`:1:40: serverless.provider_config.k: must be in an array a string, a number, true or false, not an array`},
		{"duplicate option", settings(`"provider_config":{"k":"secret","k":"secret"}`),
			`:1:48: serverless.provider_config.k: duplicate name: remove one`},
		{"option with a duplicate key", settings(`"provider_config":{"k":{"a":"secret","a":"secret"}}`),
			`:1:53: serverless.provider_config.k.a: duplicate name: remove one`},

		{"neither format", "serverless on",
			`:1:12: neither JSON, which would begin with {, nor TOML: expected '=' after key`},
		{"TOML value without quotes", "[serverless.provider_config]\ntoken = secret\n",
			`:2:9: serverless.provider_config.token: unexpected character U+0073 's' at start of value`},
		{"duplicate TOML member", "[serverless]\nenable = true\nenable = false\n",
			`:3:1: serverless.enable: key enable is already defined`},
		{"duplicate TOML section", "[serverless]\n[serverless]\n", `:2:2: serverless: table serverless already exists`},
		{"TOML number overflows", "[serverless]\ndefault_memory_mb = 99999999999999999999\n",
			`:2:21: serverless.default_memory_mb: decimal number is too large to fit in a 64-bit signed integer`},
		{"TOML number is infinite", "[serverless]\ndefault_memory_mb = inf\n",
			`:2:21: serverless.default_memory_mb: must be a whole number, without fraction or exponent, not inf`},
		{"TOML wrong type", "[serverless]\n\nenable = 'yes'\n",
			`:3:10: serverless.enable: must be true or false, not a string`},
		{"TOML missing project", "[serverless.provider]\ntype = 'gcp-functions'\n",
			`:1:2: serverless.provider.project_id: is missing: gcp-functions needs it`},
		{"TOML array of tables", "[[serverless]]\nenable = true\n",
			`:1:3: serverless: must be an object, not an array: leave it out for the defaults`},
		{"TOML date as an option", "[serverless.provider_config]\nk = 1979-05-27\n",
			`:2:5: serverless.provider_config.k: must be a string, a number, true or false, or an array or object of ` +
				`those, not a date or time`},
		{"TOML misspelt member", "[serverless]\nenabel = true\n",
			`:2:1: serverless.enabel: unknown name: did you mean "enable"?`},
		{"TOML nesting bomb", "a = " + strings.Repeat("[", 500_000), `:1:105: nested more than 100 levels deep`},
		{"TOML key bomb", strings.Repeat("a.", 400_000) + "a = 1", `:1:202: nested more than 100 levels deep`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := policyFile(t, test.content)
			p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
			if err == nil {
				t.Fatalf("no error, and %v", p)
			}
			if diff := cmp.Diff("faas: load policy: "+path+test.want, err.Error()); diff != "" {
				t.Errorf("error differs (-want +got):\n%s", diff)
			}
			if faas.CodeOf(err) != faas.ErrInvalidArgument {
				t.Errorf("code is %q", faas.CodeOf(err))
			}
			var cause *serverless.PolicyError
			if !errors.As(err, &cause) || cause.Path != path || cause.Line == 0 || cause.Column == 0 {
				t.Errorf("cause is %+v", cause)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the error shows what may be a secret")
			}
			if p == nil {
				t.Fatal("no defaults beside the error")
			}
			if diff := cmp.Diff(serverless.DefaultPolicy(), p); diff != "" {
				t.Errorf("beside the error are not the defaults (-want +got):\n%s", diff)
			}
			if strings.TrimSpace(test.content) == "" {
				return // nothing to lose
			}
			if err := p.Save(); err == nil || !strings.Contains(err.Error(), "the file is not overwritten") {
				t.Errorf("saving over a file that cannot be read: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != test.content {
				t.Error("the file has changed")
			}
		})
	}
}

func TestLoadPolicyWithoutFileReturnsDefaults(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "p.json"), filepath.Join(dir, "no", "such", "dir", "p.json")} {
		p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(serverless.DefaultPolicy(), p); diff != "" {
			t.Errorf("not the defaults (-want +got):\n%s", diff)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("loading left %v", entries)
	}
}

func TestLoadPolicyReportsOtherTrouble(t *testing.T) {
	dir := t.TempDir()
	large := policyFile(t, "{}"+strings.Repeat(" ", 1<<20-1))
	tests := []struct {
		name, path string
		code       faas.Code
		want       string
		skip       bool
	}{
		{"a directory", dir, faas.ErrInvalidArgument, "is a directory", false},
		{"a device", os.DevNull, faas.ErrInvalidArgument, "is not a regular file", runtime.GOOS == "windows"},
		{"more than 1 MiB", large, faas.ErrTooLarge, "more than 1 MiB", false},
		{"a file as directory", filepath.Join(large, "p.json"), "", "", runtime.GOOS == "windows"},
		{"a link to nothing", symlink(t, "nowhere", filepath.Join(dir, "dangling")), faas.ErrInvalidArgument, "is a link to",
			runtime.GOOS == "windows"},
		{"a link to itself", symlink(t, "loop", filepath.Join(dir, "loop")), "", "", runtime.GOOS == "windows"},
		{"no permission", unreadable(t), faas.ErrPermissionDenied, "permission denied", runtime.GOOS == "windows" ||
			os.Getuid() == 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.skip {
				t.Skip("this system, or its superuser, does not know this trouble")
			}
			p, err := serverless.LoadPolicy(serverless.WithPolicyPath(test.path))
			if err == nil || !strings.Contains(err.Error(), test.path) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v", err)
			}
			if test.code != "" && faas.CodeOf(err) != test.code {
				t.Errorf("code is %q, want %q", faas.CodeOf(err), test.code)
			}
			if p == nil || !p.Equal(*serverless.DefaultPolicy()) {
				t.Errorf("beside the error are not the defaults but %v", p)
			}
		})
	}
	if _, err := serverless.LoadPolicy(serverless.WithPolicyPath(
		policyFile(t, "{}"+strings.Repeat(" ", 1<<20-2)))); err != nil {
		t.Errorf("a file of exactly 1 MiB is refused: %v", err)
	}
}

func symlink(t *testing.T, target, path string) string {
	t.Helper()
	if err := os.Symlink(target, path); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	return path
}

func unreadable(t *testing.T) string {
	path := policyFile(t, "{}")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultPolicyPathFollowsUserConfigDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"XDG_CONFIG_HOME", "HOME", "AppData"} {
		t.Setenv(name, dir)
	}
	config, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	path, err := serverless.DefaultPolicyPath()
	if err != nil || path != filepath.Join(config, "tangle", "deployment-policy.json") {
		t.Fatalf("DefaultPolicyPath() = %q, %v", path, err)
	}
	p := serverless.DefaultPolicy()
	p.Serverless.DefaultMemoryMB = 640
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if p, err := serverless.LoadPolicy(); err != nil || p.Serverless.DefaultMemoryMB != 640 {
		t.Errorf("what was saved to the default path comes back as %v, %v", p, err)
	}

	for _, name := range []string{"XDG_CONFIG_HOME", "HOME", "AppData"} {
		t.Setenv(name, "")
	}
	got, err := serverless.LoadPolicy()
	if faas.CodeOf(err) != faas.ErrInvalidArgument || got == nil {
		t.Errorf("without a home, LoadPolicy() = %v, %v", got, err)
	}
	if err := p.Save(); err == nil {
		t.Error("without a home, Save() succeeds")
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// alone checks that the directory contains only the policy: no temporary file, no lock.
func alone(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		// Windows does not remove an open file.
		if entry.Name() != filepath.Base(path) && !(runtime.GOOS == "windows" && strings.HasSuffix(entry.Name(), ".lock")) {
			t.Errorf("%s is left beside the policy", entry.Name())
		}
	}
}

func TestSaveChangesOnlyWhatDiffers(t *testing.T) {
	switchOn := func(s *serverless.ServerlessSettings) { s.Enable, s.DefaultMemoryMB = true, 777 }
	toCustom := func(s *serverless.ServerlessSettings) {
		s.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: "http://h/a&b"}
		s.ProviderConfig = map[string]string{"a": "1", "b c": "\x7f"}
	}
	clear := func(s *serverless.ServerlessSettings) { s.MaxConcurrency, s.ProviderConfig = 0, nil }
	nothing := func(*serverless.ServerlessSettings) {}
	jobs := func(s *serverless.ServerlessSettings) {
		s.KeepWarm = 1
		s.Jobs = map[uint32]serverless.JobSettings{0: {MemoryMB: 1024, KeepWarm: new(uint32(0))}, 10: {TimeoutSecs: 9}}
	}
	noJobs := func(s *serverless.ServerlessSettings) { s.KeepWarm, s.Jobs = 0, nil }
	lists := func(s *serverless.ServerlessSettings) {
		s.ProviderConfig = map[string]string{
			"same": `["a","b"]`, "list": `["a","b,c"]`, "pairs": `{"a":"[\"x\"]","b":"1"}`, "text": `["a" ]`,
			"new": `{"k":"v"}`, "none": "[]",
		}
	}
	tests := []struct {
		name         string
		change       func(*serverless.ServerlessSettings)
		before, want string // an empty want means that before stays
	}{
		{"nothing differs", nothing, "{ \"x\" : [ 1.0,\r\n1e400 ],\t\"serverless\":{}}", ""},
		{"numbers stay to the digit", switchOn,
			"{\"z\": [1e400, 12345678901234567890, 1.0, -0],\n \"serverless\": {\"note\": 1.00,\n  \"enable\":false , " +
				"\"default_memory_mb\": 512},\n\n \"a\": {}}  ",
			"{\"z\": [1e400, 12345678901234567890, 1.0, -0],\n \"serverless\": {\"note\": 1.00,\n  \"enable\":true , " +
				"\"default_memory_mb\": 777},\n\n \"a\": {}}  "},
		{"new members in the style of the old, tabs", switchOn,
			"{\n\t\"serverless\": {\n\t\t\"fallback_to_vm\": true\n\t}\n}\n",
			"{\n\t\"serverless\": {\n\t\t\"fallback_to_vm\": true,\n\t\t\"enable\": true,\n\t\t\"default_memory_mb\": " +
				"777\n\t}\n}\n"},
		{"new members in the style of the old, compact", switchOn, `{"serverless":{"fallback_to_vm":true}}`,
			`{"serverless":{"fallback_to_vm":true,"enable":true,"default_memory_mb":777}}`},
		{"new members in the style of the old, one line", switchOn, `{"serverless": {"fallback_to_vm": true}}`,
			`{"serverless": {"fallback_to_vm": true, "enable": true, "default_memory_mb": 777}}`},
		{"an empty section", switchOn, "{\n    \"serverless\": {}\n}",
			"{\n    \"serverless\": {\n        \"enable\": true,\n        \"default_memory_mb\": 777\n    }\n}"},
		{"a missing section is written in full", nothing,
			"{\n  \"providers\": [1.0]\n}",
			"{\n  \"providers\": [1.0],\n  \"serverless\": {\n    \"enable\": false,\n    \"provider\": {\n      \"type\": " +
				"\"aws-lambda\",\n      \"region\": \"us-east-1\"\n    },\n    \"default_memory_mb\": 512,\n    " +
				"\"default_timeout_secs\": 300,\n    \"fallback_to_vm\": true\n  }\n}"},
		{"another provider keeps unknown members", toCustom,
			`{"serverless":{"provider":{"zone":1.0,"type":"aws-lambda","region":"eu-west-1"}}}`,
			`{"serverless":{"provider":{"zone":1.0,"type":"custom","endpoint":"http://h/a&b"},"provider_config":{"a":"1",` +
				`"b c":"` + "\x7f" + `"}}}`},
		{"an unchanged option keeps its literal", toCustom,
			`{"serverless":{"provider_config":{"a": 1, "x": [true]}, "provider": {"type": "custom", "endpoint": ` +
				`"http:\/\/h/a&b"}}}`,
			`{"serverless":{"provider_config":{"a": 1, "b c": "` + "\x7f" +
				`"}, "provider": {"type": "custom", "endpoint": "http:\/\/h/a&b"}}}`},
		{"members go", clear,
			"{\"serverless\": {\n  \"max_concurrency\": 3,\n  \"note\": 1,\n  \"provider_config\": {\"a\": 1}\n}}",
			"{\"serverless\": {\n  \"note\": 1\n}}"},
		{"all members go", clear, `{"serverless": { "max_concurrency": 3 }}`, `{"serverless": {}}`},
		{"lists and pairs are written as such", lists,
			`{"serverless":{"provider_config":{"old": "x", "same": [ "a",  "b" ], "list": ["a"], "pairs": {"b": 1,  "x": ` +
				`"y"}, "text": ["a"]}}}`,
			`{"serverless":{"provider_config":{"same": [ "a",  "b" ], "list": ["a", "b,c"], "pairs": {"b": 1,  "a": ` +
				`"[\"x\"]"}, "text": "[\"a\" ]", "new": {"k": "v"}, "none": []}}}`},
		{"lists and pairs of new options", lists, `{"serverless":{"enable":false}}`,
			`{"serverless":{"enable":false,"provider_config":{"list":["a", "b,c"],"new":{"k":"v"},"none":[],` +
				`"pairs":{"a":"[\"x\"]","b":"1"},"same":["a", "b"],"text":"[\"a\" ]"}}}`},
		{"TOML: lists and pairs are written as such", lists,
			"[serverless.provider_config]\nlist = ['a']\nsame = ['a', 'b']\n[serverless.provider_config.pairs]\nb = 1\n",
			"[serverless.provider_config]\nlist = [\"a\", \"b,c\"]\nsame = ['a', 'b']\nnew = { k = \"v\" }\nnone = []\ntext " +
				"= \"[\\\"a\\\" ]\"\n[serverless.provider_config.pairs]\nb = 1\na = \"[\\\"x\\\"]\"\n"},
		{"options that were null", toCustom,
			`{"serverless":{"provider_config":null,"provider":{"type":"custom","endpoint":"http://h/a&b"}}}`,
			`{"serverless":{"provider_config":{"a":"1","b c":"` + "\x7f" +
				`"},"provider":{"type":"custom","endpoint":"http://h/a&b"}}}`},

		{"settings of jobs are added", jobs, `{"serverless":{"enable":true}}`,
			`{"serverless":{"enable":true,"keep_warm":1,"jobs":{"0":{"memory_mb":1024,"keep_warm":0},` +
				`"10":{"timeout_secs":9}}}}`},
		{"settings of jobs change where they stand", jobs,
			"{\"serverless\":{\n  \"jobs\": {\n    \"9\": {\"keep_warm\": 1},\n    \"0\": {\"timeout_secs\": 30, " +
				"\"memory_mb\": 512},\n    \"3\": {}\n  },\n  \"keep_warm\": 2\n}}",
			"{\"serverless\":{\n  \"jobs\": {\n    \"0\": {\"memory_mb\": 1024, \"keep_warm\": 0},\n    \"3\": {},\n    " +
				"\"10\": {\n      \"timeout_secs\": 9\n    }\n  },\n  \"keep_warm\": 1\n}}"},
		{"settings of jobs that are the same stay as they are written", jobs,
			`{"serverless":{"keep_warm": 1, "jobs": { "10":{ "timeout_secs":9,"memory_mb":null }, "0" : {"keep_warm":0, ` +
				`"memory_mb":1024} }}}`, ""},
		{"settings of jobs that were null", jobs, `{"serverless":{"keep_warm":1,"jobs":null}}`,
			`{"serverless":{"keep_warm":1,"jobs":{"0":{"memory_mb":1024,"keep_warm":0},"10":{"timeout_secs":9}}}}`},
		{"settings of jobs go", noJobs, `{"serverless":{"jobs":{"0":{"keep_warm":1}},"keep_warm":2,"enable":true}}`,
			`{"serverless":{"enable":true}}`},

		{"TOML: settings of jobs are added", jobs,
			"[serverless]\nenable = true\n[x]\n",
			"[serverless]\nenable = true\nkeep_warm = 1\njobs = { 0 = { memory_mb = 1024, keep_warm = 0 }, 10 = { " +
				"timeout_secs = 9 } }\n[x]\n"},
		{"TOML: settings of jobs change where they stand", jobs,
			"[serverless]\nkeep_warm = 1\n[serverless.jobs.0] # zero\ntimeout_secs = 30\n[serverless.jobs.9]\nkeep_warm = " +
				"1\n[x]\n",
			"[serverless]\nkeep_warm = 1\n[serverless.jobs]\n10 = { timeout_secs = 9 }\n\n[serverless.jobs.0] # " +
				"zero\nmemory_mb = 1024\nkeep_warm = 0\n[x]\n"},
		{"TOML: settings of jobs go", noJobs, "[serverless]\nenable = true\njobs.0.keep_warm = 1\nkeep_warm = 2\n",
			"[serverless]\nenable = true\n"},
		{"TOML: nothing differs", nothing, "# c\n[serverless]\n\n[x]\na = 1_0.50 # d", ""},
		{"TOML: comments and layout stay", switchOn,
			"# top\n[serverless] # s\n  enable = false # e\n\n[serverless.provider]\ntype = 'aws-lambda'\n\n[[other]]\n " +
				"a=1.50\n",
			"# top\n[serverless] # s\n  enable = true # e\n  default_memory_mb = 777\n\n[serverless.provider]\ntype = " +
				"'aws-lambda'\n\n[[other]]\n a=1.50\n"},
		{"TOML: dotted keys", toCustom,
			"serverless.enable = true\nserverless.provider.type = 'aws-lambda'\n[x]\n",
			"serverless.enable = true\nserverless.provider.type = \"custom\"\nserverless.provider.endpoint = " +
				"\"http://h/a&b\"\nserverless.provider_config = { a = \"1\", \"b c\" = \"\\u007f\" }\n[x]\n"},
		{"TOML: inline tables", toCustom,
			"serverless = { enable = true, provider = {type='aws-lambda', region='x-1'} } # c",
			"serverless = { enable = true, provider = {type=\"custom\", endpoint=\"http://h/a&b\"}, provider_config = { a = " +
				"\"1\", \"b c\" = \"\\u007f\" } } # c"},
		{"TOML: a table without its parent", switchOn,
			"a = 1\n[serverless.provider]\ntype='aws-lambda'",
			"a = 1\n[serverless]\nenable = true\ndefault_memory_mb = 777\n\n[serverless.provider]\ntype='aws-lambda'"},
		{"TOML: tables go", clear,
			"[serverless]\nmax_concurrency = 3\nenable = true\n[serverless.provider_config]\na = '''\n[x]'''\n[x]\n",
			"[serverless]\nenable = true\n[x]\n"},
		{"TOML: a missing section is written in full", toCustom,
			"[x]\ny = \"\"\"\n[serverless]\"\"\"",
			"[x]\ny = \"\"\"\n[serverless]\"\"\"\n\n[serverless]\nenable = false\ndefault_memory_mb = " +
				"512\ndefault_timeout_secs = 300\nfallback_to_vm = true\n\n[serverless.provider]\ntype = \"custom\"\nendpoint " +
				"= \"http://h/a&b\"\n\n[serverless.provider_config]\na = \"1\"\n\"b c\" = \"\\u007f\"\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := policyFile(t, test.before)
			p := load(t, path)
			test.change(&p.Serverless)
			if err := p.Save(); err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				test.want = test.before
			}
			if diff := cmp.Diff(test.want, read(t, path)); diff != "" {
				t.Errorf("file differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(p, load(t, path)); diff != "" {
				t.Errorf("what was saved comes back different (-want +got):\n%s", diff)
			}
			alone(t, path)
		})
	}
}

func TestSaveMakesNewFileForTheOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "policy.json")
	if err := serverless.DefaultPolicy().Save(serverless.WithPolicyPath(path)); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"serverless\": {\n    \"enable\": false,\n    \"provider\": {\n      \"type\": \"aws-lambda\",\n   " +
		"   \"region\": \"us-east-1\"\n    },\n" +
		"    \"default_memory_mb\": 512,\n    \"default_timeout_secs\": 300,\n    \"fallback_to_vm\": true\n  }\n}\n"
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Errorf("file differs (-want +got):\n%s", diff)
	}
	alone(t, path)
	if runtime.GOOS == "windows" {
		return
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestSaveKeepsModeAndLink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes and links are those of Unix")
	}
	dir := t.TempDir()
	real := filepath.Join(dir, "real", "policy.json")
	if err := os.MkdirAll(filepath.Dir(real), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(real, []byte(missionPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	symlink(t, "real", filepath.Join(dir, "linked"))
	link := symlink(t, "linked/../real/policy.json", filepath.Join(dir, "link.json"))
	p := load(t, link)
	p.Serverless.DefaultMemoryMB = 900
	if err := p.Save(serverless.WithPolicyPath(link)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if load(t, real).Serverless.DefaultMemoryMB != 900 {
		t.Error("the file behind the link has not changed")
	}
	alone(t, real)

	dangling := symlink(t, "later/policy.json", filepath.Join(dir, "dangling.json"))
	if err := p.Save(serverless.WithPolicyPath(dangling)); err != nil {
		t.Fatal(err)
	}
	if load(t, filepath.Join(dir, "later", "policy.json")).Serverless.DefaultMemoryMB != 900 {
		t.Error("the file that a link announces was not made")
	}
}

func TestSaveLeavesForeignSectionsOfTheFileToOthers(t *testing.T) {
	path := policyFile(t, `{"providers": [1.0], "gone": 1, "serverless": {"enable": true}}`)
	p := load(t, path)
	if err := os.WriteFile(path,
		[]byte(`{"providers": [2.0], "failover": {}, "serverless": {"enable": true, "note": 3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Serverless.FallbackToVM = false
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"providers": [2.0], "failover": {}, "serverless": {"enable": true, "note": 3, `+
		`"fallback_to_vm": false}}`, read(t, path)); diff != "" {
		t.Errorf("file differs (-want +got):\n%s", diff)
	}

	if err := serverless.DefaultPolicy().Save(serverless.WithPolicyPath(path)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"providers": [2.0], "failover": {}, "serverless": {"enable": false, "note": 3, `+
		`"fallback_to_vm": true}}`, read(t, path)); diff != "" {
		t.Errorf("file differs after the defaults are saved to it (-want +got):\n%s", diff)
	}
}

func TestSaveElsewhereCarriesForeignSectionsAlong(t *testing.T) {
	const content = "{\n \"providers\": [1.0,\n2],\n \"serverless\": {\"note\": 1e400, \"provider\": {\"type\": " +
		"\"aws-lambda\", \"zone\": 1}},\n \"x\": 1\n}\n"
	p := load(t, policyFile(t, content))
	elsewhere := serverless.WithPolicyPath
	t.Run("to a new file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "b.json")
		if err := p.Save(elsewhere(path)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(content, read(t, path)); diff != "" {
			t.Errorf("file differs (-want +got):\n%s", diff)
		}
	})
	for name, test := range map[string]struct{ before, want string }{
		"to an empty file": {"\n", content},
		"to a file with sections of its own": {`{"x":2,"y":3}`,
			`{"x":2,"y":3,"serverless":{"enable":false,"provider":{"type":"aws-lambda","region":"us-east-1","zone":1},` +
				`"default_memory_mb":512,"default_timeout_secs":300,"fallback_to_vm":true,"note":1e400},"providers":` +
				"[1.0,\n2]}"},
		"to a file without a provider": {`{"serverless":{"note":2}}`,
			`{"serverless":{"note":2,"provider":{"type":"aws-lambda","region":"us-east-1","zone":1}},"providers":` +
				"[1.0,\n2]" + `,"x":1}`},
		"to a file with unknown members itself": {`{"serverless":{"provider":{"zone":9}}}`,
			`{"serverless":{"provider":{"zone":9},"note":1e400},"providers":` + "[1.0,\n2]" + `,"x":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			path := policyFile(t, test.before)
			if err := p.Save(elsewhere(path)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, read(t, path)); diff != "" {
				t.Errorf("file differs (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("from JSON to an existing TOML file", func(t *testing.T) {
		path := policyFile(t, "a = 1\n")
		err := p.Save(elsewhere(path))
		if faas.CodeOf(err) != faas.ErrUnsupported || !strings.Contains(err.Error(), path) || read(t, path) != "a = 1\n" {
			t.Errorf("error is %v, and the file\n%s", err, read(t, path))
		}
	})
	t.Run("from TOML", func(t *testing.T) {
		const content = "day = 1979-05-27\n[serverless]\nenable = true # on\n"
		p := load(t, policyFile(t, content))
		path := filepath.Join(t.TempDir(), "new")
		if err := p.Save(elsewhere(path)); err != nil || read(t, path) != content {
			t.Errorf("to a new file: %v", err)
		}
		path = policyFile(t, `{"serverless":{}}`)
		if err := p.Save(elsewhere(path)); err != nil ||
			read(t, path) != `{"serverless":{"enable":true},"day":"1979-05-27"}` {
			t.Errorf("to a JSON file: %v\n%s", err, read(t, path))
		}
	})
}

func TestSaveRefusesAndLeavesTheFile(t *testing.T) {
	invalid := serverless.DefaultPolicy()
	invalid.Serverless.DefaultTimeoutSecs = 901
	dir := t.TempDir()
	missing := filepath.Join(dir, "sub", "p.json")
	err := invalid.Save(serverless.WithPolicyPath(missing))
	if want := "faas: save policy: " + missing +
		": serverless.default_timeout_secs: 901 s is above the limit of aws-lambda, 900 s"; err == nil ||
		err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Error("an invalid policy has left a trace")
	}

	p := serverless.DefaultPolicy()
	full := policyFile(t, `{"x": "`+strings.Repeat("x", 1<<20-20)+`"}`)
	for name, test := range map[string]struct {
		path string
		code faas.Code
	}{
		"a directory":                 {dir, faas.ErrInvalidArgument},
		"no room below the limit":     {full, faas.ErrTooLarge},
		"content that cannot be read": {policyFile(t, `{"serverless":{"enable":"yes"}}`), faas.ErrInvalidArgument},
		"dotted keys inside braces": {policyFile(t, "serverless = {provider.type = 'aws-lambda', enable = true}"),
			faas.ErrUnsupported},
	} {
		var before string
		if test.path != dir {
			before = read(t, test.path)
		}
		err := p.Save(serverless.WithPolicyPath(test.path))
		if faas.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: error is %v", name, err)
		}
		if test.path == dir {
			continue
		}
		if read(t, test.path) != before {
			t.Errorf("%s: the file has changed", name)
		}
		alone(t, test.path)
	}
}

func TestSaveWithoutPermissionLeavesNoTrace(t *testing.T) {
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Skip("the superuser may write everywhere")
	}
	path := policyFile(t, "{}")
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
	err := serverless.DefaultPolicy().Save(serverless.WithPolicyPath(path))
	if faas.CodeOf(err) != faas.ErrPermissionDenied {
		t.Errorf("error is %v", err)
	}
	alone(t, path)
}

// saveOption sets one option of the policy at path. It first checks that the file is complete.
func saveOption(path, name string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(content, []byte(`{"foreign": 1.0, "serverless": {`)) || !bytes.HasSuffix(content, []byte("}}\n")) {
		return fmt.Errorf("half a file: %q", content)
	}
	p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		return err
	}
	p.Serverless.ProviderConfig = map[string]string{"writer": name, "check": name}
	return p.Save()
}

const saveChildVariable = "TEST_SAVE_POLICY"

func TestConcurrentSavesOfManyProcessesLeaveOneWhole(t *testing.T) {
	const turns = 8
	if path := os.Getenv(saveChildVariable); path != "" {
		for i := range turns {
			if err := saveOption(path, fmt.Sprintf("child %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	path := policyFile(t, "{\"foreign\": 1.0, \"serverless\": {\"enable\": true}}\n")
	var group sync.WaitGroup
	for range 2 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), saveChildVariable+"="+path)
		group.Go(func() {
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
	for writer := range 4 {
		group.Go(func() {
			for i := range turns {
				if err := saveOption(path, fmt.Sprintf("writer %d %d", writer, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	p := load(t, path)
	if options := p.Serverless.ProviderConfig; options["writer"] == "" || options["writer"] != options["check"] {
		t.Errorf("two saves are mixed: %v", options)
	}
	alone(t, path)
}
