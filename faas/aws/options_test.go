//go:build !faas_only || faas_aws

package aws

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The options in docs/aws.md are the registered ones.
func TestOptionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	provider, ok := faas.Provider(faas.AWSLambda)
	if !ok {
		t.Fatal("the provider is not registered")
	}
	var table strings.Builder
	for _, o := range provider.Options {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", o.Name, o.Default, o.Help)
	}
	if !strings.Contains(string(text), "|---|---|---|\n"+table.String()) {
		t.Errorf("the table in docs/aws.md should be:\n%s", table.String())
	}
}

func TestDefaultsAreAccepted(t *testing.T) {
	explicit := map[string]string{}
	for _, o := range optionTable() {
		explicit[o.Name] = o.Default
	}
	a, err := parseOptions(explicit)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.digest() != b.digest() {
		t.Error("options with their default values are others than none")
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
