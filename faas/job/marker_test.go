package job_test

import (
	"os"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// TestAProgramThatLinksThePackageIsToldApart inspects the test binary. Only the package puts the
// marker there: no test spells it.
func TestAProgramThatLinksThePackageIsToldApart(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := faas.InspectBinary(exe)
	if err != nil {
		t.Fatal(err)
	}
	if binary.Protocols != faas.SpeaksAll || !binary.Compact {
		t.Errorf("it speaks %q, and the compact form: %t; want %q and true", binary.Protocols, binary.Compact, faas.SpeaksAll)
	}
}
