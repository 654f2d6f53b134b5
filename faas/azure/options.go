//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// resolve fills in where a service is. It changes cfg.Options.
func resolve(cfg faas.Config) faas.Config { return resolveCloud(resolveRegion(cfg)) }

// resolveRegion fills in the region, by Azure's name for it.
func resolveRegion(cfg faas.Config) faas.Config {
	cfg.SubscriptionID = strings.TrimSpace(cfg.SubscriptionID)
	cfg.Region = cmp.Or(normalRegion(cfg.Region), normalRegion(cfg.Options["location"]), normalRegion(os.Getenv(RegionEnv)), DefaultRegion)
	delete(cfg.Options, "location") // the region says it now, or has said something else before
	return cfg
}

// resolveCloud fills in the cloud, if the environment names one.
func resolveCloud(cfg faas.Config) faas.Config {
	for name, variable := range map[string]string{"authority_host": authorityEnv, "resource_manager_endpoint": ResourceManagerEnv} {
		value := strings.TrimRight(cmp.Or(strings.TrimSpace(cfg.Options[name]), os.Getenv(variable)), "/")
		switch {
		case value == "" || hostOf(value) == hostOf(cloud.AzurePublic.ActiveDirectoryAuthorityHost):
			delete(cfg.Options, name) // the public cloud, however that is said
		case cfg.Options == nil:
			cfg.Options = map[string]string{name: value}
		default:
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
	// insightsEndpoint is where Application Insights is asked; empty for where it is in the cloud.
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

// Limits of the plan.
const (
	leastMaxInstances  = 40
	mostMaxInstances   = 1000
	defaultInstances   = 100
	defaultReadyWait   = 10 * time.Minute
	mostReadyWait      = time.Hour
	mostPerInstance    = 1000
	mostAlwaysReady    = 1000
	maxPlanTimeoutSecs = 230
	maxPlanMemoryMB    = 4096
)

// optionTable describes the options. It is the one place where names and defaults are written down for people.
func optionTable() []faas.Option {
	return []faas.Option{
		{Name: "location", Place: true, Help: "region, where the configuration names none", Default: "$" + RegionEnv + ", else " + DefaultRegion},
		{Name: "resource_group", Place: true, Help: "resource group to use; it is created where it does not exist", Default: "one of the service's own"},
		{Name: "storage_account", Help: "storage account in the resource group to use; it is created where it does not exist", Default: "one of the service's own"},
		{Name: "app_name", Place: true, Help: "name of the function app, which is globally unique", Default: "derived from subscription, region and service"},
		{Name: "instance_memory_mb", Help: "least memory of an instance in MiB: 512, 2048 or 4096", Default: "the largest that a function wants"},
		{Name: "max_instances", Help: "most instances at the same time, 40 to 1000", Default: "100, or what max_concurrency needs"},
		{Name: "always_ready", Help: "least instances kept ready, 0 to 1000, which cost money while they wait", Default: "0"},
		{Name: "concurrency", Help: "invocations at the same time on one instance, 1 to 1000", Default: "what Azure chooses for the instance size"},
		{Name: "storage_auth", Help: "how the app reaches its storage: identity (its managed identity; the caller must be allowed to assign roles), connection-string, or auto (identity where the role can be assigned)", Default: authAuto},
		{Name: "application_insights", Help: "connection string of Application Insights that the app reports to", Sensitive: true},
		{Name: "application_insights_endpoint", Help: "URL at which Application Insights is asked for what the app printed, of a sovereign cloud or of an emulator", Default: "that of the cloud of authority_host"},
		{Name: "ready_timeout_secs", Help: "how long a deployed app may take until it answers, 1 to 3600", Default: strconv.Itoa(int(defaultReadyWait / time.Second))},
		{Name: "authority_host", Place: true, Help: "URL that tokens are had from, of a sovereign cloud or of an emulator", Default: "$" + authorityEnv + ", else that of the public cloud"},
		{Name: "resource_manager_endpoint", Place: true, Help: "URL of the Resource Manager of a sovereign cloud or of an emulator", Default: "$" + ResourceManagerEnv + ", else that of the cloud of authority_host"},
		{Name: "resource_manager_audience", Help: "audience of the tokens for that Resource Manager", Default: publicAudience},
	}
}

var (
	regionPattern  = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	groupPattern   = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)
	accountPattern = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	appPattern     = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`)
	pathPattern    = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
)

func parseOptions(values map[string]string) (options, error) {
	p := optionParser{values: values}
	o := options{
		resourceGroup:    p.matching("resource_group", groupPattern, "the name of a resource group"),
		storageAccount:   p.matching("storage_account", accountPattern, "the name of a storage account: 3 to 24 lower-case letters and digits"),
		appName:          p.matching("app_name", appPattern, "2 to 60 letters, digits and hyphens"),
		instanceMemory:   p.number("instance_memory_mb", 512, maxPlanMemoryMB),
		maxInstances:     p.number("max_instances", leastMaxInstances, mostMaxInstances),
		alwaysReady:      p.number("always_ready", 0, mostAlwaysReady),
		concurrency:      p.number("concurrency", 1, mostPerInstance),
		storageAuth:      cmp.Or(p.text("storage_auth"), authAuto),
		insights:         faas.NewSecret(p.text("application_insights")),
		insightsEndpoint: p.httpsURL("application_insights_endpoint"),
		readyTimeout:     time.Duration(p.number("ready_timeout_secs", 1, uint32(mostReadyWait/time.Second))) * time.Second,
		authorityHost:    p.httpsURL("authority_host"),
		managerEndpoint:  p.text("resource_manager_endpoint"),
		managerAudience:  p.text("resource_manager_audience"),
	}
	sizes, _ := faas.ProviderMemorySizes(faas.AzureFunctions)
	if o.instanceMemory != 0 && sizes.RoundUp(o.instanceMemory) != o.instanceMemory {
		p.fail("instance_memory_mb", "512, 2048 or 4096")
	}
	switch o.storageAuth {
	case authAuto, authIdentity, authKey:
	default:
		p.fail("storage_auth", authAuto+", "+authIdentity+" or "+authKey)
	}
	if o.readyTimeout == 0 {
		o.readyTimeout = defaultReadyWait
	}
	return o, p.err
}

// digest identifies the options that an app is configured with, so that a change of them is seen.
func (o options) digest() string {
	text, err := json.Marshal([]any{o.storageAccount, o.instanceMemory, o.maxInstances, o.alwaysReady, o.concurrency, o.storageAuth, o.insights.Reveal()})
	if err != nil {
		panic("faas/azure: the options do not marshal: " + err.Error()) // strings and numbers always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// optionParser reads options and keeps the first error.
type optionParser struct {
	values map[string]string
	err    error
}

func (p *optionParser) fail(name, want string) {
	if p.err == nil {
		p.err = invalid("option %q is %q; it must be %s", name, p.values[name], want)
	}
}

func (p *optionParser) text(name string) string { return strings.TrimSpace(p.values[name]) }

func (p *optionParser) matching(name string, pattern *regexp.Regexp, want string) string {
	v := p.text(name)
	if v != "" && !pattern.MatchString(v) {
		p.fail(name, want)
	}
	return v
}

func (p *optionParser) httpsURL(name string) string {
	v := p.text(name)
	if u, err := url.Parse(v); v != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "") {
		p.fail(name, "a URL that begins with https:// and holds no user name: tokens are sent there")
	}
	return v
}

// number returns 0 where the option is not set.
func (p *optionParser) number(name string, least, most uint32) uint32 {
	v := p.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n < uint64(least) || n > uint64(most) {
		p.fail(name, fmt.Sprintf("a number from %d to %d", least, most))
	}
	return uint32(n)
}

func subscriptionOf(cfg faas.Config) (string, error) {
	id := strings.TrimSpace(cfg.SubscriptionID)
	switch {
	case id == "":
		return "", invalid("the subscription is missing: set subscription_id to the id of the Azure subscription to deploy to")
	case !pathPattern.MatchString(id):
		return "", invalid("subscription_id %q is not the id of an Azure subscription, such as 00000000-0000-0000-0000-000000000000", id)
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

// normalRegion makes "eastus" of "East US", which Azure shows to people.
func normalRegion(region string) string { return strings.ToLower(strings.ReplaceAll(region, " ", "")) }
