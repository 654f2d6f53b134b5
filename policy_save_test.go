package serverless_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// alone checks that a directory holds nothing but the policy: no temporary file, no lock.
func alone(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		// Windows does not let a file go that is open.
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
		before, want string // a want that is empty is the same as before
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
			`{"serverless":{"provider":{"zone":1.0,"type":"custom","endpoint":"http://h/a&b"},"provider_config":{"a":"1","b c":"` + "\x7f" + `"}}}`},
		{"an unchanged option keeps its literal", toCustom,
			`{"serverless":{"provider_config":{"a": 1, "x": [true]}, "provider": {"type": "custom", "endpoint": "http:\/\/h/a&b"}}}`,
			`{"serverless":{"provider_config":{"a": 1, "b c": "` + "\x7f" +
				`"}, "provider": {"type": "custom", "endpoint": "http:\/\/h/a&b"}}}`},
		{"members go", clear,
			"{\"serverless\": {\n  \"max_concurrency\": 3,\n  \"note\": 1,\n  \"provider_config\": {\"a\": 1}\n}}",
			"{\"serverless\": {\n  \"note\": 1\n}}"},
		{"all members go", clear, `{"serverless": { "max_concurrency": 3 }}`, `{"serverless": {}}`},
		{"lists and pairs are written as such", lists,
			`{"serverless":{"provider_config":{"old": "x", "same": [ "a",  "b" ], "list": ["a"], "pairs": {"b": 1,  "x": "y"}, "text": ["a"]}}}`,
			`{"serverless":{"provider_config":{"same": [ "a",  "b" ], "list": ["a", "b,c"], "pairs": {"b": 1,  "a": "[\"x\"]"}, "text": "[\"a\" ]", "new": {"k": "v"}, "none": []}}}`},
		{"lists and pairs of new options", lists, `{"serverless":{"enable":false}}`,
			`{"serverless":{"enable":false,"provider_config":{"list":["a", "b,c"],"new":{"k":"v"},"none":[],"pairs":{"a":"[\"x\"]","b":"1"},"same":["a", "b"],"text":"[\"a\" ]"}}}`},
		{"TOML: lists and pairs are written as such", lists,
			"[serverless.provider_config]\nlist = ['a']\nsame = ['a', 'b']\n[serverless.provider_config.pairs]\nb = 1\n",
			"[serverless.provider_config]\nlist = [\"a\", \"b,c\"]\nsame = ['a', 'b']\nnew = { k = \"v\" }\nnone = []\ntext " +
				"= \"[\\\"a\\\" ]\"\n[serverless.provider_config.pairs]\nb = 1\na = \"[\\\"x\\\"]\"\n"},
		{"options that were null", toCustom,
			`{"serverless":{"provider_config":null,"provider":{"type":"custom","endpoint":"http://h/a&b"}}}`,
			`{"serverless":{"provider_config":{"a":"1","b c":"` + "\x7f" +
				`"},"provider":{"type":"custom","endpoint":"http://h/a&b"}}}`},

		{"settings of jobs are added", jobs, `{"serverless":{"enable":true}}`,
			`{"serverless":{"enable":true,"keep_warm":1,"jobs":{"0":{"memory_mb":1024,"keep_warm":0},"10":{"timeout_secs":9}}}}`},
		{"settings of jobs change where they stand", jobs,
			"{\"serverless\":{\n  \"jobs\": {\n    \"9\": {\"keep_warm\": 1},\n    \"0\": {\"timeout_secs\": 30, " +
				"\"memory_mb\": 512},\n    \"3\": {}\n  },\n  \"keep_warm\": 2\n}}",
			"{\"serverless\":{\n  \"jobs\": {\n    \"0\": {\"memory_mb\": 1024, \"keep_warm\": 0},\n    \"3\": {},\n    " +
				"\"10\": {\n      \"timeout_secs\": 9\n    }\n  },\n  \"keep_warm\": 1\n}}"},
		{"settings of jobs that are the same stay as they are written", jobs,
			`{"serverless":{"keep_warm": 1, "jobs": { "10":{ "timeout_secs":9,"memory_mb":null }, "0" : {"keep_warm":0, "memory_mb":1024} }}}`, ""},
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
			"# top\n[serverless] # s\n  enable = false # e\n\n[serverless.provider]\ntype = 'aws-lambda'\n\n[[other]]\n a=1.50\n",
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
	if err := os.WriteFile(path, []byte(`{"providers": [2.0], "failover": {}, "serverless": {"enable": true, "note": 3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Serverless.FallbackToVM = false
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"providers": [2.0], "failover": {}, "serverless": {"enable": true, "note": 3, "fallback_to_vm": false}}`, read(t, path)); diff != "" {
		t.Errorf("file differs (-want +got):\n%s", diff)
	}

	if err := serverless.DefaultPolicy().Save(serverless.WithPolicyPath(path)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"providers": [2.0], "failover": {}, "serverless": {"enable": false, "note": 3, "fallback_to_vm": true}}`, read(t, path)); diff != "" {
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
			`{"x":2,"y":3,"serverless":{"enable":false,"provider":{"type":"aws-lambda","region":"us-east-1","zone":1},"default_memory_mb":512,"default_timeout_secs":300,"fallback_to_vm":true,"note":1e400},"providers":` + "[1.0,\n2]}"},
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
