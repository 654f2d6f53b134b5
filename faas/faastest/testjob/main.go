// Command testjob is the job binary that providers are tested with. Its jobs are those of
// faastest.JobBinary.
package main

import (
	"context"
	"os"

	"github.com/tangle-network/blueprint-serverless/faas/faastest/internal/testjobs"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func main() {
	host := testjobs.Host{Getenv: os.Getenv, Exit: os.Exit, Executable: os.Executable, Stderr: os.Stderr}
	jobs := job.Handlers{}
	for id := range testjobs.N {
		jobs[id] = func(ctx context.Context, args []byte) ([]byte, error) { return host.Run(ctx, id, args) }
	}
	job.Main(jobs)
}
