package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// agreedPlan returns the plan of a deployment that removes functions, once the operator has agreed to that. It is nil
// if nothing is removed, or if that is the deployment's own to refuse.
func (a *app) agreedPlan(
	ctx context.Context, spec serverless.ServiceSpec, policy *serverless.Policy, runs bool, opts []serverless.DeployOption,
) (*serverless.Plan, error) {
	if !slices.ContainsFunc(a.known(spec.Name), func(info serverless.ServiceInfo) bool { return len(info.Units) > 0 }) {
		return nil, nil // what is not there is not removed
	}
	progress := a.progress("")
	plan, err := serverless.NewPlan(ctx, spec, append(opts, serverless.WithEvents(progress.event))...)
	progress.end()
	if err != nil && runs && policy.Serverless.FallbackToVM && ctx.Err() == nil {
		return nil, nil // Deploy falls back, which removes nothing
	}
	if err != nil {
		return nil, err
	}
	var removals []string
	for _, c := range plan.Changes {
		if c.Action == serverless.ActionRemove {
			removals = append(removals, c.Unit)
		}
	}
	if len(removals) == 0 || plan.Strategy.Kind == serverless.StrategyTraditional && !runs {
		return nil, nil
	}
	what := fmt.Sprintf("%s of %s: %s", plural(len(removals), "function"), spec.Name, strings.Join(removals, ", "))
	for _, line := range whyBeside(plan, policy) {
		a.remark("%s", printable(line))
	}
	if a.confirm(ctx, "this removes "+what+"\ngo on? [y/N] ") {
		return plan, nil
	}
	return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", "",
		"it would remove %s; nothing was changed: add --prune if they are to go, or see \"tangle-cloud plan\" for why", what)
}

// confirm asks a question on a terminal. Without one the answer is no.
func (a *app) confirm(ctx context.Context, question string) bool {
	in, ok := a.in.(*os.File)
	if !ok || a.log.width == nil || a.json || !term.IsTerminal(int(in.Fd())) {
		return false
	}
	a.log.printf("%s", printable(question))
	answer := make(chan string, 1)
	go func() { // reading from a terminal cannot be interrupted: after Ctrl-C it ends with the program
		line, _ := bufio.NewReader(in).ReadString('\n') // what was read before an error counts
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		return line == "y" || line == "yes"
	case <-ctx.Done():
		return false
	}
}
