package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
		plan, err := serverless.NewPlan(cmd.Context(), spec, append(a.options(d, policy), serverless.WithEvents(progress.event))...)
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
			fmt.Fprint(w, printable(plan.String()))
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

// planned is a plan, and what its functions cost in a month if it is told how often they are called.
type planned struct {
	*serverless.Plan
	Cost *cost.Estimate `json:"cost,omitempty"`
}

func noEstimate(err error) string {
	return "there is no estimate of the cost: " + strings.TrimPrefix(err.Error(), "faas: ")
}

func (a *app) deployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "deploy", Short: "Deploy a service, all or nothing",
		Long: `Deploys the jobs that fit the policy's provider, all or nothing: what this call created is removed again, and what it
updated is put back, where a function fails or Ctrl-C is pressed. An unchanged function costs a read or two.

Functions of jobs that belong on FaaS no more are removed: on a terminal you are asked first, else --prune has to say so.

Functions need no process here. Jobs that do not fit do: --run keeps the service's runner, and these jobs, running on this
machine until Ctrl-C, which leaves the functions deployed; what they print is shown. Without it they are not available, and where no job is on FaaS
there is nothing to deploy.`,
		Example: `  tangle-cloud deploy --service-id 123 --binary target/release/my-blueprint
  tangle-cloud deploy --service-id 123                                          # again, with the same binary
  tangle-cloud deploy --name my-service --binary ./my-blueprint --env API_KEY --run
  tangle-cloud service deploy --service-id 123 --plan plan.json                 # exactly what was planned`,
		Args: cobra.NoArgs,
	}
	d := bindDeploy(cmd)
	costs := bindCost(cmd.Flags())
	cmd.Flags().BoolVar(&d.keepSucceeded, "keep-succeeded", false, "keep the functions that succeeded where others fail")
	planFile := cmd.Flags().String("plan", "", "`file` with a plan: do exactly that, or refuse")
	prune := cmd.Flags().Bool("prune", false, "remove, unasked, the functions of jobs that belong on FaaS no more")
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
		case !a.quiet: // what the runner prints, and when it ends and is started again
			opts = append(opts, serverless.WithLogger(slog.New(slog.NewTextHandler(a.log, nil))))
		}
		if plan == nil && !*prune && !*yes {
			if plan, err = a.agreedPlan(ctx, spec, policy, *keepRunning, opts); err != nil {
				return err
			}
		}
		progress := a.progress("undoing what this deployment changed (Ctrl-C again stops at once; then \"tangle-cloud recover\" " +
			"puts it right)")
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

// nowhere stands for the machines on which jobs that are not on FaaS would run: this program has none unless it stays.
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
	Removed     []string                `json:"removed,omitempty"` // functions of jobs that belong on FaaS no more
	Warnings    []string                `json:"warnings,omitempty"`
	Fallback    string                  `json:"fallback,omitempty"`
	// Cost is what the functions cost in a month, where it is said how often they are called.
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

// estimate adds what a month costs, or a warning why that is not known.
func (r *deployed) estimate(s *serverless.Service, binary string, policy *serverless.Policy, in cost.Input) {
	if r.Strategy.Kind == serverless.StrategyTraditional {
		return // there is no function
	}
	cfg := policy.Serverless.Config()
	in.DefaultMemoryMB, in.KeepWarm, in.Overrides = cfg.DefaultMemoryMB, cfg.KeepWarm, cfg.Overrides
	if bin, err := faas.InspectBinary(binary); err == nil { // it was read for the deployment
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
