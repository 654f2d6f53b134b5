package job_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// A whole job binary: job 0 turns text into upper case, job 1 counts its bytes.
func ExampleMain() {
	job.Main(job.Handlers{
		0: func(_ context.Context, args []byte) ([]byte, error) {
			return bytes.ToUpper(args), nil
		},
		1: func(_ context.Context, args []byte) ([]byte, error) {
			if len(args) == 0 {
				return nil, errors.New("there is nothing to count")
			}
			return fmt.Append(nil, len(args)), nil
		},
	})
}

// A blueprint binary can also be a job binary.
func ExampleRequested() {
	handlers := job.Handlers{0: func(_ context.Context, args []byte) ([]byte, error) { return args, nil }}
	if job.Requested() {
		job.Main(handlers)
	}
	fmt.Println("running the service")
	// Output: running the service
}

// Jobs can be tried without a process around them.
func ExampleRun() {
	handlers := job.Handlers{0: func(_ context.Context, args []byte) ([]byte, error) {
		return bytes.ToUpper(args), nil
	}}
	stdin := bytes.NewReader(faas.AppendRequest(nil, 0, []byte("hello")))
	var stdout strings.Builder
	noVariables := func(string) (string, bool) { return "", false }
	err := job.Run(context.Background(), handlers, job.WithEnv(noVariables), job.WithStreams(stdin, &stdout, os.Stderr))
	if err != nil {
		fmt.Println(err)
		return
	}
	var response faas.Response
	if err := faas.ParseResponse([]byte(stdout.String()), &response); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(response.Success, string(response.Result))
	// Output: true HELLO
}
