//go:build faas_aws

package main

import _ "github.com/tangle-network/blueprint-serverless/faas/aws"
