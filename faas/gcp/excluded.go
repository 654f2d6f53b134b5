//go:build faas_only && !faas_gcp

package gcp

import "github.com/tangle-network/blueprint-serverless/faas"

func init() {
	faas.Register(faas.GCPFunctions, faas.ProviderInfo{ExcludedBy: "faas_gcp"})
}
