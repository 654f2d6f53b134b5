// Package all links every provider of this module: a program imports it for that effect alone.
//
//	import _ "github.com/tangle-network/blueprint-serverless/faas/all"
//
// Build tags leave out what such a program does not need. With the tag faas_only, only the clouds whose own tags are given too are compiled and
// linked: faas_aws, faas_gcp and faas_azure. The provider for custom platforms needs no SDK and is always there. So
//
//	go build -tags faas_only,faas_aws
//
// makes a program for AWS Lambda and custom platforms. A library should not import this package: the choice is the program's.
package all

import (
	_ "github.com/tangle-network/blueprint-serverless/faas/aws"    // aws-lambda
	_ "github.com/tangle-network/blueprint-serverless/faas/azure"  // azure-functions
	_ "github.com/tangle-network/blueprint-serverless/faas/custom" // custom
	_ "github.com/tangle-network/blueprint-serverless/faas/gcp"    // gcp-functions
)
