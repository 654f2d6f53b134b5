//go:build !faas_only || faas_aws

package aws

import (
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The digest of a deployed function's options stays the same.
func TestTheDigestOfNoOptionsIsThatOfTheDefaults(t *testing.T) {
	explicit := map[string]string{}
	for _, o := range declare(new(options), new(string)).Table() {
		explicit[o.Name] = o.Default
	}
	t.Setenv(RoleEnv, "")
	some := map[string]string{
		"tags": "c=d, a=b", "subnet_ids": `["subnet-1","subnet-2"]`, "security_group_ids": "sg-1", "architecture": "X86_64",
		"ephemeral_storage_mb": "1024",
	}
	for want, all := range map[string][]map[string]string{
		"662ea95f5c9a85e62f9a66a615139806": {nil, explicit}, "8075c5487e8988126149d5f71aa88a67": {some},
	} {
		for _, given := range all {
			o, err := parseOptions(faas.Config{Options: given})
			if err != nil {
				t.Fatal(err)
			}
			if got := o.digest(); got != want {
				t.Errorf("%v: %s, want %s", given, got, want)
			}
		}
	}
}

func FuzzNamesAreUniqueAndValid(f *testing.F) {
	f.Add("alpha", "al pha", uint32(0), uint32(12))
	f.Add("a-1", "a", uint32(0), uint32(10))
	f.Add(strings.Repeat("x", 80), strings.Repeat("x", 81), uint32(1), uint32(4294967295))
	f.Fuzz(func(t *testing.T, s1, s2 string, j1, j2 uint32) {
		a, b := functionName(s1, j1), functionName(s2, j2)
		if !namePattern.MatchString(a) || !namePattern.MatchString(b) {
			t.Fatalf("%q or %q is no name of a function", a, b)
		}
		if (a == b) != (s1 == s2 && j1 == j2) {
			t.Errorf("%q job %d is %s, %q job %d is %s", s1, j1, a, s2, j2, b)
		}
		if job, ok := jobOfName(s1, a); !ok || job != j1 {
			t.Errorf("the job of %s is %d, %t", a, job, ok)
		}
	})
}
