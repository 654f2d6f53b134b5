package kit

import (
	"strings"
	"testing"
)

func TestAServiceThatNoTagTakesIsNamedByItsHash(t *testing.T) {
	plain := func(name string) bool { return !strings.Contains(name, "!") }
	for service, kept := range map[string]bool{"svc": true, "12345678": true, "123456789": false, " svc": false,
		"svc\n": false, "a!": false} {
		got := ServiceTag(service, 8, plain)
		if kept != (got == service) || !kept && (!strings.HasPrefix(got, "sha256:") || len(got) != len("sha256:")+64) {
			t.Errorf("%q is %q", service, got)
		}
	}
	if ServiceTag("a!", 8, plain) == ServiceTag("b!", 8, plain) {
		t.Error("two services have one tag")
	}
}
