package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

func (a *app) planCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "plan", Short: "Say what deploy would do, and change nothing",
		Example: `  tangle-cloud plan --service-id 123 --binary target/release/my-blueprint
  tangle-cloud plan --service-id 123 --calls-per-month 1000000                  # and what it would cost
  tangle-cloud plan --service-id 123 --output plan.json && tangle-cloud deploy --service-id 123 --plan plan.json`,
		Args: cobra.NoArgs,
	}
	d := bindDeploy(cmd)
	costs := bindCost(cmd.Flags())
	output := cmd.Flags().String("output", "", "`file` to write the plan to, for deploy --plan")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		policy, err := a.loadPolicy()
		if err != nil {
			return err
		}
		spec, err := a.spec(d)
		if err != nil {
			return err
		}
		prices, err := costs.loadPrices()
		if err != nil {
			return err
		}
		progress := a.progress("")
		opts := append(a.options(d, policy), serverless.WithEvents(progress.event))
		plan, err := serverless.NewPlan(cmd.Context(), spec, opts...)
		progress.end()
		if err != nil {
			return err
		}
		if *output != "" {
			text, err := json.MarshalIndent(plan, "", "  ")
			if err == nil {
				err = os.WriteFile(*output, append(text, '\n'), 0o600)
			}
			if err != nil {
				return faas.Errorf(faas.ErrInvalidArgument, "write plan", "", "--output: %w", err)
			}
			a.remark("written to %s", *output)
		}
		report := planned{Plan: plan}
		if calls := costs.in.CallsPerMonth; calls > 0 && plan.Strategy.Kind != serverless.StrategyTraditional {
			if report.Cost, err = cost.ForPlan(plan, calls, prices); err != nil {
				plan.Warnings = append(plan.Warnings, noEstimate(err))
			}
		}
		return a.answer(report, func(w io.Writer) {
			fmt.Fprint(w, printable(withFlags(plan.String())))
			if report.Cost != nil {
				fmt.Fprintln(w, monthly(report.Cost))
			}
			for _, line := range whyBeside(plan, policy) {
				fmt.Fprintln(w, printable(line))
			}
		})
	}
	return cmd
}

// planned is a plan and, if the number of calls is given, the monthly cost of its functions.
type planned struct {
	*serverless.Plan
	Cost *cost.Estimate `json:"cost,omitempty"`
}

func noEstimate(err error) string {
	return "the cost cannot be estimated: " + strings.TrimPrefix(err.Error(), "faas: ")
}

func (a *app) deployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "deploy", Short: "Deploy a service, all or nothing",
		Long: `Deploys the jobs that fit the policy's provider, all or nothing. If a function fails, or on Ctrl-C,
it removes what it created and puts back what it updated. An unchanged function costs a read or two.

It removes the functions of jobs that no longer belong on FaaS. On a terminal it asks first; without
one it needs --prune.

Functions need no process on this machine, but jobs that do not fit do. With --run the service's
runner and these jobs run on this machine until Ctrl-C, which leaves the functions deployed; what
they print is shown. Without --run these jobs are not available, and if no job is on FaaS there is
nothing to deploy.

With --keystore, that runner takes the jobs of the service from the chain and brings the results
back, if the binary is a blueprint. --rpc and --contract name the node and the contract for it too.`,
		Example: `  tangle-cloud deploy --service-id 123 --binary target/release/my-blueprint
  tangle-cloud deploy --service-id 123                                          # again, with the same binary
  tangle-cloud deploy --name my-service --binary ./my-blueprint --env API_KEY --run
  tangle-cloud service deploy --service-id 123 --plan plan.json                 # exactly what was planned
  tangle-cloud deploy --service-id 123 --keystore ./keystore --rpc http://127.0.0.1:8545 --run`,
		Args: cobra.NoArgs,
	}
	d := bindDeploy(cmd)
	costs := bindCost(cmd.Flags())
	cmd.Flags().BoolVar(&d.keepSucceeded, "keep-succeeded", false, "keep the functions that succeeded if others fail")
	planFile := cmd.Flags().String("plan", "", "`file` with a plan: do exactly that, or refuse")
	prune := cmd.Flags().Bool("prune", false, "remove the functions of jobs that no longer belong on FaaS without asking")
	yes := cmd.Flags().BoolP("yes", "y", false, "answer every question with yes")
	keepRunning := cmd.Flags().Bool("run", false, "keep the runner running on this machine until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		policy, err := a.loadPolicy()
		if err != nil {
			return err
		}
		spec, err := a.spec(d)
		if err != nil {
			return err
		}
		if costs.in.Prices, err = costs.loadPrices(); err != nil {
			return err
		}
		var plan *serverless.Plan
		if *planFile != "" {
			if plan, err = readPlan(*planFile); err != nil {
				return err
			}
		}
		opts := a.options(d, policy)
		switch {
		case !*keepRunning:
			opts = append(opts, serverless.WithoutRunner(), serverless.WithTraditional(nowhere))
		case !a.quiet: // the runner's output, and its restarts
			opts = append(opts, serverless.WithLogger(slog.New(slog.NewTextHandler(a.log, nil))))
		}
		if plan == nil && !*prune && !*yes {
			if plan, err = a.agreedPlan(ctx, spec, policy, *keepRunning, opts); err != nil {
				return err
			}
		}
		progress := a.progress("undoing what this deployment changed (Ctrl-C again stops at once; then " +
			"\"tangle-cloud recover\" mends it)")
		progress.undoes = true
		stop := progress.interruptedBy(ctx)
		opts = append(opts, serverless.WithEvents(progress.event))
		start := time.Now()
		var service *serverless.Service
		if plan != nil {
			service, err = plan.Apply(ctx, spec, opts...)
		} else {
			service, err = serverless.Deploy(ctx, spec, opts...)
		}
		stop()
		progress.end()
		if service == nil {
			return err
		}
		report := deployReport(service, time.Since(start))
		if costs.in.CallsPerMonth > 0 {
			report.estimate(service, spec.BinaryPath, policy, costs.in)
		}
		a.warn(report.Warnings...)
		if spec.ServiceID != nil && !*keepRunning {
			a.remark("nothing takes the service's jobs from the chain: add --run to start the runner here")
		}
		err = errors.Join(err, a.answer(report, report.print))
		if *keepRunning && err == nil {
			a.remark("the runner is up; Ctrl-C stops it and leaves the functions deployed")
			<-ctx.Done()
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return errors.Join(err, service.Close(closing))
	}
	return cmd
}

// nowhere refuses to run jobs outside of FaaS: without --run this program does not stay to run
// them.
func nowhere(_ context.Context, _ serverless.ServiceSpec, jobIDs []uint32, _ serverless.Sizing) (orchestrator.Runner,
	error) {
	return nil, faas.Errorf(faas.ErrUnsupported, "deploy", "",
		"jobs %v are not on FaaS and would run on this machine: add --run to run them here until Ctrl-C, or see "+
			"\"tangle-cloud plan\" for why they are not on FaaS", jobIDs)
}

func readPlan(path string) (*serverless.Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError{err}
	}
	plan := new(serverless.Plan)
	if err := json.Unmarshal(text, plan); err != nil {
		return nil, usagef("--plan " + path + ": " + err.Error())
	}
	return plan, nil
}

type deployed struct {
	Service     string                  `json:"service"`
	Strategy    serverless.Strategy     `json:"strategy"`
	Deployments []serverless.Deployment `json:"deployments"`
	Removed     []string                `json:"removed,omitempty"` // functions of jobs that no longer belong on FaaS
	Warnings    []string                `json:"warnings,omitempty"`
	Fallback    string                  `json:"fallback,omitempty"`
	// Cost is the monthly cost of the functions, if the number of calls is given.
	Cost      *cost.Estimate `json:"cost,omitempty"`
	ElapsedMS int64          `json:"elapsed_ms"`
}

func deployReport(s *serverless.Service, elapsed time.Duration) *deployed {
	r := &deployed{
		Service: s.Name(), Strategy: s.Strategy(), Deployments: s.Deployments(), Removed: s.Removed(), Warnings: s.Warnings(),
		ElapsedMS: elapsed.Milliseconds(),
	}
	if why := s.Fallback(); why != nil {
		r.Fallback = why.Error()
	}
	return r
}

// estimate adds the cost of a month, or a warning that says why it is unknown.
func (r *deployed) estimate(s *serverless.Service, binary string, policy *serverless.Policy, in cost.Input) {
	if r.Strategy.Kind == serverless.StrategyTraditional {
		return // no functions, no costs
	}
	cfg := policy.Serverless.Config()
	in.DefaultMemoryMB, in.KeepWarm, in.Overrides = cfg.DefaultMemoryMB, cfg.KeepWarm, cfg.Overrides
	if bin, err := faas.InspectBinary(binary); err == nil { // the deployment could read it
		in.Arch = bin.Arch
	}
	var err error
	if r.Cost, err = cost.ForProvider(s.Metadata(), cfg.Provider.Provider, in); err != nil {
		r.Warnings = append(r.Warnings, noEstimate(err))
	}
}

func (r *deployed) print(w io.Writer) {
	fmt.Fprintln(w, "job\tdone\twhere\tsize")
	counts := map[serverless.Action]int{}
	for _, d := range r.Deployments {
		if d.Local {
			fmt.Fprintf(w, "%d\t-\tbeside FaaS, with --run\t\n", d.JobID)
			continue
		}
		counts[d.Action]++
		fmt.Fprintf(w, "%d\t%s\t%s\t%d MB, %d s\n", d.JobID, d.Action, d.FunctionID, d.MemoryMB, d.TimeoutSecs)
	}
	for _, unit := range r.Removed {
		fmt.Fprintf(w, "-\tremove\t%s\t\n", unit)
	}
	if r.Cost != nil {
		fmt.Fprintln(w, monthly(r.Cost))
	}
	fmt.Fprintf(w, "%s: %s, %d created, %d updated, %d kept, %d removed, in %s\n", r.Service, r.Strategy.Kind,
		counts[serverless.ActionCreate], counts[serverless.ActionUpdate], counts[serverless.ActionKeep], len(r.Removed),
		round(time.Duration(r.ElapsedMS)*time.Millisecond))
}

// agreedPlan returns the plan of a deployment that removes functions, once the operator has agreed.
// It returns nil if nothing is removed, or if the deployment itself will refuse.
func (a *app) agreedPlan(
	ctx context.Context, spec serverless.ServiceSpec, policy *serverless.Policy, runs bool, opts []serverless.DeployOption,
) (*serverless.Plan, error) {
	if !slices.ContainsFunc(a.known(spec.Name), func(info serverless.ServiceInfo) bool { return len(info.Units) > 0 }) {
		return nil, nil // nothing to remove
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

// confirm asks a question on a terminal. Without a terminal the answer is no.
func (a *app) confirm(ctx context.Context, question string) bool {
	in, ok := a.in.(*os.File)
	if !ok || a.log.width == nil || a.json || !term.IsTerminal(int(in.Fd())) {
		return false
	}
	a.log.printf("%s", printable(question))
	answer := make(chan string, 1)
	go func() { // a read cannot be interrupted: after Ctrl-C it ends with the program
		line, _ := bufio.NewReader(in).ReadString('\n') // use what was read before an error
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		return line == "y" || line == "yes"
	case <-ctx.Done():
		return false
	}
}
