//go:build !faas_only || faas_gcp

package gcp

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// WithFastLogs makes following a log ask again at once.
func WithFastLogs() Option {
	return func(e *Executor) {
		e.set.logPace = logs.Pace{First: time.Millisecond, Longest: 20 * time.Millisecond}
	}
}
