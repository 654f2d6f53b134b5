//go:build !faas_only || faas_aws

package aws_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/aws"
)

// An executor invokes the jobs of a service that was deployed before. To deploy one, use
// serverless.Deploy or serverless.DeployServerless.
func ExampleNew() {
	ctx := context.Background()
	lambda, err := aws.New(ctx, faas.Config{Service: "prices", Region: "eu-central-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lambda.Close()

	result, err := lambda.Invoke(ctx, 0, []byte("ETH"))
	var failed *faas.Error
	switch {
	case errors.As(err, &failed) && failed.NotRun:
		fmt.Println("the job did not run, and can be tried again:", err)
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Printf("%s, billed %s, cold start %t\n", result.Output, result.Metrics.Billed, result.Metrics.ColdStart)
	}
}
