//go:build (!faas_only || faas_azure) && linux

package azure

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// The commands of the operator's guide run against the stand-in. Only on Linux can an environment
// variable make its certificate trusted.
func TestTheOperatorGuide(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Polls: 1})
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, server.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SSL_CERT_FILE": certificate, "SSL_CERT_DIR": t.TempDir()}
	maps.Copy(env, server.Environment())
	shell := doctest.OperatorShell(t, "faas_only,faas_azure", testBinary(t).Path, env)
	shell.Replace = map[string]string{"00000000-0000-0000-0000-000000000000": azuretest.Subscription}
	shell.Section(t, doctest.Read(t, "docs/operator.md"), "Azure Functions")
}
