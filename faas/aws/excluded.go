//go:build faas_only && !faas_aws

package aws

import "github.com/tangle-network/blueprint-serverless/faas"

func init() {
	faas.Register(faas.AWSLambda, faas.ProviderInfo{ExcludedBy: "faas_aws"})
}
