package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

type doctorReport struct {
	OK     bool          `json:"ok"` // nothing failed
	Checks []doctorCheck `json:"checks"`
}

type doctorCheck struct {
	faas.Check
	Code faas.Code `json:"code,omitempty"` // of the failed check's error
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out what stands in the way of a deployment, and how to mend it",
		Long: `Checks everything that a deployment relies on, and changes nothing: the policy, the provider's
credentials, roles, APIs, permissions and quotas, the clock, the directory of the ledgers,
interrupted operations, the node, the contract, and the binary. Every line is ok, a warning, skipped,
or FAIL. Below it stands what to do, as a command if one helps. The provider is asked only if the
policy turns serverless on.

The blueprint and the binary of a service that was deployed before are known. Exit code 20 means that
a check failed; warnings alone are exit code 0. With --quiet only warnings and failures are printed.`,
		Example: `  tangle-cloud doctor
  tangle-cloud doctor --service-id 123
  tangle-cloud doctor --blueprint-id 42 --rpc https://... --binary target/release/my-blueprint
  tangle-cloud doctor --json | jq '.checks[] | select(.status == "failed")'`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	service, chain := bindService(flags), bindChain(flags)
	var spec serverless.DiagnoseSpec
	blueprint := flags.Uint64("blueprint-id", 0, "`number` of the blueprint on chain")
	flags.StringVar(&spec.BinaryPath, "binary", "", "the blueprint's `executable`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		spec.PolicyPath = a.policyFile
		if flags.Changed("blueprint-id") {
			spec.BlueprintID = blueprint
		}
		if service.name != "" || flags.Changed("service-id") {
			var err error
			if spec.Service, err = service.service(); err != nil {
				return err
			}
			a.remember(&spec)
		}
		spec.StateDir, spec.Fetch = a.stateDir, chain.options()
		checks, err := serverless.Diagnose(cmd.Context(), spec)
		report := doctorReport{OK: true, Checks: make([]doctorCheck, len(checks))}
		for i, c := range checks {
			c.Remedy = strings.Join(remedies(c), "\n")
			checks[i] = c
			report.Checks[i] = doctorCheck{c, faas.CodeOf(c.Err)}
			report.OK = report.OK && c.Status != faas.CheckFailed
		}
		err = errors.Join(err, a.answer(report, func(w io.Writer) { a.printChecks(w, checks) }))
		if err == nil && !report.OK {
			return unhealthyError{}
		}
		return err
	}
	return cmd
}

// remember completes spec by what the ledger knows of the service.
func (a *app) remember(spec *serverless.DiagnoseSpec) {
	known, _ := serverless.ListServices(a.stateDir) // an unreadable ledger is one of the findings
	for _, info := range known {
		if info.Name != spec.Service {
			continue
		}
		spec.BinaryPath = cmp.Or(spec.BinaryPath, info.BinaryPath)
		if spec.BlueprintID == nil && info.BlueprintID != 0 { // 0 may also mean: no blueprint
			spec.BlueprintID = &info.BlueprintID
		}
	}
}

func (a *app) printChecks(w io.Writer, checks []faas.Check) {
	labels := map[faas.CheckStatus]struct{ text, color string }{
		faas.CheckOK: {"ok  ", green}, faas.CheckWarning: {"warn", yellow}, faas.CheckFailed: {"FAIL", red},
		faas.CheckSkipped: {"skip", dim},
	}
	width, count := 0, map[faas.CheckStatus]int{}
	for _, c := range checks {
		width = max(width, len(c.Name))
		count[c.Status]++
	}
	for _, c := range checks {
		if a.quiet && c.Status != faas.CheckFailed && c.Status != faas.CheckWarning {
			continue
		}
		label := labels[c.Status].text
		if a.colorOut {
			label = "\x1b[" + labels[c.Status].color + "m" + label + "\x1b[0m"
		}
		fmt.Fprintf(w, "%s  %-*s  %s\n", label, width, printable(c.Name), printable(c.Detail))
		for line := range strings.Lines(c.Remedy) {
			fmt.Fprintf(w, "      remedy: %s\n", printable(strings.TrimSpace(line)))
		}
	}
	a.afterwards("%d ok, %s, %d failed, %d skipped", count[faas.CheckOK], plural(count[faas.CheckWarning], "warning"),
		count[faas.CheckFailed], count[faas.CheckSkipped])
}
