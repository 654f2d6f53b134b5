package platform

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestConfigHeader(t *testing.T) {
	var o options
	if err := o.setDefaults(); err != nil {
		t.Fatal(err)
	}
	defaults := config{MemoryMB: DefaultMemoryMB, TimeoutSecs: DefaultTimeoutSecs}
	tests := []struct {
		text string
		want config
		err  string
	}{
		{"", defaults, ""},
		{"{}", defaults, ""},
		{`{"memory_mb":null,"unknown":{"a":[1]},"env_vars":null}`, defaults, ""},
		{
			`{"memory_mb":128,"timeout_secs":900,"max_concurrency":7,"env_vars":{"A_1":"x=y","_b":""}}`,
			config{MemoryMB: 128, TimeoutSecs: 900, MaxConcurrency: 7, Env: map[string]string{"A_1": "x=y", "_b": ""}}, "",
		},
		{`{"memory_mb":10240}`, config{MemoryMB: 10240, TimeoutSecs: DefaultTimeoutSecs}, ""},
		{`{"memory_mb":127}`, config{}, "allowed are 128 to 10240"},
		{`{"memory_mb":10241}`, config{}, "allowed are 128 to 10240"},
		{`{"memory_mb":0}`, config{}, "memory_mb must be a whole number"},
		{`{"memory_mb":-1}`, config{}, "memory_mb must be a whole number"},
		{`{"memory_mb":512.5}`, config{}, "memory_mb must be a whole number"},
		{`{"memory_mb":"512"}`, config{}, "memory_mb must be a whole number"},
		{`{"memory_mb":1e30}`, config{}, "memory_mb must be a whole number"},
		{`{"timeout_secs":901}`, config{}, "allowed are 1 to 900"},
		{`{"max_concurrency":1001}`, config{}, "the limit is 1000"},
		{`{"memory_mb":128,"memory_mb":256}`, config{}, "twice"},
		{`{"env_vars":{"A":"1","A":"2"}}`, config{}, "twice"},
		{`{"env_vars":{"A":1}}`, config{}, "not a string"},
		{`{"env_vars":{"A":null}}`, config{}, "not a string"},
		{`{"env_vars":["A"]}`, config{}, "env_vars"},
		{`{"env_vars":{"1A":"x"}}`, config{}, "begins with no digit"},
		{`{"env_vars":{"A=B":"x"}}`, config{}, "letters"},
		{`{"env_vars":{"A":"` + strings.Repeat("x", maxVariable-2) + `"}}`, config{}, "the limit"},
		{`{"env_vars":{"":"x"}}`, config{}, "letters"},
		{`{"env_vars":{"A":"secret\u0000"}}`, config{}, "NUL"},
		{`{"env_vars":{"BLUEPRINT_JOB_PROTOCOL":"x"}}`, config{}, "platform's own"},
		{`[]`, config{}, "not a JSON object"},
		{`{"memory_mb":128}x`, config{}, "after the JSON object"},
		{`{"memory_mb":128`, config{}, "does not end"},
	}
	for _, tt := range tests {
		got, err := parseConfig(base64.StdEncoding.EncodeToString([]byte(tt.text)), &o.limits)
		if tt.err == "" {
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%s: %v %s", tt.text, err, diff)
			}
			continue
		}
		if faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), tt.err) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", tt.text, err, tt.err)
		}
	}
	for _, header := range []string{"!!!", strings.Repeat("A", maxConfigHeader+1)} {
		if _, err := parseConfig(header, &o.limits); faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%.10q: %v", header, err)
		}
	}
	// without padding
	if got, err := parseConfig("eyJtZW1vcnlfbWIiOjEyOH0", &o.limits); err != nil || got.MemoryMB != 128 {
		t.Error(got, err)
	}
}

func FuzzConfigHeader(f *testing.F) {
	f.Add(`{"memory_mb":128,"timeout_secs":900,"max_concurrency":7,"env_vars":{"A":"x"}}`)
	f.Add(`{"env_vars":{"A":"1","A":"2"}}`)
	var o options
	if err := o.setDefaults(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig(base64.RawURLEncoding.EncodeToString([]byte(text)), &o.limits)
		if err == nil && c.check(&o.limits) != nil {
			t.Errorf("%q gives %+v, which is not allowed", text, c)
		}
	})
}
