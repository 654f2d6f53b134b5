//go:build !faas_only || faas_azure

package azure

import (
	"maps"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// design is what an app should be: the unit and the options in Azure's terms.
type design struct {
	location string
	planID   string
	scale    scale
	storage  deploymentStorage
	settings faas.Env
}

// newDesign returns the design of a unit's app. connection is the storage account's connection
// string, or empty for access by the app's own identity.
func (e *Executor) newDesign(u faas.Unit, b *base, connection string) design {
	d := design{location: e.region, planID: b.plan.ID, scale: e.newScale(u.Functions), settings: faas.Env{}}
	if d.planID == "" {
		d.planID = e.planPath()
	}
	d.storage.Type, d.storage.Value = "blobContainer", b.container
	for _, f := range u.Functions {
		maps.Copy(d.settings, f.Env)
	}
	if e.options.insights.Reveal() != "" {
		d.settings[insightsSetting] = e.options.insights
	}
	if connection != "" {
		d.storage.Authentication.Type, d.storage.Authentication.ConnectionSetting = "StorageAccountConnectionString",
			connectionSetting
		d.settings[hostStorage], d.settings[connectionSetting] = faas.NewSecret(connection), faas.NewSecret(connection)
		return d
	}
	d.storage.Authentication.Type = "SystemAssignedIdentity"
	ends := b.account.Properties.PrimaryEndpoints
	d.settings[hostStorage+"__credential"] = faas.NewSecret("managedidentity")
	d.settings[hostStorage+"__blobServiceUri"] = faas.NewSecret(ends.Blob)
	for name, url := range map[string]string{"__queueServiceUri": ends.Queue, "__tableServiceUri": ends.Table} {
		if url != "" {
			d.settings[hostStorage+name] = faas.NewSecret(url)
		}
	}
	return d
}

const (
	hostStorage       = "AzureWebJobsStorage"
	connectionSetting = "DEPLOYMENT_STORAGE_CONNECTION_STRING"
)

// newScale combines the needs of the functions, because all HTTP functions of an app share its
// instances.
func (e *Executor) newScale(functions []faas.Function) scale {
	s := scale{InstanceMemoryMB: e.options.instanceMemory, AlwaysReady: []alwaysReady{}}
	ready, calls := e.options.alwaysReady, uint32(0)
	for _, f := range functions {
		s.InstanceMemoryMB = max(s.InstanceMemoryMB, f.MemoryMB)
		ready = max(ready, f.KeepWarm)
		calls = max(calls, f.MaxConcurrency)
	}
	perInstance := max(e.options.concurrency, 1)
	switch {
	case e.options.maxInstances > 0:
		s.MaximumInstanceCount = e.options.maxInstances
	case calls > 0:
		s.MaximumInstanceCount = min(max(calls/perInstance+min(calls%perInstance, 1), leastMaxInstances), mostMaxInstances)
	default:
		s.MaximumInstanceCount = defaultInstances
	}
	if ready > 0 {
		s.AlwaysReady = []alwaysReady{{Name: "http", InstanceCount: ready}}
		s.MaximumInstanceCount = max(s.MaximumInstanceCount, ready)
	}
	if e.options.concurrency > 0 {
		s.Triggers = &triggers{}
		s.Triggers.HTTP.PerInstance = e.options.concurrency
	}
	return s
}

// body returns the body of the request that makes the app.
func (d design) body(tags map[string]string) site {
	s := site{
		resource: resource{Location: d.location, Kind: "functionapp,linux", Tags: tags},
		Identity: &identity{Type: "SystemAssigned"},
		Properties: siteProperties{
			ServerFarmID: d.planID, Reserved: true, HTTPSOnly: true, AppConfig: &appConfig{Scale: d.scale},
			SiteConfig: &siteConfig{},
		},
	}
	s.Properties.AppConfig.Deployment.Storage = d.storage
	s.Properties.AppConfig.Runtime.Name, s.Properties.AppConfig.Runtime.Version = "custom", "1.0"
	for _, name := range slices.Sorted(maps.Keys(d.settings)) {
		s.Properties.SiteConfig.AppSettings = append(
			s.Properties.SiteConfig.AppSettings, nameValue{name, d.settings[name].Reveal()})
	}
	return s
}
