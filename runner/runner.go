package runner

import "context"

// Config says what a runner runs for. [ConfigFromEnv] reads it from the environment that the
// ecosystem's manager gives.
type Config struct {
	// RPC is the URL of a node, or several separated by commas, in order of preference: http or https.
	RPC string
	// Contract is the address of the Tangle contract. Empty means the published one of the chain.
	Contract string
	// ChainID is refused to differ; 0 means the chain of the first node.
	ChainID                uint64
	ServiceID, BlueprintID uint64
	// DataDir holds the journal. Only one runner with the same key may use it for a service.
	DataDir string
	Signer  Signer
	// StatusRegistry is the address of the OperatorStatusRegistry. Empty or zero means the one that
	// the contract names.
	StatusRegistry string
}

// Runner runs one service's jobs for one operator.
type Runner struct{}

// New checks the configuration and opens the journal; it asks no node.
func New(cfg Config, opts ...Option) (*Runner, error) { panic("unwritten") }

// Run runs until ctx ends, the service ends or the operator has left it.
func (r *Runner) Run(ctx context.Context) error { panic("unwritten") }

// Status is a snapshot.
func (r *Runner) Status() Status { panic("unwritten") }

// Close closes the journal.
func (r *Runner) Close() error { panic("unwritten") }
