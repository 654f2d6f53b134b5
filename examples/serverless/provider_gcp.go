//go:build faas_gcp

package main

import _ "github.com/tangle-network/blueprint-serverless/faas/gcp"
