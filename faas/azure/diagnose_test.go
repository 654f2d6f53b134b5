//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
)

func TestDiagnoseTellsWhatIsWrongWithASubscription(t *testing.T) {
	const (
		ok      = faas.CheckOK
		warning = faas.CheckWarning
		failed  = faas.CheckFailed
		skipped = faas.CheckSkipped
	)
	type finding struct {
		status         faas.CheckStatus
		detail, remedy string
	}
	names := []string{"credentials", "clock", "subscription", "providers", "permissions", "region", "group", "storage"}
	fault := func(suffix string, status int, code string) func(*http.Request) *azuretest.Fault {
		return func(r *http.Request) *azuretest.Fault {
			if strings.HasSuffix(strings.ToLower(r.URL.Path), suffix) {
				return &azuretest.Fault{Status: status, Code: code, Message: "it is refused"}
			}
			return nil
		}
	}
	can := func(actions ...string) map[string]any {
		return map[string]any{"/providers/microsoft.authorization/permissions": map[string]any{
			"value": []any{map[string]any{"actions": actions, "notActions": []string{}}}}}
	}
	unread := func(f finding) map[string]finding {
		all := map[string]finding{"subscription": f}
		for _, name := range names[3:] {
			all[name] = finding{skipped, "could not be read", ""}
		}
		return all
	}
	derived := deriveNames("svc", azuretest.Subscription, "westeurope", options{})
	for _, tt := range []struct {
		name    string
		cfg     azuretest.Config
		options map[string]string
		wrap    func(http.RoundTripper) http.RoundTripper
		want    map[string]finding
	}{
		{"a healthy subscription", azuretest.Config{}, nil, nil, map[string]finding{
			"credentials": {ok, "takes it", ""}, "clock": {ok, "Azure", ""}, "subscription": {ok, "is enabled", ""},
			"providers": {ok, "are registered", ""}, "permissions": {ok, "are held", ""},
			"region": {ok, "westeurope offers Flex Consumption", ""}, "group": {ok, "is made", ""},
			"storage": {ok, "its name is free", ""}}},
		{"a subscription that is not there", azuretest.Config{
			Fault: fault("/subscriptions/"+azuretest.Subscription, 404, "SubscriptionNotFound")}, nil, nil,
			unread(finding{failed, "SubscriptionNotFound", "az account list"})},
		{"a subscription that may not be read", azuretest.Config{
			Fault: fault("/subscriptions/"+azuretest.Subscription, 403, "AuthorizationFailed")}, nil, nil,
			unread(finding{failed, "AuthorizationFailed", "az role assignment create"})},
		{"a subscription that is disabled", azuretest.Config{Looks: map[string]any{"": map[string]any{"state": "Disabled"}}},
			nil, nil, map[string]finding{"subscription": {failed, "Disabled", "az account subscription enable"}}},
		{"a subscription that is past due", azuretest.Config{Looks: map[string]any{"": map[string]any{"state": "PastDue"}}},
			nil, nil, map[string]finding{"subscription": {warning, "PastDue", "settle"}}},
		{"a resource provider that is not registered",
			azuretest.Config{Looks: map[string]any{"/providers/microsoft.web": map[string]any{
				"registrationState": "NotRegistered"}}}, nil, nil, map[string]finding{
				"providers": {warning, "Microsoft.Web (NotRegistered)", "az provider register --namespace Microsoft.Web"}}},
		{"a reader", azuretest.Config{Looks: can("*/read")}, nil, nil,
			map[string]finding{"permissions": {failed, "Microsoft.Web/sites/write", `--role "Contributor"`}}},
		{"a contributor", azuretest.Config{NoRoles: true}, nil, nil,
			map[string]finding{"permissions": {ok, "a connection string in place of an identity", ""}}},
		{"a contributor who wants an identity", azuretest.Config{NoRoles: true},
			map[string]string{"storage_auth": "identity"}, nil, map[string]finding{
				"permissions": {failed, "missing: Microsoft.Authorization/roleAssignments/write",
					`--role "User Access Administrator"`}}},
		{"permissions may not be read", azuretest.Config{
			Fault: fault("/microsoft.authorization/permissions", 403, "AuthorizationFailed")}, nil, nil, map[string]finding{
			"permissions": {warning, "Microsoft.Authorization/permissions/read", `--role "Reader"`}}},
		{"a region without the plan", azuretest.Config{
			Looks: map[string]any{"/providers/microsoft.web/georegions": map[string]any{
				"value": []any{map[string]any{"name": "East US"}}}}}, nil, nil, map[string]finding{
			"region": {failed, "westeurope does not offer", "az functionapp list-flexconsumption-locations"}}},
		{"an account name that is taken", azuretest.Config{Taken: []string{derived.account}}, nil, nil,
			map[string]finding{"storage": {failed, "is taken", "storage_account to ACCOUNT"}}},
		{"a clock that is behind", azuretest.Config{}, nil,
			func(base http.RoundTripper) http.RoundTripper { return skewed{base, 2 * time.Minute} },
			map[string]finding{"clock": {warning, "behind", ""}}},
		{"a clock that is behind, and a refused token", azuretest.Config{}, nil,
			func(base http.RoundTripper) http.RoundTripper { return skewed{withoutSecret(base), 20 * time.Minute} },
			map[string]finding{
				"credentials": {failed, "AADSTS7000215", "az login"}, "clock": {failed, "behind", ""},
				"subscription": {skipped, "no token", ""}, "providers": {skipped, "", ""}, "permissions": {skipped, "", ""},
				"region": {skipped, "", ""}, "group": {skipped, "", ""}, "storage": {skipped, "", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, tt.cfg)
			var got []string
			for _, c := range openAt(t, server, "svc", opening{options: tt.options, wrap: tt.wrap}).Diagnose(t.Context()) {
				got = append(got, c.Name)
				f, named := tt.want[c.Name]
				if !named {
					if c.Status == failed || c.Status == warning {
						t.Errorf("%s is %s: %s", c.Name, c.Status, c.Detail)
					}
					continue
				}
				var e *faas.Error
				if c.Status != f.status || !strings.Contains(c.Detail, f.detail) || !strings.Contains(c.Remedy, f.remedy) ||
					c.Status == failed && !errors.As(c.Err, &e) {
					t.Errorf("%s is %q: %s\nremedy: %s\nwant %q with %q and the remedy %q", c.Name, c.Status, c.Detail, c.Remedy,
						f.status, f.detail, f.remedy)
				}
			}
			if diff := cmp.Diff(names, got); diff != "" {
				t.Error(diff)
			}
			if left := server.Left(); len(left) > 0 {
				t.Errorf("it made %v", left)
			}
		})
	}
}

// noToken is a credential without a token.
type noToken struct{}

func (noToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("DefaultAzureCredential: failed to acquire a token")
}

func TestMissingCredentialsAreTheOnlyFinding(t *testing.T) {
	e, err := New(t.Context(), faas.Config{Service: "svc", SubscriptionID: azuretest.Subscription},
		WithCredential(noToken{}))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i, c := range e.Diagnose(t.Context()) {
		if i == 0 && (c.Status != faas.CheckFailed || !strings.Contains(c.Remedy, "az login") ||
			!errors.Is(c.Err, faas.ErrPermissionDenied)) || i > 0 && c.Status != faas.CheckSkipped {
			t.Errorf("%+v", c)
		}
	}
}

// skewed changes the dates of answers.
type skewed struct {
	base http.RoundTripper
	by   time.Duration
}

func (s skewed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(r)
	if err == nil {
		resp.Header.Set("Date", time.Now().Add(s.by).UTC().Format(http.TimeFormat))
	}
	return resp, err
}

func TestWildcardsOfRolesMatchAsAzureHasThem(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "a/b/c", true}, {"a/*", "a/b/c", true}, {"*/read", "a/b/read", true}, {"*/read", "a/b/write", false},
		{"a/*/read", "a/b/c/read", true}, {"a/*/read", "a/read", false},
		{"a/b", "a/b", true}, {"a/b", "a/bc", false}, {"a*a", "a", false}, {"*b*", "abc", true},
	} {
		if got := wildcard(tt.pattern, tt.text); got != tt.want {
			t.Errorf("%q for %q: %v", tt.pattern, tt.text, got)
		}
	}
}
