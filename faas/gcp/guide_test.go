//go:build (!faas_only || faas_gcp) && unix

package gcp_test

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// TestTheOperatorGuide runs the commands of the operator's guide against the fake. Only
// the project differs.
func TestTheOperatorGuide(t *testing.T) {
	runsHere(t)
	s := gcptest.Start(t, builder)
	env := map[string]string{"CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true"}
	for _, api := range []string{"ARTIFACTREGISTRY", "CLOUDBUILD", "CLOUDFUNCTIONS", "CLOUDRESOURCEMANAGER",
		"IAMCREDENTIALS", "LOGGING", "RUN", "SERVICEUSAGE", "STORAGE"} {
		env["CLOUDSDK_API_ENDPOINT_OVERRIDES_"+api] = s.URL + "/"
	}
	shell := doctest.OperatorShell(t, "faas_only,faas_gcp", jobBinary(t).Path, env)
	shell.Section(t, doctest.Read(t, "docs/operator.md"), "Google Cloud Functions")
}
