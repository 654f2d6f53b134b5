package serverless

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// chainDefinition is what the chain says of a blueprint.
type chainDefinition struct {
	// Metadata is complete but for what is read from the two strings below and from the profiles file: the jobs' profiles and Execution.
	Metadata      Metadata
	ProfilingData string
	Description   string
}

// fetchChain reads the definition of a blueprint from the contract at o.contract, through the nodes o.rpc. Both may be empty, not at the same
// time.
func fetchChain(ctx context.Context, blueprintID uint64, o *fetchOptions) (*chainDefinition, error) {
	return nil, faas.Errorf(faas.ErrUnsupported, fetchOp, "",
		"blueprint %d: a contract or a node is configured, but this version cannot read the chain; WithMock gives made-up metadata", blueprintID)
}
