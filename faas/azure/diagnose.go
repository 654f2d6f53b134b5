//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// Versions of the APIs that only a diagnosis calls.
const (
	subscriptionsAPI = "2022-12-01"
	providersAPI     = "2021-04-01"
)

// Diagnose checks the token, the clock, the subscription, the resource providers, what the caller
// may do, whether the region offers Flex Consumption, the resource group and the storage account.
// All of its calls only read. It registers no resource provider.
func (e *Executor) Diagnose(ctx context.Context) []faas.Check {
	d := &diagnosis{e: e}
	first := check.Run(ctx, check.Time, check.Check{Name: "credentials", Run: d.credentials})
	first = append(first, check.Run(ctx, check.Time, check.Check{Name: "clock", Run: d.clock},
		check.Check{Name: "subscription", Run: d.subscription})...)
	later := []check.Check{
		{Name: "providers", Run: d.providers}, {Name: "permissions", Run: d.permissions}, {Name: "region", Run: d.region},
		{Name: "group", Run: d.group}, {Name: "storage", Run: d.storage},
	}
	if d.err != nil {
		return append(first, check.SkipAll("the subscription could not be read", later...)...)
	}
	return append(first, check.Run(ctx, check.Time, later...)...)
}

var setSubscription = check.SetField("provider.subscription_id", "SUBSCRIPTION")

// diagnosis is one Diagnose.
type diagnosis struct {
	e *Executor

	err        error // of reading the subscription
	state      string
	name       string
	header     http.Header
	sent, came time.Time
}

// read calls Resource Manager through the pipeline that registers no resource provider.
func (d *diagnosis) read(ctx context.Context, method, path, version string, body, out any) (http.Header, error) {
	resp, err := d.e.request(ctx, d.e.scm, method, path, version, body)
	if err == nil {
		return resp.Header, runtime.UnmarshalAsJSON(resp, out)
	}
	// A refusal tells the time as well, and so does that of a token.
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && refused.RawResponse != nil {
		return refused.RawResponse.Header, err
	}
	var denied *azidentity.AuthenticationFailedError
	if errors.As(err, &denied) && denied.RawResponse != nil {
		return denied.RawResponse.Header, err
	}
	return nil, err
}

func (d *diagnosis) subscriptionPath() string {
	return "/subscriptions/" + url.PathEscape(d.e.subscription)
}

func (d *diagnosis) failed(ctx context.Context, err error) *faas.Error {
	return d.e.fail(ctx, "diagnose", faas.NoJob, err)
}

func (d *diagnosis) credentials(ctx context.Context) faas.Check {
	e := d.e
	var answer struct {
		Name  string `json:"displayName"`
		State string `json:"state"`
	}
	d.sent = time.Now()
	d.header, d.err = d.read(ctx, http.MethodGet, d.subscriptionPath(), subscriptionsAPI, nil, &answer)
	d.came, d.state, d.name = time.Now(), answer.State, answer.Name
	var token *tokenError
	switch failed := faas.CodeOf(d.err); {
	case d.err == nil:
		return check.OK("there is a token, and Resource Manager takes it")
	case errors.As(d.err, &token):
		return check.FailBy(d.failed(ctx, d.err),
			"az login\nexport AZURE_TENANT_ID=TENANT AZURE_CLIENT_ID=ID AZURE_CLIENT_SECRET=SECRET")
	case statusOf(d.err) == http.StatusUnauthorized:
		return check.FailBy(d.failed(ctx, d.err), "az login --tenant TENANT, with the tenant of the subscription")
	case statusOf(d.err) != 0:
		return check.OK("there is a token, and Resource Manager takes it")
	case failed == faas.ErrTimeout || ctx.Err() != nil:
		return check.FailBy(d.failed(ctx, d.err), "try again, with more time")
	}
	return check.FailBy(d.failed(ctx, d.err), "let this machine's network, firewall and proxy (HTTPS_PROXY) reach "+
		hostOf(e.arm.Endpoint())+":443")
}

func (d *diagnosis) clock(context.Context) faas.Check {
	if d.header == nil {
		return check.Skip("Azure was not reached")
	}
	return check.Clock(faas.AzureFunctions, "Azure", d.header, d.sent, d.came)
}

func (d *diagnosis) subscription(ctx context.Context) faas.Check {
	id := d.e.subscription
	switch status := statusOf(d.err); {
	case status == 0 && d.err != nil, status == http.StatusUnauthorized:
		return check.Skip("no token is accepted")
	case status == http.StatusForbidden:
		return check.FailBy(d.failed(ctx, d.err), d.assign("Contributor"))
	case d.err != nil:
		return check.FailBy(d.failed(ctx, d.err),
			"az account list --output table\n"+setSubscription)
	}
	switch d.state {
	case "Enabled", "":
		return check.OK("%s is enabled: %q", id, sanitize.Line(d.name, 100))
	case "Warned", "PastDue":
		return check.Warn(nil, "settle what is due at "+
			"https://portal.azure.com/#view/Microsoft_Azure_GTM/ModernBillingMenuBlade",
			"subscription %s is in the state %s, and about to be disabled", id, d.state)
	}
	err := faas.Errorf(faas.ErrInvalidArgument, "diagnose", faas.AzureFunctions,
		"subscription %s is not enabled: its state is %q", id, sanitize.Line(d.state, 40))
	return check.FailBy(err, "az account subscription enable --subscription-id "+id+
		"\n"+setSubscription)
}

// assign returns the command that gives the caller a role.
func (d *diagnosis) assign(role string) string {
	return `az role assignment create --assignee ASSIGNEE --role "` + role + `" --scope ` + d.subscriptionPath()
}

// unknown returns the check for something that could not be read.
func (d *diagnosis) unknown(ctx context.Context, err error, permission string) faas.Check {
	failed := d.failed(ctx, err)
	switch {
	case failed.Code == faas.ErrTimeout:
		return check.FailBy(failed, "try again, with more time")
	case failed.Code == faas.ErrPermissionDenied:
		return check.Warn(failed, d.assign("Reader"),
			"it could not be checked, which needs the permission %s; deploying does not", permission)
	}
	return check.Warn(failed, "try again", "it could not be checked: %s", check.Words(failed))
}

// providers checks whether the resource providers are registered. A deployment registers them
// itself if the caller may.
func (d *diagnosis) providers(ctx context.Context) faas.Check {
	var missing, remedies []string
	for _, name := range []string{"Microsoft.Web", "Microsoft.Storage"} {
		var p struct {
			State string `json:"registrationState"`
		}
		if _, err := d.read(ctx, http.MethodGet, d.subscriptionPath()+"/providers/"+name, providersAPI, nil, &p); err != nil {
			return d.unknown(ctx, err, "Microsoft.Resources/subscriptions/providers/read")
		}
		if !strings.EqualFold(p.State, "Registered") {
			missing = append(missing, name+" ("+sanitize.Line(p.State, 40)+")")
			remedies = append(remedies, "az provider register --namespace "+name+" --subscription "+d.e.subscription+" --wait")
		}
	}
	if len(missing) > 0 {
		return check.Warn(nil, strings.Join(remedies, "\n"),
			"not registered: %s; the first deployment registers them where the caller may, and takes some minutes longer",
			strings.Join(missing, ", "))
	}
	return check.OK("Microsoft.Web and Microsoft.Storage are registered")
}

// region checks whether the region offers Flex Consumption.
func (d *diagnosis) region(ctx context.Context) faas.Check {
	var regions list[struct {
		Name string `json:"name"`
	}]
	_, err := d.read(ctx, http.MethodGet, d.subscriptionPath()+"/providers/Microsoft.Web/geoRegions?sku=FlexConsumption",
		webAPI, nil, &regions)
	if err != nil {
		return d.unknown(ctx, err, "Microsoft.Web/geoRegions/read")
	}
	for _, r := range regions.Value {
		if normalRegion(r.Name) == d.e.region {
			return check.OK("%s offers Flex Consumption", d.e.region)
		}
	}
	if len(regions.Value) == 0 || regions.NextLink != "" {
		return check.Skip("Azure does not tell where Flex Consumption is on offer")
	}
	failed := faas.Errorf(faas.ErrInvalidArgument, "diagnose", faas.AzureFunctions,
		"region %s does not offer Flex Consumption", d.e.region)
	return check.FailBy(failed, "az functionapp list-flexconsumption-locations --output table\n"+
		check.SetOption("location", "REGION"))
}

func (d *diagnosis) group(ctx context.Context) faas.Check {
	e := d.e
	var g group
	_, err := d.read(ctx, http.MethodGet, e.ownGroupPath(), groupsAPI, nil, &g)
	switch {
	case isNotFound(err):
		return check.OK("resource group %s is made by the first deployment", e.names.group)
	case err != nil:
		return d.unknown(ctx, err, "Microsoft.Resources/subscriptions/resourceGroups/read")
	case g.Properties != nil && strings.EqualFold(g.Properties.ProvisioningState, "Deleting"):
		return check.Warn(nil, "az group wait --deleted --name "+e.names.group,
			"resource group %s is being deleted, which a deployment waits for", e.names.group)
	}
	if err := e.checkOwned("resource group "+e.names.group, g.Tags, e.options.resourceGroup != ""); err != nil {
		return check.FailBy(d.failed(ctx, err), check.SetOption("resource_group", "GROUP"))
	}
	return check.OK("resource group %s is there", e.names.group)
}

// storage checks whether the storage account exists, or else whether its name is free.
func (d *diagnosis) storage(ctx context.Context) faas.Check {
	e := d.e
	var a account
	_, err := d.read(ctx, http.MethodGet, e.accountPath(), storageAPI, nil, &a)
	switch {
	case err == nil:
		if err := e.checkOwned("storage account "+e.names.account, a.Tags, e.options.storageAccount != ""); err != nil {
			return check.FailBy(d.failed(ctx, err), check.SetOption("storage_account", "ACCOUNT"))
		}
		return check.OK("storage account %s is there", e.names.account)
	case !isNotFound(err):
		return d.unknown(ctx, err, "Microsoft.Storage/storageAccounts/read")
	}
	var free struct {
		Available bool   `json:"nameAvailable"`
		Message   string `json:"message"`
	}
	_, err = d.read(ctx, http.MethodPost, d.subscriptionPath()+"/providers/Microsoft.Storage/checkNameAvailability",
		storageAPI,
		map[string]string{"name": e.names.account, "type": "Microsoft.Storage/storageAccounts"}, &free)
	if err != nil {
		return d.unknown(ctx, err, "Microsoft.Storage/checknameavailability/read")
	}
	if !free.Available {
		failed := faas.Errorf(faas.ErrAlreadyExists, "diagnose", faas.AzureFunctions,
			"the name of storage account %s is taken elsewhere in Azure, or not allowed: %s", e.names.account,
			sanitize.Line(free.Message, 200))
		return check.FailBy(failed, check.SetOption("storage_account", "ACCOUNT"))
	}
	return check.OK("storage account %s is made by the first deployment, and its name is free", e.names.account)
}
