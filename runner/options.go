package runner

import (
	"context"
	"log/slog"
	"math/big"
	"net/http"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// options are what the Options say, with the defaults filled in by New.
type options struct {
	handlers       job.Handlers
	functions      map[uint32]faas.Invoker // by job
	jobs           map[uint32]jobOptions
	concurrency    int           // of all jobs together; default 64
	queue          int           // inputs in memory, at most; default 1024
	timeout        time.Duration // of a job without one of its own; default 15 min
	confirmations  *uint64       // nil: by chain
	poll           time.Duration // 0: by chain
	maxFee, maxTip *big.Int
	minBalance     *big.Int // nil: 20 results at the current fee
	heartbeat      bool
	claim          *big.Int // rewards of this much are claimed; nil: never
	registration   func(context.Context) ([]byte, error)
	operatorURL    string
	maxLogRange    uint64            // blocks; 0: the default of package chain
	schemas        map[uint32]schema // of results, by job; from the contract
	http           *http.Client
	logger         *slog.Logger
	observers      []func(Event)
	healthAddr     string
	aggregator     Aggregator
}

// schema checks an output as the contract would.
type schema interface {
	Check(data []byte) error
}

type jobOptions struct {
	timeout     time.Duration
	concurrency int
	repeat      repeat
}

// repeat is a job's policy for an invocation of which nobody knows whether it ran.
type repeat uint8

const (
	repeatDefault repeat = iota // a handler in this process: yes, as it ended with the process; a function: no
	repeatAlways                // Repeatable
	repeatNever                 // Once
)

// Option changes how a runner works.
type Option func(*options)
