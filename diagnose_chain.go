package serverless

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

const (
	oldHead    = 10 * time.Minute // a latest block that is older means that the node is behind, or its chain stands still
	futureHead = time.Minute      // how far a clock may be behind a block; validators' own clocks differ by seconds
)

// chain checks the node, the contract and the blueprint.
func (d *diagnosis) chain(ctx context.Context) []faas.Check {
	var head *tangle.Head
	node := check.Run(ctx, check.Time, check.Check{Name: "chain", Run: func(ctx context.Context) (c faas.Check) {
		head, c = d.readHead(ctx)
		return c
	}})
	probes := []check.Check{
		{Name: "head", Run: func(context.Context) faas.Check { return headCheck(head, time.Now()) }},
		{Name: "contract", Run: func(context.Context) faas.Check { return contractCheck(head) }},
		{Name: "blueprint", Run: func(ctx context.Context) faas.Check { return d.checkBlueprint(ctx, head) }},
	}
	if head == nil {
		return append(node, check.SkipAll("no node was reached", probes...)...)
	}
	return append(node, check.Run(ctx, check.Time, probes...)...)
}

func (d *diagnosis) readHead(ctx context.Context) (*tangle.Head, faas.Check) {
	var err error
	if d.fetch.contract, err = contractAddress(d.fetch.contract); err != nil {
		return nil, check.FailBy(err, "export "+ContractEnv+"=0xADDRESS")
	}
	if d.fetch.mock {
		return nil, check.Skip("mock metadata is asked for")
	}
	if d.fetch.contract == "" && len(d.fetch.rpc) == 0 {
		const what = "no node and no contract is configured, so only a profiles file tells the jobs"
		if d.spec.BlueprintID != nil {
			return nil, check.Warn(nil, "name a node\nexport "+ContractEnv+"=0xADDRESS", "%s", what)
		}
		return nil, check.Skip("%s", what)
	}
	cfg, err := d.fetch.chain()
	if err == nil {
		var head *tangle.Head
		if head, err = tangle.ReadHead(ctx, cfg); err == nil {
			name := head.Network
			if name == "" {
				name = "a chain"
			}
			return head, check.OK("%s, chain id %d, at %s", name, head.ChainID, head.Node)
		}
		err = d.fetch.chainFailed(err)
	}
	remedy := "name a node that answers"
	switch {
	case faas.CodeOf(err) == faas.ErrPermissionDenied:
		remedy = "name the node by its URL with its key"
	case faas.CodeOf(err) == faas.ErrThrottled:
		remedy = "wait, or name a node that allows more calls"
	case errors.Is(err, tangle.ErrConfig):
		remedy = "name a node of the intended chain"
	}
	return nil, check.FailBy(err, remedy)
}

func headCheck(head *tangle.Head, now time.Time) faas.Check {
	age := now.Sub(head.Time)
	what := fmt.Sprintf("block %d of %s", head.Block, head.Time.UTC().Format(time.RFC3339))
	switch {
	case age > oldHead:
		return check.Warn(nil, "wait until the node has caught up, or name another one",
			"%s is %v old: the node is behind, or its chain stands still", what, age.Round(time.Second))
	case age < -futureHead:
		return check.Warn(nil, check.SetClock(), "%s is %v in the future: this machine's clock is behind", what,
			(-age).Round(time.Second))
	}
	return check.OK("%s", what)
}

func contractCheck(head *tangle.Head) faas.Check {
	switch {
	case head.Contract.IsZero():
		err := faas.Errorf(faas.ErrInvalidArgument, diagnoseOp, "", "no contract is named, and none is known on chain %d",
			head.ChainID)
		return check.FailBy(err, "export "+ContractEnv+"=0xADDRESS")
	case !head.Code:
		err := faas.Errorf(faas.ErrNotFound, diagnoseOp, "", "no contract at %s on chain %d", head.Contract,
			head.ChainID)
		return check.FailBy(err, "name the contract of this chain: export "+ContractEnv+
			"=0xADDRESS\nname a node of the contract's chain")
	}
	return check.OK("%s has code", head.Contract)
}

func (d *diagnosis) checkBlueprint(ctx context.Context, head *tangle.Head) faas.Check {
	switch {
	case d.spec.BlueprintID == nil:
		return check.Skip("no blueprint is named")
	case !head.Code:
		return check.Skip("the contract was not found")
	}
	opts := append([]FetchOption{}, d.spec.Fetch...)
	meta, err := FetchMetadata(ctx, *d.spec.BlueprintID, append(opts, WithEventSearch(0))...)
	if err != nil {
		remedy := "name a blueprint of this chain"
		if !errors.Is(err, ErrBlueprintNotFound) {
			remedy = "name another node or contract"
		}
		return check.FailBy(err, remedy)
	}
	what := fmt.Sprintf("blueprint %d %q, jobs: %d", meta.BlueprintID, meta.Name, len(meta.Jobs))
	if meta.OnChain != nil && meta.OnChain.Active != nil && !*meta.OnChain.Active {
		return check.Warn(nil, "ask the blueprint's owner to activate it", "%s: it is not active", what)
	}
	if len(meta.Jobs) == 0 {
		return check.Warn(nil, "name another blueprint", "%s: there is nothing to deploy", what)
	}
	return check.OK("%s", what)
}
