package runner

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
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
	_, closeFunctions, err := faas.OpenRegistry(ctx, s.delegated, nil)
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
	if s.registration {
		say("would", "register the operator and end")
		return nil
	}
	service, err := c.Service(ctx, s.ServiceID)
	if err != nil {
		return err
	}
	if service.CreatedAt != 0 && service.Blueprint != s.BlueprintID {
		say("service", "%d is of blueprint %d, and %s is %d", s.ServiceID, service.Blueprint, blueprintEnv, s.BlueprintID)
	} else if !registered {
		say("would", "register the operator and end")
		return nil
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
	if paused {
		say("contract", "paused: it would wait")
	}
	if err := s.sayJobs(ctx, c, o, say); err != nil {
		return err
	}
	return s.sayOpen(ctx, c, say)
}

// sayJobs tells where each job runs.
func (s settings) sayJobs(ctx context.Context, c *chain.Chain, o *options,
	say func(name, format string, args ...any)) error {
	ids := slices.AppendSeq(slices.Collect(maps.Keys(o.handlers)), maps.Keys(s.delegated))
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id uint32) bool { return id > math.MaxUint8 })
	jobs := make([]uint8, len(ids))
	for i, id := range ids {
		jobs[i] = uint8(id)
	}
	rules, err := c.JobRules(ctx, s.ServiceID, jobs)
	if err != nil {
		return err
	}
	for i, id := range ids {
		words := "here"
		if f, ok := s.delegated[id]; ok {
			words = fmt.Sprintf("in %s on %s", f.FunctionID, f.Provider)
		}
		if rules[i].Aggregated {
			words += ", and its results need the signatures of several operators" +
				either(o.aggregator != nil, "", ": it is not run, because there is no aggregator")
		}
		say("job", "%d runs %s", id, words)
	}
	return nil
}

// sayOpen tells which calls are open.
func (s settings) sayOpen(ctx context.Context, c *chain.Chain, say func(name, format string, args ...any)) error {
	w := &watcher{chain: c, service: s.ServiceID}
	head, err := c.Head(ctx)
	if err != nil {
		return err
	}
	n, err := w.callsUntil(ctx, head, 0)
	if err != nil {
		return err
	}
	const listed = 20
	open, words := 0, ""
	for from := uint64(0); from < n; from += callsAtOnce {
		calls, err := w.calls(ctx, from, min(from+callsAtOnce, n))
		if err != nil {
			return err
		}
		for _, call := range calls {
			if call.Completed {
				continue
			}
			switch open++; {
			case open <= listed:
				words += fmt.Sprintf(" %d", call.number)
			case open == listed+1:
				words += " ..."
			}
		}
	}
	if open > 0 {
		words = ":" + words
	}
	say("open", "%d of %d calls%s", open, n, words)
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
