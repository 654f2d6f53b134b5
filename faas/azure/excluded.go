//go:build faas_only && !faas_azure

package azure

import "github.com/tangle-network/blueprint-serverless/faas"

func init() {
	faas.Register(faas.AzureFunctions, faas.ProviderInfo{ExcludedBy: "faas_azure"})
}
