package runner

import (
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// Main makes a program a blueprint. See the package documentation for what it becomes where.
func Main(h job.Handlers, opts ...Option) { job.Main(h) }
