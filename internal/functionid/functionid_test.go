package functionid

import (
	"math"
	"regexp"
	"strings"
	"testing"
)

func TestAFitServiceNameIsKept(t *testing.T) {
	for service, want := range map[string]string{
		"svc":                      "svc-job7",
		"blueprint-42-service-7":   "blueprint-42-service-7-job7",
		"svc-job1":                 "svc-job1-job7",
		strings.Repeat("a", 50):    strings.Repeat("a", 50) + "-job7",
		"svc-0123456789ab":         "svc-0123456789ab-job7",
		"a-job4294967295":          "a-job4294967295-job7",
		"123e4567-e89b-12d3-a456":  "123e4567-e89b-12d3-a456-job7",
		"0":                        "0-job7",
		"bp-cafe":                  "bp-cafe-job7",
		"with-a-dash-in-it-01-abc": "with-a-dash-in-it-01-abc-job7",
	} {
		if got := Of(service, 7); got != want {
			t.Errorf("%q: got %q, want %q", service, got, want)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, service := range []string{"svc", "Svc", "s v c", "", "-", strings.Repeat("x", 200), "svc-0123456789", "0123456789", "日本", "\xff"} {
		f.Add(service, "svc", uint32(7))
	}
	fit := regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-job[0-9]+$`)
	f.Fuzz(func(t *testing.T, a, b string, job uint32) {
		if a == "" || b == "" {
			t.Skip("providers refuse an empty name")
		}
		for _, n := range []uint32{job, math.MaxUint32} {
			id := Of(a, n)
			if len(id) > Max || !fit.MatchString(id) {
				t.Errorf("%q, job %d: %q is no function id", a, n, id)
			}
			if got, ok := Job(a, id); !ok || got != n {
				t.Errorf("%q: the job of %q is %d (%v)", a, id, got, ok)
			}
			if a != b && id == Of(b, n) {
				t.Errorf("services %q and %q share %q", a, b, id)
			}
		}
		// A service that is called like another's prefix is another service.
		if prefix := Prefix(a); prefix != a && Prefix(prefix) == prefix {
			t.Errorf("services %q and %q share the prefix %q", a, prefix, prefix)
		}
	})
}
