package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"

	"github.com/spf13/cobra"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// streams are the input and output of the program. Answers go to out; progress, warnings and errors
// go to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// terminal returns the columns of err; nil if err is not a terminal.
	terminal func() int
	color    bool // on a terminal
	// transport reads price lists; nil is [http.DefaultTransport].
	transport http.RoundTripper
	colorOut  bool // out is a terminal that shows colors
}

// app is one run of the program.
type app struct {
	streams
	log        *console // over streams.err
	policyFile string
	stateDir   string
	json       bool
	quiet      bool

	later   []string // remarks to print below the answer
	running bool     // a command has begun: its errors are not usage errors
}

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	// Parsing the flags may fail, and with --json that error is JSON too.
	a := &app{streams: s, json: slices.Contains(args, "--json")}
	a.log = &console{w: s.err, width: s.terminal, color: s.color && s.terminal != nil}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	return a.fail(ctx, cmd, err)
}

const rootHelp = `Runs the jobs of blueprints on serverless platforms.

A day of an operator:

  tangle-cloud platform                        # in another terminal: a platform on this machine
  tangle-cloud policy --serverless true --faas-provider custom --faas-custom-endpoint http://127.0.0.1:8080
  tangle-cloud doctor                          # what stands in the way, and how to mend it
  tangle-cloud profile target/release/my-blueprint --jobs 0,1
  tangle-cloud analyze target/release/my-blueprint --calls-per-month 100000
  tangle-cloud plan    --service-id 123 --binary target/release/my-blueprint
  tangle-cloud deploy  --service-id 123 --binary target/release/my-blueprint
  tangle-cloud invoke  --service-id 123 0 --text hello
  tangle-cloud logs    --service-id 123
  tangle-cloud status  --service-id 123
  tangle-cloud undeploy --service-id 123

Answers go to standard output, with --json as one JSON document. Progress, warnings and errors go to
standard error.

` + exitHelp + `

Environment: NO_COLOR turns colors off; TANGLE_CONTRACT names the contract with the blueprints;
PLATFORM_TOKEN is the token of "tangle-cloud platform", FAAS_CUSTOM_TOKEN the one sent to a custom
platform; GOOGLE_API_KEY opens Google's price list for "tangle-cloud prices --refresh". The program
finds each cloud's credentials where the cloud's own tools do.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "tangle-cloud", Short: "Run the jobs of blueprints on serverless platforms", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRun: func(*cobra.Command, []string) { a.running = true },
		Args:             cobra.NoArgs,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.policyFile, "policy", "",
		"policy `file` (default: tangle/deployment-policy.json in the user's configuration directory)")
	flags.StringVar(&a.stateDir, "state-dir", "",
		"`directory` of the ledgers (default: tangle/services in the user's state directory)")
	flags.BoolVar(&a.json, "json", a.json, "print one JSON document")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print no progress and no remarks")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.policyCommand(), a.showCommand(), a.profileCommand(), a.analyzeCommand(), a.pricesCommand(),
		a.platformCommand(), a.doctorCommand())
	service := &cobra.Command{
		Use: "service", Short: "Deploy, watch, invoke and remove a service (the same commands as without \"service\")",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	service.AddCommand(a.serviceCommands()...)
	root.AddCommand(a.serviceCommands()...)
	root.AddCommand(service)
	return root
}

func (a *app) serviceCommands() []*cobra.Command {
	return []*cobra.Command{
		a.planCommand(), a.deployCommand(), a.statusCommand(), a.listCommand(), a.invokeCommand(), a.logsCommand(),
		a.warmCommand(), a.undeployCommand(), a.recoverCommand(),
	}
}

// loadPolicy reads the policy. A file named by --policy must exist: after a typing error the
// defaults would silently turn serverless off.
func (a *app) loadPolicy() (*serverless.Policy, error) {
	if _, err := os.Lstat(a.policyFile); a.policyFile != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, faas.Errorf(faas.ErrNotFound, "load policy", "", "--policy: %w; \"tangle-cloud policy\" creates it", err)
	}
	return a.policyOrDefaults()
}

// policyOrDefaults is for the commands that write the file, or report that it does not exist.
func (a *app) policyOrDefaults() (*serverless.Policy, error) {
	return serverless.LoadPolicy(serverless.WithPolicyPath(a.policyFile))
}

// usageError is an error in how the program was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(text string) error { return usageError{errors.New(text)} }
