package kit

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
		if got := ProtocolNames.Of(service, 7); got != want {
			t.Errorf("%q: got %q, want %q", service, got, want)
		}
	}
}

func TestCloudRunIDsAreShorterAndBeginWithALetter(t *testing.T) {
	for service, want := range map[string]string{
		"svc":                   "svc-job7",
		"42":                    "s42-73475cb40a-job7",
		strings.Repeat("a", 35): strings.Repeat("a", 35) + "-job7",
		strings.Repeat("a", 36): strings.Repeat("a", 24) + "-22c1d24bcd-job7",
	} {
		if got := CloudRunNames.Of(service, 7); got != want {
			t.Errorf("%q: got %q, want %q", service, got, want)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, service := range []string{"svc", "Svc", "s v c", "", "-", strings.Repeat("x", 200), "svc-0123456789",
		"0123456789", "日本", "\xff"} {
		f.Add(service, "svc", uint32(7))
	}
	schemes := map[Names]*regexp.Regexp{
		ProtocolNames: regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-job[0-9]+$`),
		CloudRunNames: regexp.MustCompile(`^[a-z][a-z0-9-]*-job[0-9]+$`),
	}
	f.Fuzz(func(t *testing.T, a, b string, job uint32) {
		if a == "" || b == "" {
			t.Skip("providers refuse an empty name")
		}
		for scheme, fit := range schemes {
			for _, n := range []uint32{job, math.MaxUint32} {
				id := scheme.Of(a, n)
				if len(id) > scheme.Max || !fit.MatchString(id) {
					t.Errorf("%q, job %d: %q is no function id", a, n, id)
				}
				if got, ok := scheme.Job(a, id); !ok || got != n {
					t.Errorf("%q: the job of %q is %d (%v)", a, id, got, ok)
				}
				if a != b && id == scheme.Of(b, n) {
					t.Errorf("services %q and %q share %q", a, b, id)
				}
			}
			// A service named like another service's prefix must get a prefix of its own.
			if prefix := scheme.Prefix(a); prefix != a && scheme.Prefix(prefix) == prefix {
				t.Errorf("services %q and %q share the prefix %q", a, prefix, prefix)
			}
		}
	})
}
