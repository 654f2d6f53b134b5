// Command blueprint is a whole blueprint, for tests.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// The jobs.
const (
	upper = iota
	fails
	counts // how often it was called: a state in this process
	prints // to standard output, which may be the host's, and adds what the host asked this process for
)

func main() {
	var calls atomic.Int64
	handlers := job.Handlers{
		upper:  func(_ context.Context, args []byte) ([]byte, error) { return bytes.ToUpper(args), nil },
		fails:  func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no luck") },
		counts: func(context.Context, []byte) ([]byte, error) { return fmt.Append(nil, calls.Add(1)), nil },
		prints: func(_ context.Context, args []byte) ([]byte, error) {
			fmt.Println("printed")
			return append(args, os.Getenv("BLUEPRINT_JOB_PROTOCOL")...), nil
		},
	}
	var opts []runner.Option
	if inputs, ok := os.LookupEnv("TEST_INPUTS"); ok {
		opts = append(opts, runner.WithRegistration(func(context.Context) ([]byte, error) { return []byte(inputs), nil }))
	}
	if os.Getenv("TEST_HEARTBEATS") != "" {
		opts = append(opts, runner.WithHeartbeats(nil))
	}
	runner.Main(handlers, opts...)
}
