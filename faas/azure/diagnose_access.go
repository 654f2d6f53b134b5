//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"net/http"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// actions lists what deploying, updating, invoking, inspecting and removing an app needs, besides
// one of the two below.
var actions = []string{
	"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Resources/subscriptions/resourceGroups/write",
	"Microsoft.Resources/subscriptions/resourceGroups/delete",
	"Microsoft.Resources/subscriptions/resourceGroups/resources/read",
	"Microsoft.Web/serverfarms/read", "Microsoft.Web/serverfarms/write", "Microsoft.Web/serverfarms/delete",
	"Microsoft.Web/sites/read", "Microsoft.Web/sites/write", "Microsoft.Web/sites/delete",
	"Microsoft.Web/sites/config/list/action", "Microsoft.Web/sites/config/write", "Microsoft.Web/sites/functions/read",
	"Microsoft.Web/sites/host/listkeys/action", "Microsoft.Web/sites/publish/action", "Microsoft.Web/sites/start/action",
	"Microsoft.Web/sites/syncfunctiontriggers/action",
	"Microsoft.Storage/storageAccounts/read", "Microsoft.Storage/storageAccounts/write",
	"Microsoft.Storage/storageAccounts/delete",
	"Microsoft.Storage/storageAccounts/blobServices/containers/read",
	"Microsoft.Storage/storageAccounts/blobServices/containers/write",
}

// How the app can be given access to its storage.
const (
	assignAction = "Microsoft.Authorization/roleAssignments/write"
	keysAction   = "Microsoft.Storage/storageAccounts/listKeys/action"
)

// grant is what one role gives the caller.
type grant struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// permissions compares what the caller may do with what a deployment needs: in the resource group
// if it exists, else in the subscription.
func (d *diagnosis) permissions(ctx context.Context) faas.Check {
	e := d.e
	const below = "/providers/Microsoft.Authorization/permissions"
	var grants list[grant]
	_, err := d.read(ctx, http.MethodGet, e.ownGroupPath()+below, rolesAPI, nil, &grants)
	if isNotFound(err) {
		_, err = d.read(ctx, http.MethodGet, d.subscriptionPath()+below, rolesAPI, nil, &grants)
	}
	switch {
	case isNotFound(err):
		return check.Skip("Azure does not tell what the caller may do")
	case err != nil:
		return d.unknown(ctx, err, "Microsoft.Authorization/permissions/read")
	case grants.NextLink != "":
		return check.Skip("the caller has too many roles to look at them all")
	}
	var missing []string
	for _, action := range actions {
		if !allowed(grants.Value, action) {
			missing = append(missing, action)
		}
	}
	remedy := d.assign("Contributor")
	assigns, keys := allowed(grants.Value, assignAction), allowed(grants.Value, keysAction)
	switch e.options.storageAuth {
	case authIdentity:
		if !assigns {
			if len(missing) == 0 {
				remedy = ""
			}
			missing, remedy = append(missing, assignAction), strings.TrimSpace(remedy+"\n"+d.assign("User Access Administrator"))
		}
	default:
		if !keys && (!assigns || e.options.storageAuth == authKey) {
			missing = append(missing, keysAction)
		}
	}
	switch {
	case len(missing) > 0:
		return check.FailBy(faas.Errorf(faas.ErrPermissionDenied, "diagnose", faas.AzureFunctions, "missing: %s",
			strings.Join(missing, ", ")), remedy)
	case !keys && e.options.storageAuth == authAuto:
		return check.OK("all that a deployment takes are held; without %s, or the role Storage Blob Data Reader, an "+
			"update of code that fails cannot be put back", keysAction)
	case !assigns && e.options.storageAuth == authAuto:
		return check.OK("all that a deployment takes are held; without %s the app gets a connection string in place of "+
			"an identity", assignAction)
	}
	return check.OK("all that a deployment takes are held")
}

// allowed reports whether any role allows the action. What one role excludes, another may give.
func allowed(grants []grant, action string) bool {
	matches := func(patterns []string) bool {
		for _, p := range patterns {
			if wildcard(strings.ToLower(p), strings.ToLower(action)) {
				return true
			}
		}
		return false
	}
	for _, g := range grants {
		if matches(g.Actions) && !matches(g.NotActions) {
			return true
		}
	}
	return false
}

// wildcard matches a text with a pattern in which * stands for anything, slashes included.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[last])
}
