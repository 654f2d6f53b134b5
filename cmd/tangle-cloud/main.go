// Command tangle-cloud is an operator's command line for blueprints on serverless platforms. It
// sets the policy, measures and analyzes jobs, plans, deploys, watches, invokes and removes
// services, and serves the embedded platform.
//
//	go run ./cmd/tangle-cloud --help
//
// It links every provider. Build it with -tags faas_only,faas_aws for one cloud alone.
package main

import (
	"github.com/tangle-network/blueprint-serverless/cli"
	_ "github.com/tangle-network/blueprint-serverless/faas/all"
)

func main() { cli.Main() }
