package runner

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// dryRun says what the runner would do, reading all that it would read and sending nothing. The
// error says why it could not run.
func (s settings) dryRun(ctx context.Context, w io.Writer, o *options) error {
	say := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	functions, closeFunctions, err := faas.OpenRegistry(ctx, s.delegated, nil)
	if err != nil {
		return fmt.Errorf("the functions of %s: %w", faas.RunnerConfigEnv, err)
	}
	if err := closeFunctions(); err != nil {
		return err
	}
	if s.registration && s.captureOnly {
		say("would write", "the registration inputs to %s", s.output)
		return nil
	}
	operator := chain.Address(s.Signer.Address())
	say("operator", "%s", operator)
	c, err := chain.Open(ctx, s.chainConfig(o))
	if err != nil {
		return err
	}
	defer c.Close()
	say("contract", "%s on chain %d", c.Contract(), c.ID())
	for _, n := range c.Nodes() {
		say("node", "%s: %s", n.Node, nodeWords(n))
	}
	registered, err := c.IsOperatorRegistered(ctx, s.BlueprintID, operator)
	if err != nil {
		return err
	}
	say("blueprint", "%d, for which the operator is %s", s.BlueprintID, either(registered, "registered", "not registered"))
	balance, err := c.Balance(ctx, operator)
	if err != nil {
		return err
	}
	say("balance", "%s wei", balance)
	if rewards, err := c.PendingRewards(ctx, operator); err == nil {
		say("rewards", "%s wei pending", rewards)
	}
	if s.registration || !registered {
		say("would", "register the operator and end")
		return nil
	}
	service, err := c.Service(ctx, s.ServiceID)
	if err != nil {
		return err
	}
	member, err := c.IsServiceOperator(ctx, s.ServiceID, operator)
	if err != nil {
		return err
	}
	paused, err := c.Paused(ctx)
	if err != nil {
		return err
	}
	status := [...]string{"pending", "active", "terminated"}
	say("service", "%d of blueprint %d, %s, of which the operator is %s", s.ServiceID, service.Blueprint,
		status[min(int(service.Status), len(status)-1)], either(member, "a member", "not a member"))
	if service.Blueprint != s.BlueprintID {
		return faas.Errorf(faas.ErrInvalidArgument, "run", "", "service %d is of blueprint %d, and %s is %d", s.ServiceID,
			service.Blueprint, blueprintEnv, s.BlueprintID)
	}
	if paused {
		say("contract", "paused: it would wait")
	}
	for _, id := range functions.Jobs() {
		f := s.delegated[id]
		say("job", "%d runs in %s on %s", id, f.FunctionID, f.Provider)
	}
	for _, id := range slices.Sorted(maps.Keys(o.handlers)) {
		if _, ok := functions.Lookup(id); !ok {
			say("job", "%d runs here", id)
		}
	}
	return nil
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func nodeWords(n chain.NodeStatus) string {
	words := fmt.Sprintf("block %d", n.Head)
	if n.Problem != "" {
		words = strings.Join([]string{words, n.Problem}, ", ")
	}
	return words
}
