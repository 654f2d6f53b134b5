package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// open opens a service that was deployed before. The ledger says where the service is; the policy
// provides the credentials if it names one of these places.
func (a *app) open(ctx context.Context, s *serviceFlags, opts ...serverless.OpenOption) (*serverless.Service, error) {
	name, err := s.service()
	if err != nil {
		return nil, err
	}
	policy, err := a.loadPolicy()
	if err != nil {
		return nil, err
	}
	opts = append(opts, serverless.WithStateDir(a.stateDir))
	service, err := serverless.OpenService(ctx, name, append(opts, serverless.WithPolicy(policy))...)
	if faas.CodeOf(err) != faas.ErrNotFound {
		return service, err
	}
	service, err = serverless.OpenService(ctx, name, opts...)
	if err != nil {
		return nil, err
	}
	a.warn("the policy names another place than those of " + name + "; its ledger is used")
	return service, nil
}

// closeService closes a handle, even after Ctrl-C.
func closeService(ctx context.Context, s *serverless.Service) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return s.Close(ctx)
}

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the services that were deployed from this machine", Example: "  tangle-cloud list --json",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			services, err := serverless.ListServices(a.stateDir)
			if services == nil {
				services = []serverless.ServiceInfo{}
			}
			return errors.Join(err, a.answer(services, func(w io.Writer) {
				if len(services) == 0 {
					a.afterwards("no service was deployed from here")
					return
				}
				fmt.Fprintln(w, "service\tprovider\twhere\tunits\tstate\tdeployed")
				for _, s := range services {
					state := "deployed"
					switch {
					case s.Busy:
						state = "being changed"
					case s.Interrupted():
						state = "interrupted"
					}
					where := strings.TrimSpace(s.Provider.Region + s.Provider.ProjectID + s.Provider.SubscriptionID +
						s.Provider.Endpoint)
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Name, s.Provider.Provider, dash(where), len(s.Units), state,
						s.Updated.UTC().Format(time.DateTime))
				}
			}))
		},
	}
}

type statusReport struct {
	Service     string                    `json:"service"`
	Deployments []serverless.Deployment   `json:"deployments"`
	Health      *serverless.ServiceHealth `json:"health"`
	Drift       *serverless.Drift         `json:"drift"`
	Warnings    []string                  `json:"warnings,omitempty"`
	OK          bool                      `json:"ok"`
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show the health of a service, and whether the provider has what was deployed",
		Long: "Asks the provider for the health of every function, and compares what it has with the ledger. Exit code " +
			"20 means that something is wrong.",
		Example: "  tangle-cloud status --service-id 123\n  tangle-cloud status --name my-service --json",
		Args:    cobra.NoArgs,
	}
	s := bindService(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		ctx := cmd.Context()
		service, err := a.open(ctx, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeService(ctx, service)) }()
		report := statusReport{Service: service.Name(), Deployments: service.Deployments(), Warnings: service.Warnings()}
		if report.Health, err = service.Health(ctx); err != nil {
			return err
		}
		if report.Drift, err = service.Diff(ctx); err != nil {
			return err
		}
		report.OK = report.Health.Healthy && report.Drift.None() && len(report.Warnings) == 0
		a.warn(report.Warnings...)
		if err := a.answer(report, report.print); err != nil || report.OK {
			return err
		}
		return unhealthyError{}
	}
	return cmd
}

func (r *statusReport) print(w io.Writer) {
	health := map[uint32]serverless.JobHealth{}
	for _, h := range r.Health.Jobs {
		health[h.JobID] = h
	}
	fmt.Fprintln(w, "job\tfunction\tsize\thealth\tcalls")
	for _, d := range r.Deployments {
		h := health[d.JobID]
		word := "unknown"
		switch {
		case d.Local:
			fmt.Fprintf(w, "%d\tbeside FaaS\t\t\t\n", d.JobID)
			continue
		case h.Known && h.Healthy:
			word = "healthy"
		case h.Known:
			word = printable("unhealthy: " + h.Reason)
		}
		fmt.Fprintf(w, "%d\t%s\t%d MB, %d s\t%s\t%d\n", d.JobID, d.FunctionID, d.MemoryMB, d.TimeoutSecs, word,
			h.TotalInvocations)
	}
	if runner := r.Health.Runner; runner != nil {
		word := "healthy"
		if !runner.Healthy {
			word = printable("unhealthy: " + runner.Reason)
		}
		fmt.Fprintf(w, "runner: %s\n", word)
	}
	for _, line := range []struct {
		what  string
		units []string
	}{
		{"missing at the provider", r.Drift.Missing}, {"differs from what was deployed", r.Drift.Changed},
		{"not in the ledger", r.Drift.Orphans},
	} {
		if len(line.units) > 0 {
			fmt.Fprintf(w, "%s: %s\n", line.what, strings.Join(line.units, ", "))
		}
	}
	for _, place := range r.Drift.Elsewhere {
		fmt.Fprintf(w, "also in %s: %s\n", strings.Trim(fmt.Sprint(place.Provider), "{}"), plural(len(place.Units), "unit"))
	}
	if r.OK {
		fmt.Fprintln(w, "everything is as it was deployed")
	}
}

func (a *app) warmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "warm", Short: "Start instances of every function ahead of the calls",
		Example: "  tangle-cloud warm --service-id 123 --instances 4",
		Args:    cobra.NoArgs,
	}
	s := bindService(cmd.Flags())
	n := cmd.Flags().Int("instances", 1, "instances of each function")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		service, err := a.open(cmd.Context(), s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeService(cmd.Context(), service)) }()
		warm, err := service.Warm(cmd.Context(), *n)
		if err != nil {
			return err
		}
		return a.answer(map[string]any{"service": service.Name(), "warm": warm},
			func(w io.Writer) { fmt.Fprintf(w, "%d instances are warm\n", warm) })
	}
	return cmd
}

func (a *app) undeployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "undeploy", Short: "Remove every function of a service", Example: "  tangle-cloud undeploy --service-id 123",
		Long: "Removes every function of a service. If something cannot be removed, the error lists it, and the command " +
			"can be repeated.",
		Args: cobra.NoArgs,
	}
	s := bindService(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		progress := a.progress("removal stops; \"tangle-cloud undeploy\" again removes the rest")
		service, err := a.open(ctx, s, serverless.WithEvents(progress.event))
		if err != nil {
			return err
		}
		stop := progress.interruptedBy(ctx)
		removed := functionIDs(service)
		for _, place := range service.Elsewhere() {
			for _, unit := range place.Units {
				removed = append(removed, unit.ID)
			}
		}
		err = service.Undeploy(ctx)
		stop()
		progress.end()
		if err != nil {
			return errors.Join(err, closeService(ctx, service))
		}
		return a.answer(map[string]any{"service": service.Name(), "removed": removed}, func(w io.Writer) {
			fmt.Fprintf(w, "%s: removed %s\n", service.Name(), plural(len(removed), "function"))
		})
	}
	return cmd
}

func functionIDs(s *serverless.Service) []string {
	out := []string{}
	for _, d := range s.Deployments() {
		if d.FunctionID != "" && (len(out) == 0 || out[len(out)-1] != d.FunctionID) {
			out = append(out, d.FunctionID)
		}
	}
	return out
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (a *app) recoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recover", Short: "Mend what an interrupted operation left",
		Example: "  tangle-cloud recover --service-id 123",
		Long: "Removes what an interrupted creation or removal left, and finds out how interrupted updates ended. " +
			"The next deploy or undeploy does the same by itself.",
		Args: cobra.NoArgs,
	}
	s := bindService(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		name, err := s.service()
		if err != nil {
			return err
		}
		policy, err := a.loadPolicy()
		if err != nil {
			return err
		}
		progress := a.progress("")
		opts := []serverless.ServiceOption{serverless.WithStateDir(a.stateDir), serverless.WithEvents(progress.event)}
		done, err := serverless.Recover(cmd.Context(), name, append(opts, serverless.WithPolicy(policy))...)
		if faas.CodeOf(err) == faas.ErrNotFound { // the policy names another place: use the ledger's
			done, err = serverless.Recover(cmd.Context(), name, opts...)
		}
		progress.end()
		if err != nil {
			return err
		}
		return a.answer(done, func(w io.Writer) {
			if len(done.Removed)+len(done.Unsettled)+len(done.Missing) == 0 {
				fmt.Fprintln(w, "nothing was interrupted")
			}
			for _, unit := range done.Removed {
				fmt.Fprintf(w, "removed\t%s\n", unit)
			}
			for _, unit := range done.Unsettled {
				fmt.Fprintf(w, "exists\t%s (deploy again to bring it to what is wanted)\n", unit)
			}
			for _, unit := range done.Missing {
				fmt.Fprintf(w, "missing\t%s (deploy again to make it anew)\n", unit)
			}
		})
	}
	return cmd
}

func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
