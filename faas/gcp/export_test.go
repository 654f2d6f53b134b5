//go:build !faas_only || faas_gcp

package gcp

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/logseq"
)

// WithFastLogs has a log that is followed asked for at once.
func WithFastLogs() Option {
	return func(e *Executor) {
		e.set.logPace = logseq.Pace{First: time.Millisecond, Longest: 20 * time.Millisecond}
	}
}
