// Package all links every provider of this module into the program that imports it.
//
//	import _ "github.com/tangle-network/blueprint-serverless/faas/all"
//
// Build tags leave out what the program does not need. With the tag faas_only, only the clouds
// whose own tags are set are compiled and linked: faas_aws, faas_gcp and faas_azure. The provider
// for custom platforms needs no SDK and is always included. So
//
//	go build -tags faas_only,faas_aws
//
// makes a program for AWS Lambda and custom platforms. A library should not import this package,
// since the program chooses its providers.
package all

import (
	_ "github.com/tangle-network/blueprint-serverless/faas/aws"    // aws-lambda
	_ "github.com/tangle-network/blueprint-serverless/faas/azure"  // azure-functions
	_ "github.com/tangle-network/blueprint-serverless/faas/custom" // custom
	_ "github.com/tangle-network/blueprint-serverless/faas/gcp"    // gcp-functions
)
