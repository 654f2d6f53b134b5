//go:build (!faas_only || faas_gcp) && unix

package gcp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// The document's gcloud commands would change a real project, so they are not run. They must enable
// exactly the APIs that a deployment uses, and grant exactly the roles for the permissions that it
// asks for.
func TestTheCommandsOfTheDocument(t *testing.T) {
	const section = "Before the first deployment"
	apis, roles := map[string]bool{}, map[string]bool{}
	gcloud := func(_ context.Context, c doctest.Call) error {
		words := c.Args[1:]
		switch {
		case len(words) > 2 && slices.Equal(words[:2], []string{"services", "enable"}):
			for _, api := range words[2:] {
				apis[api] = true
			}
		case len(words) == 5 && slices.Equal(words[:3], []string{"projects", "add-iam-policy-binding", "my-project"}) &&
			words[3] == "--member=MEMBER":
			role, ok := strings.CutPrefix(words[4], "--role=")
			if !ok {
				return fmt.Errorf("%q is no role", words[4])
			}
			roles[role] = true
		default:
			return fmt.Errorf("gcloud %q is not a command that this test knows", words)
		}
		return nil
	}
	shell := &doctest.Shell{Dir: t.TempDir(), Home: t.TempDir(), Commands: map[string]doctest.Command{"gcloud": gcloud}}
	shell.Section(t, doctest.Read(t, "docs/google-cloud.md"), section)

	e, err := New(t.Context(), faas.Config{Provider: faas.GCPFunctions, Service: "guide", ProjectID: "my-project"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	wantAPIs, permissions := e.needs()
	wantRoles := map[string]bool{}
	for _, permission := range append(permissions, "logging.logEntries.list") { // the latter for Logs
		wantRoles[roleFor(permission)] = true
	}
	slices.Sort(wantAPIs)
	if diff := cmp.Diff(wantAPIs, slices.Sorted(maps.Keys(apis))); diff != "" {
		t.Errorf("APIs (-used +in the document):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(wantRoles)), slices.Sorted(maps.Keys(roles))); diff != "" {
		t.Errorf("roles (-needed +in the document):\n%s", diff)
	}
}
