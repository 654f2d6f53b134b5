//go:build !faas_only || faas_azure

package azure

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func init() {
	faas.Register(faas.AzureFunctions, faas.ProviderInfo{Open: open})
}

func open(context.Context, faas.Config) (faas.Executor, error) {
	return nil, faas.Errorf(faas.ErrUnsupported, "open", faas.AzureFunctions,
		"this version cannot deploy to Azure Functions yet: choose the provider %q, or run the jobs without serverless", faas.Custom)
}
