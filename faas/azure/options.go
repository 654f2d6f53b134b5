//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// resolve fills in where a service is. It changes cfg.Options.
func resolve(cfg faas.Config) faas.Config { return resolveCloud(resolveRegion(cfg)) }

// resolveRegion fills in the region, by Azure's name for it.
func resolveRegion(cfg faas.Config) faas.Config {
	cfg.SubscriptionID = strings.TrimSpace(cfg.SubscriptionID)
	cfg.Region = cmp.Or(normalRegion(cfg.Region), normalRegion(os.Getenv(RegionEnv)), DefaultRegion)
	return cfg
}

// resolveCloud writes the cloud in one way. It removes the name of the public cloud.
func resolveCloud(cfg faas.Config) faas.Config {
	for _, name := range []string{authorityOption, managerOption} {
		value := strings.TrimRight(strings.TrimSpace(cfg.Options[name]), "/")
		if value == "" || hostOf(value) == hostOf(cloud.AzurePublic.ActiveDirectoryAuthorityHost) {
			delete(cfg.Options, name)
		} else {
			cfg.Options[name] = value
		}
	}
	return cfg
}

// options are the provider's own settings, read from faas.Config.Options.
type options struct {
	resourceGroup  string
	storageAccount string
	appName        string
	instanceMemory uint32 // least memory of an instance, in MiB; 0: what the functions want
	maxInstances   uint32 // 0: derived
	alwaysReady    uint32
	concurrency    uint32 // 0: Azure's choice
	storageAuth    string
	insights       faas.Secret
	// insightsEndpoint is the endpoint of Application Insights, or empty for that of the cloud.
	insightsEndpoint string
	readyTimeout     time.Duration
	authorityHost    string
	managerEndpoint  string
	managerAudience  string
}

// How the app reaches its storage.
const (
	authAuto     = "auto"
	authIdentity = "identity"
	authKey      = "connection-string"
)

// The options that name the cloud.
const (
	authorityOption = "authority_host"
	managerOption   = "resource_manager_endpoint"
)

// Limits of the plan.
const (
	leastMaxInstances  = 40
	mostMaxInstances   = 1000
	defaultInstances   = 100
	mostPerInstance    = 1000
	mostAlwaysReady    = 1000
	maxPlanTimeoutSecs = 230
	maxPlanMemoryMB    = 4096
)

// declare lists the options and where in o each goes.
func declare(o *options) kit.Options {
	https := func(to *string, name string, more faas.Option) kit.Declared {
		more.Name, more.Type = name, faas.OptionURL
		more.Shape = "a URL that begins with https:// and holds no user name: tokens are sent there"
		more.Valid = func(text string) bool {
			return strings.HasPrefix(text, "https://") && !strings.Contains(text, "?")
		}
		return kit.Into(to, more)
	}
	return kit.Options{
		kit.Into(&o.resourceGroup, faas.Option{
			Name: "resource_group", Place: true, Valid: groupPattern.MatchString,
			Shape: "the name of a resource group",
			Help:  "resource group to use, which is created if it does not exist; without it the service has its own",
		}),
		kit.Into(&o.storageAccount, faas.Option{
			Name: "storage_account", Valid: accountPattern.MatchString,
			Shape: "the name of a storage account: 3 to 24 lower-case letters and digits",
			Help: "storage account in the resource group to use, which is created if it does not exist; " +
				"without it the service has its own",
		}),
		kit.Into(&o.appName, faas.Option{
			Name: "app_name", Place: true, Valid: appPattern.MatchString,
			Shape: "2 to 60 letters, digits and hyphens",
			Help: "name of the function app, which is globally unique; without it one is made of subscription, " +
				"region and service",
		}),
		kit.Into(&o.instanceMemory, faas.Option{
			Name: "instance_memory_mb", Min: 512, Max: maxPlanMemoryMB, Valid: isMemory,
			Shape: "512, 2048 or 4096",
			Help:  "least memory of an instance in MiB: 512, 2048 or 4096; without it what the largest function wants",
		}),
		kit.Into(&o.maxInstances, faas.Option{
			Name: "max_instances", Min: leastMaxInstances, Max: mostMaxInstances,
			Help: "most instances at the same time; without it 100, or what max_concurrency needs",
		}),
		kit.Into(&o.alwaysReady, faas.Option{
			Name: "always_ready", Default: "0", Max: mostAlwaysReady,
			Help: "least instances kept ready, which cost money while they wait",
		}),
		kit.Into(&o.concurrency, faas.Option{
			Name: "concurrency", Min: 1, Max: mostPerInstance,
			Help: "invocations that one instance serves at the same time; without it what Azure chooses for the " +
				"instance size",
		}),
		kit.Into(&o.storageAuth, faas.Option{
			Name: "storage_auth", Default: authAuto, Choices: []string{authAuto, authIdentity, authKey},
			Help: "how the app reaches its storage: identity (its managed identity; the caller must be allowed " +
				"to assign roles), connection-string, or auto (identity if the role can be assigned)",
		}),
		kit.Into(&o.insights, faas.Option{
			Name: "application_insights",
			Help: "connection string of Application Insights that the app reports to",
		}),
		https(&o.insightsEndpoint, "application_insights_endpoint", faas.Option{
			Help: "URL at which Application Insights is asked for what the app printed, of a sovereign cloud or " +
				"of an emulator; without it that of the cloud",
		}),
		kit.Into(&o.readyTimeout, faas.Option{
			Name: "ready_timeout_secs", Default: "600", Min: 1, Max: 3600,
			Help: "how long a deployed function may take until it answers",
		}),
		https(&o.authorityHost, authorityOption, faas.Option{Env: authorityEnv, Place: true,
			Help: "URL that tokens are had from, of a sovereign cloud or of an emulator; without it that of the " +
				"public cloud",
		}),
		https(&o.managerEndpoint, managerOption, faas.Option{Env: ResourceManagerEnv, Place: true,
			Help: "URL of the Resource Manager of a sovereign cloud or of an emulator; without it " +
				"that of the cloud of authority_host",
		}),
		kit.Into(&o.managerAudience, faas.Option{
			Name: "resource_manager_audience",
			Help: "audience of the tokens for that Resource Manager; without it that of the cloud",
		}),
	}
}

func isMemory(text string) bool {
	sizes, _ := faas.ProviderMemorySizes(faas.AzureFunctions)
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && sizes.RoundUp(uint32(n)) == uint32(n)
}

var (
	regionPattern  = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	groupPattern   = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)
	accountPattern = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	appPattern     = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`)
	pathPattern    = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
)

// digest identifies the options that configure an app, so that a change of them is noticed.
func (o options) digest() string {
	text, err := json.Marshal([]any{o.storageAccount, o.instanceMemory, o.maxInstances, o.alwaysReady, o.concurrency,
		o.storageAuth, o.insights.Reveal()})
	if err != nil {
		panic("faas/azure: the options do not marshal: " + err.Error()) // strings and numbers always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

func subscriptionOf(cfg faas.Config) (string, error) {
	id := strings.TrimSpace(cfg.SubscriptionID)
	switch {
	case id == "":
		return "", invalid("the subscription is missing: set subscription_id to the id of the Azure subscription")
	case !pathPattern.MatchString(id):
		return "", invalid("subscription_id %q is not the id of an Azure subscription, such as "+
			"00000000-0000-0000-0000-000000000000", id)
	}
	return id, nil
}

// regionOf returns the region by Azure's name for it, such as "eastus".
func regionOf(cfg faas.Config) (string, error) {
	region := cfg.Region // which resolveRegion has filled in
	if !regionPattern.MatchString(region) {
		return "", invalid("region %q is not the name of an Azure region, such as %q", region, DefaultRegion)
	}
	return region, nil
}

// normalRegion turns "East US", which Azure shows to people, into "eastus".
func normalRegion(region string) string { return strings.ToLower(strings.ReplaceAll(region, " ", "")) }
