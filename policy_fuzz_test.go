package serverless_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func FuzzLoadPolicy(f *testing.F) {
	for _, seed := range []string{
		missionPolicy, `{}`,
		`{"x":1e400,"serverless":{"note":[1.0],"provider":{"type":"custom","endpoint":"http://h","z":null},` +
			`"provider_config":{"a":[1,true],"k":{"k":"[]","x":1}}}}`,
		`{"serverless":{"provider_config":null,"max_concurrency":1}, "\ud800": "\udc00\u0000"}`, "{ \"serverless\" : { } }",
		"a.b.c = 1\n[serverless]\nenable=true\n[serverless.provider]\ntype='custom'\nendpoint=\"http://h\"\n[[x]]\ny = " +
			"1979-05-27 07:32:00Z\n[[x]]\ny=nan\n",
		"serverless = {enable = true, provider_config = {a = '''b''', \"c d\" = [1.5, 2]}} # c\r\n\"x\" = \"\"\"\\\n  " +
			"y\"\"\"\"\"\n", "serverless.provider.type = 'aws-lambda'",
		`{"serverless":{"keep_warm":2,"jobs":{"0":{"memory_mb":512,"timeout_secs":null,"keep_warm":0},"1":{}}}}`,
		"[serverless.jobs.0]\nkeep_warm=1\n[serverless]\njobs.2.memory_mb=9\n",
		"[serverless.provider_config]\na=1\n", "[serverless.provider_config.k]\nk=1\n", "[a]\n[serverless]\nprovider = {}\n",
		"[x.\"serverless\"]\n'a.b' = inf",
	} {
		for _, option := range []string{"v", `["a","b,c"]`, `{"k":"v"}`, `{"k":["v"]}`} {
			f.Add([]byte(seed), true, uint32(700), option)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte, enable bool, memory uint32, option string) {
		file, err := os.CreateTemp(dir, "*.json")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		_, err = file.Write(content)
		if closeErr := file.Close(); err != nil || closeErr != nil {
			t.Fatal(err, closeErr)
		}
		at := serverless.WithPolicyPath(file.Name())
		p, err := serverless.LoadPolicy(at)
		if err != nil {
			if !p.Equal(*serverless.DefaultPolicy()) || faas.CodeOf(err) != faas.ErrInvalidArgument {
				t.Fatalf("beside %v is %v", err, p)
			}
			return
		}
		isJSON := json.Valid(content)
		check := func(what string) {
			if err := p.Save(at); err != nil {
				code := faas.CodeOf(err)
				if code == faas.ErrUnsupported && !isJSON || code == faas.ErrTooLarge || p.Validate() != nil {
					return
				}
				t.Fatalf("%s: %v", what, err)
			}
			back, err := serverless.LoadPolicy(at)
			if err != nil || !back.Equal(*p) {
				t.Fatalf("%s: %v comes back as %v, %v", what, p, back, err)
			}
		}
		check("unchanged")
		var sections map[string]json.RawMessage
		if isJSON && json.Unmarshal(content, &sections) == nil && sections["serverless"] != nil {
			if after := read(t, file.Name()); after != string(content) {
				t.Fatalf("an unchanged policy was rewritten: %q became %q", content, after)
			}
		}
		p.Serverless.Enable, p.Serverless.DefaultMemoryMB = enable, memory
		p.Serverless.ProviderConfig = map[string]string{"k": option}
		check("changed")
		if !isJSON || p.Validate() != nil {
			return
		}
		var after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(read(t, file.Name())), &after); err != nil {
			t.Fatal(err)
		}
		for name, raw := range sections {
			if name != "serverless" && !bytes.Equal(raw, after[name]) {
				t.Fatalf("%q: %q became %q", name, raw, after[name])
			}
		}
	})
}
