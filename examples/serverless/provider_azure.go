//go:build faas_azure

package main

import _ "github.com/tangle-network/blueprint-serverless/faas/azure"
