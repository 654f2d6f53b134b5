//go:build !faas_only || faas_gcp

package gcp

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func init() {
	faas.Register(faas.GCPFunctions, faas.ProviderInfo{Open: open})
}

func open(context.Context, faas.Config) (faas.Executor, error) {
	return nil, faas.Errorf(faas.ErrUnsupported, "open", faas.GCPFunctions,
		"this version cannot deploy to Google Cloud Functions yet: choose the provider %q, or run the jobs without serverless", faas.Custom)
}
