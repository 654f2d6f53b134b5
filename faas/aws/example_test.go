//go:build !faas_only || faas_aws

package aws_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/aws"
	"github.com/tangle-network/blueprint-serverless/faas/aws/lambdatest"
)

// An executor invokes the jobs of a service that was deployed before. Deploying itself is what serverless.Deploy and serverless.DeployServerless are for.
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

// The fake needs no account. What it runs for a function is the package's own bootstrap, or the handler given here.
func Example_withoutAnAccount() {
	server := lambdatest.New(lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
		return lambdatest.Answer{Payload: []byte(`{"result":[52,50],"success":true}`)}
	}})
	defer server.Close()
	restore := setenv(server.Environment())
	defer restore()

	ctx := context.Background()
	lambda, err := aws.New(ctx, faas.Config{Service: "answers"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lambda.Close()
	_, err = lambda.Invoke(ctx, 0, nil)
	fmt.Println(errors.Is(err, faas.ErrNotFound))
	// Output: true
}

// setenv sets environment variables and returns what puts them back.
func setenv(values map[string]string) func() {
	var undo []func()
	for name, value := range values {
		before, had := os.LookupEnv(name)
		undo = append(undo, func() {
			if had {
				os.Setenv(name, before)
			} else {
				os.Unsetenv(name)
			}
		})
		os.Setenv(name, value)
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
