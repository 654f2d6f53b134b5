package serverless_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestPolicyIsAPlainValue(t *testing.T) {
	content := `{"x": [1.0, 1e400], "serverless": {"note": "<&>", "provider": {"type": "custom",
		"endpoint": "https://user:secret@host/base", "zone": 1}, "provider_config": {"token": "secret"}}}`
	p := load(t, policyFile(t, content))

	if diff := cmp.Diff([]string{"serverless.note", "serverless.provider.zone", "x"}, p.Foreign()); diff != "" {
		t.Errorf("foreign members differ (-want +got):\n%s", diff)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("policy", "p", p, "s", p.Serverless, "v", p.Serverless.Provider)
	for _, text := range []string{
		fmt.Sprint(p), fmt.Sprintf("%+v %#v %s", p, p, p), fmt.Sprintf("%+v", *p),
		fmt.Sprintf("%+v %#v", p.Serverless, p.Serverless),
		fmt.Sprintf("%+v", p.Serverless.Config()), fmt.Sprintf("%#v", p.Serverless.Provider), logged.String(),
	} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "host/base") {
			t.Errorf("printed as %s", text)
		}
	}

	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"x":[1.0,1e400]`) {
		t.Errorf("marshalled as %s", text)
	}
	var back serverless.Policy
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*p, back); diff != "" {
		t.Errorf("JSON loses something (-want +got):\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"serverless":{"enable":1}}`), &back); err == nil || !back.Equal(*p) {
		t.Errorf("unmarshalling a bad policy: %v, and it is %v", err, back)
	}

	for name, other := range map[string]string{
		"a digit of a foreign section":  strings.Replace(content, "1.0", "1.00", 1),
		"an unknown member":             strings.Replace(content, `"zone": 1`, `"zone": 2`, 1),
		"an option":                     strings.Replace(content, `"token": "secret"`, `"token": "other"`, 1),
		"a section more":                strings.Replace(content, `{"x"`, `{"y": 1, "x"`, 1),
		"a name that looks like a path": strings.Replace(content, `"x"`, `"serverless.note"`, 1),
	} {
		if load(t, policyFile(t, other)).Equal(*p) {
			t.Errorf("equal in spite of %s", name)
		}
	}
	if !load(t, policyFile(t, strings.ReplaceAll(content, ", ", ",\n"))).Equal(*p) {
		t.Error("the layout makes a difference")
	}
}

func TestPolicyFromTOMLMarshalsToJSON(t *testing.T) {
	p := load(t, policyFile(t, "day = 1979-05-27\nbig = 1e300\nlist = [1, 2.50]\n[serverless]\nenable = true\n"))
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"day":"1979-05-27","big":1e300,"list":[1,2.5],"serverless":{"enable":true}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("JSON differs (-want +got):\n%s", diff)
	}
}

func TestConfigSharesNothingAndFitsTheProvider(t *testing.T) {
	s := serverless.DefaultPolicy().Serverless
	s.ProviderConfig = map[string]string{"k": "v"}
	s.Provider.Region = ""
	s.MaxConcurrency, s.KeepWarm = 4, 1
	s.Jobs = map[uint32]serverless.JobSettings{2: {KeepWarm: new(uint32(3))}, 5: {}}
	c := s.Config()
	want := serverless.ServerlessConfig{
		Provider:        faas.Config{Provider: faas.AWSLambda, Region: "us-east-1", Options: map[string]string{"k": "v"}},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 300, MaxConcurrency: 4, KeepWarm: 1,
		Overrides: map[uint32]serverless.JobSettings{2: {KeepWarm: new(uint32(3))}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
	c.Provider.Options["k"] = "changed"
	*c.Overrides[2].KeepWarm = 9
	if s.ProviderConfig["k"] != "v" || *s.Jobs[2].KeepWarm != 3 {
		t.Error("the configuration shares memory with the policy")
	}

	s = serverless.DefaultPolicy().Serverless
	s.Provider.Type, s.Provider.ProjectID = faas.GCPFunctions, "p"
	if region := s.Config().Provider.Region; region != "" {
		t.Errorf("Google is handed the AWS region %s", region)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*serverless.ServerlessSettings){
		`faas: validate policy: serverless.default_memory_mb: must be at least 1 MB, not 0`: func(
			s *serverless.ServerlessSettings) {
			s.DefaultMemoryMB = 0
		},
		`faas: validate policy: serverless.provider.type: is missing: one of aws-lambda, azure-functions, custom, ` +
			`gcp-functions`: func(s *serverless.ServerlessSettings) {
			s.Provider = serverless.ProviderSettings{}
		},
		`faas: validate policy: serverless.provider.endpoint: is missing: custom needs it`: func(
			s *serverless.ServerlessSettings) {
			s.Provider.Type = faas.Custom
		},
		`faas: validate policy: serverless.provider_config.k: is not valid UTF-8`: func(s *serverless.ServerlessSettings) {
			s.ProviderConfig = map[string]string{"k": "\xff"}
		},
		`faas: validate policy: serverless.provider.region: "eu/west" contains characters that are not allowed in ` +
			`such a name`: func(
			s *serverless.ServerlessSettings) {
			s.Provider.Region = "eu/west"
		},
	} {
		p := serverless.DefaultPolicy()
		if err := p.Validate(); err != nil {
			t.Fatalf("the defaults are invalid: %v", err)
		}
		change(&p.Serverless)
		err := p.Validate()
		if err == nil || err.Error() != want || !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("Validate() = %v, want %s", err, want)
		}
	}
}
