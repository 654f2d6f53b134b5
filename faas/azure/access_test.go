//go:build !faas_only || faas_azure

package azure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

// lifeOf plays the life of a service, and calls part with the name of each part that has ended.
func lifeOf(t *testing.T, server *azuretest.Server, o opening, part func(name string)) {
	t.Helper()
	e := openAt(t, server, "access", o)
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	part("deploy")
	if _, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value")), &prior,
		nil); err != nil {
		t.Fatal(err)
	}
	part("update")
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	part("put back")
	server.Stop(first.ID)
	converge(t, e, first)
	part("start again")
	if _, err := e.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Observe(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	part("status")
	fresh := openAt(t, server, "access", o)
	sees(t, fresh, "the-first-value")
	if _, err := fresh.Health(t.Context(), faastest.JobEcho); err != nil {
		t.Fatal(err)
	}
	part("invoke")
	for _, err := range fresh.Logs(t.Context(), faas.LogQuery{JobIDs: someJobs}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	part("logs")
	for range 2 { // the second time there is no app to ask for its identity
		if err := e.Remove(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
	}
	part("undeploy")
}

// TestTheGuideNamesEveryPermission compares the guide's table, and the permissions that the doctor
// checks, with those that the requests of a service's life needed.
func TestTheGuideNamesEveryPermission(t *testing.T) {
	server := serve(t, azuretest.Config{Unregistered: []string{"Microsoft.Storage", "Microsoft.Web"}})
	taken := map[string][]string{}
	lifeOf(t, server, opening{options: reporting(server)}, func(name string) {
		for _, permission := range server.Permissions() {
			taken[permission] = append(taken[permission], name)
		}
	})
	needed := slices.Collect(maps.Keys(taken))

	named := reporting(server)
	named["resource_group"], named["storage_account"] = "their-group", "theiraccount"
	server.Add("their-group", accountType, "theiraccount", map[string]any{"theirs": "yes"})
	lifeOf(t, server, opening{options: named}, func(name string) {
		for _, permission := range server.Permissions() {
			if taken[permission] == nil {
				taken[permission] = []string{name + " with storage_account"}
			}
		}
	})
	forgetful := openAt(t, server, "access", opening{wrap: withoutSettings})
	converge(t, forgetful, unitOf(t, forgetful, wanted(someJobs...)))
	for _, permission := range server.Permissions() {
		if taken[permission] == nil {
			taken[permission], needed = []string{"deploy"}, append(needed, permission)
		}
	}
	openAt(t, server, "another", opening{}).Diagnose(t.Context())
	for _, permission := range server.Permissions() {
		taken[permission] = append(taken[permission], "doctor")
	}

	guide := doctest.Read(t, "docs/azure.md").Text
	for _, permission := range slices.Sorted(maps.Keys(taken)) {
		if row := fmt.Sprintf("| `%s` | %s |", permission, strings.Join(taken[permission], ", ")); !strings.Contains(
			guide, row) {
			t.Errorf("docs/azure.md lacks the row\n%s", row)
		}
	}
	if rows := strings.Count(guide, "\n| `Microsoft."); rows != len(taken) {
		t.Errorf("docs/azure.md has %d rows with permissions, want %d", rows, len(taken))
	}
	looked := slices.Concat(actions, []string{assignAction, keysAction})
	needed = slices.DeleteFunc(needed, func(permission string) bool {
		// The doctor checks itself whether resource providers are registered, and there is another way to
		// read blobs.
		return strings.HasSuffix(permission, "/register/action") || strings.HasSuffix(permission, "/blobs/read") ||
			strings.HasSuffix(permission, "/providers/read")
	})
	slices.Sort(looked)
	slices.Sort(needed)
	if diff := cmp.Diff(needed, looked); diff != "" {
		t.Errorf("what the doctor looks for (-taken +looked for):\n%s", diff)
	}
}

// withoutSettings returns a transport that removes the settings from the creation of an app, as if
// Azure did not accept them.
func withoutSettings(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/sites/") &&
			!strings.Contains(r.URL.Path, "/config/") {
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				return nil, err
			}
			body["properties"].(map[string]any)["siteConfig"] = map[string]any{}
			text, err := json.Marshal(body)
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		}
		return base.RoundTrip(r)
	})
}

func TestWhoHasNoMoreThanTheGuidesPermissionsCanDoItAll(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		but     string
		options map[string]string
	}{
		"by identity": {keysAction, map[string]string{"storage_auth": "identity"}}, "by key": {assignAction, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allowed := slices.DeleteFunc(slices.Concat(actions, []string{assignAction, keysAction}),
				func(action string) bool { return action == test.but })
			if test.but == keysAction {
				allowed = append(allowed, "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read")
			}
			server := serve(t, azuretest.Config{Allowed: allowed, DataReader: true})
			options := reporting(server)
			maps.Copy(options, test.options)
			lifeOf(t, server, opening{options: options}, func(string) {})
		})
	}
}
