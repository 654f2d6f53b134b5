package faas

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigIsPrintedAndLoggedWithoutSecrets(t *testing.T) {
	cfg := Config{
		Provider: "custom", Service: "squares", Region: "here", ProjectID: "p", SubscriptionID: "s",
		Endpoint: "https://u:secret@faas.example/x?key=secret",
		Options:  map[string]string{"token": "secret", "header": "secret"},
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("open", "config", cfg, "pointer", &cfg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("open", "config", cfg, "pointer", &cfg)
	texts := map[string]string{"log": log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts[verb] = fmt.Sprintf(verb, cfg)
		texts["pointer "+verb] = fmt.Sprintf(verb, &cfg)
		texts["nested "+verb] = fmt.Sprintf(verb, struct{ C []Config }{[]Config{cfg}})
	}
	for name, text := range texts {
		if strings.Contains(text, "secret") || strings.Contains(text, fmt.Sprintf("%x", "secret")) {
			t.Errorf("%s shows a secret: %s", name, text)
		}
		if !strings.Contains(text, "provider:custom service:squares region:here project_id:p subscription_id:s "+
			"endpoint:https://faas.example/x options:[header token]") {
			t.Errorf("%s does not show what may be seen: %s", name, text)
		}
	}
}

// An encoded configuration leads to the same place again, and holds no credential.
func TestConfigSurvivesJSONAndGobWithoutSecrets(t *testing.T) {
	Register("kept", ProviderInfo{
		Options: []Option{{Name: "alias"}, {Name: "token", Sensitive: true}},
		Open:    func(context.Context, Config) (Executor, error) { return nil, nil },
	})
	cfg := Config{
		Provider: "kept", Service: "squares", Region: "here", Endpoint: "https://u:secret@faas.example/x?key=secret",
		Options: map[string]string{"alias": "live", "token": "secret"},
	}
	want := Config{Provider: "kept", Service: "squares", Region: "here", Endpoint: "https://faas.example/x",
		Options: map[string]string{"alias": "live"}}
	text, err := json.Marshal(map[string]any{"pointer": &cfg, "value": cfg})
	if err != nil {
		t.Fatal(err)
	}
	var encoded bytes.Buffer
	if err := gob.NewEncoder(&encoded).Encode(cfg); err != nil {
		t.Fatal(err)
	}
	if all := string(text) + encoded.String(); strings.Contains(all, "secret") {
		t.Errorf("a secret is in %s", all)
	}
	var fromJSON struct{ Pointer, Value Config }
	var fromGob Config
	if err := errors.Join(json.Unmarshal(text, &fromJSON), gob.NewDecoder(&encoded).Decode(&fromGob)); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]Config{"a pointer's JSON": fromJSON.Pointer, "a value's JSON": fromJSON.Value,
		"gob": fromGob} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s came back as %v, want %v", what, got, want)
		}
	}
}

func TestFingerprintChangesWithEverythingAFunctionHas(t *testing.T) {
	base := func() []Function {
		return []Function{{JobID: 1, MemoryMB: 128, TimeoutSecs: 30, Env: NewEnv(map[string]string{"A": "1", "B": "2"})}}
	}
	print := func(change func(*Function)) string {
		functions := base()
		change(&functions[0])
		return Unit{ID: "x", Functions: functions}.Fingerprint()
	}
	want := print(func(*Function) {})
	if len(want) != 64 || want != print(func(f *Function) { f.Env = NewEnv(map[string]string{"B": "2", "A": "1"}) }) {
		t.Errorf("the same functions have another fingerprint")
	}
	seen := map[string]string{want: "nothing"}
	for what, change := range map[string]func(*Function){
		"job":         func(f *Function) { f.JobID = 2 },
		"memory":      func(f *Function) { f.MemoryMB = 256 },
		"timeout":     func(f *Function) { f.TimeoutSecs = 31 },
		"concurrency": func(f *Function) { f.MaxConcurrency = 1 },
		"warmth":      func(f *Function) { f.KeepWarm = 1 },
		"env value":   func(f *Function) { f.Env["A"] = NewSecret("2") },
		"env name":    func(f *Function) { delete(f.Env, "A"); f.Env["C"] = NewSecret("1") },
		"no env":      func(f *Function) { f.Env = nil },
	} {
		got := print(change)
		if other, dup := seen[got]; dup {
			t.Errorf("changing %s and changing %s give the same fingerprint", what, other)
		}
		seen[got] = what
	}
	if print(func(f *Function) { f.Env = nil }) != print(func(f *Function) { f.Env = NewEnv(map[string]string{}) }) {
		t.Error("no environment and an empty one have different fingerprints")
	}
}

func TestStateIsCurrentOnlyWithTheSameCodeAndConfiguration(t *testing.T) {
	u := Unit{ID: "x", Functions: []Function{{JobID: 1}}, Package: &Package{sha256: "code"}}
	good := State{ID: "x", Status: StatusReady, PackageSHA256: "code", Fingerprint: u.Fingerprint()}
	for name, tt := range map[string]struct {
		change func(*State, *Unit)
		want   bool
	}{
		"same":                  {func(*State, *Unit) {}, true},
		"other code":            {func(s *State, _ *Unit) { s.PackageSHA256 = "other" }, false},
		"unknown code":          {func(s *State, _ *Unit) { s.PackageSHA256 = "" }, false},
		"unknown on both sides": {func(s *State, u *Unit) { s.PackageSHA256 = ""; u.Package = &Package{} }, false},
		"other configuration":   {func(s *State, _ *Unit) { s.Fingerprint = "other" }, false},
		"pending":               {func(s *State, _ *Unit) { s.Status = StatusPending }, false},
		"failed":                {func(s *State, _ *Unit) { s.Status = StatusFailed }, false},
		"no package":            {func(_ *State, u *Unit) { u.Package = nil }, false},
	} {
		s, unit := good, u
		tt.change(&s, &unit)
		if got := s.Current(unit); got != tt.want {
			t.Errorf("%s: Current = %v", name, got)
		}
	}
}

func TestProviderLimitsAreKnownWithoutLinking(t *testing.T) {
	for name, want := range map[string]Limits{
		"aws-lambda": {10240, 900, 6}, "gcp-functions": {32768, 3600, 10}, "azure-functions": {14336, 600, 100},
		"custom": {2048, 300, 5},
	} {
		got, ok := ProviderLimits(name)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("ProviderLimits(%s): %v %s", name, ok, diff)
		}
		sizes, ok := ProviderMemorySizes(name)
		if !ok || sizes.RoundUp(1) == 0 || sizes.RoundUp(512) < 512 {
			t.Errorf("ProviderMemorySizes(%s) = %+v, %v", name, sizes, ok)
		}
	}
	if _, ok := ProviderLimits("nowhere"); ok {
		t.Error("an unknown provider has limits")
	}
	if _, ok := ProviderMemorySizes("nowhere"); ok {
		t.Error("an unknown provider has memory sizes")
	}
}

func TestMemoryIsRoundedUpToWhatIsSold(t *testing.T) {
	const top = ^uint32(0)
	listed, stepped, any := MemorySizes{Sizes: []uint32{128, 512, 2048}}, MemorySizes{Min: 128, Step: 64},
		MemorySizes{Min: 128, Step: 1}
	for _, tt := range []struct {
		sizes    MemorySizes
		mb, want uint32
	}{
		{listed, 0, 128}, {listed, 128, 128}, {listed, 129, 512}, {listed, 2048, 2048}, {listed, 2049, 2049},
		{listed, top, top},
		{stepped, 0, 128}, {stepped, 128, 128}, {stepped, 129, 192}, {stepped, 192, 192}, {stepped, top, top},
		{any, 1, 128}, {any, 129, 129}, {any, top, top},
		{MemorySizes{}, 0, 0}, {MemorySizes{}, 77, 77},
	} {
		if got := tt.sizes.RoundUp(tt.mb); got != tt.want {
			t.Errorf("%+v.RoundUp(%d) = %d, want %d", tt.sizes, tt.mb, got, tt.want)
		}
	}
}

func TestRedactURLNeverShowsASecret(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                   "",
		"https://faas.example/api":           "https://faas.example/api",
		"https://u:secret@faas.example:8443": "https://faas.example:8443",
		"https://faas.example/a%2Fb?key=secret#secret": "https://faas.example/a%2Fb",
		"//u:secret@faas.example/x":                    "//faas.example/x",
		"/api/functions/x?key=secret":                  "/api/functions/x",
		"u:secret@faas.example":                        "(not a URL with a host)",
		"secret@faas.example/x":                        "(not a URL with a host)",
		"https://u:sec ret@faas.example":               "(not a URL with a host)",
		"https:u:secret@faas.example":                  "(not a URL with a host)",
		"https://faas.example/%zz?secret":              "(not a URL with a host)",
	} {
		if got := RedactURL(raw); got != want || strings.Contains(got, "secret") {
			t.Errorf("RedactURL(%q) = %q, want %q", raw, got, want)
		}
	}
}
