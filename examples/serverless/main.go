// Command serverless shows the whole main job without an account. It loads a policy, profiles and
// analyzes the jobs of a blueprint, deploys the jobs that fit to a FaaS platform over HTTP, runs
// the rest beside it, invokes every job, and removes everything.
//
// The program is its own blueprint: it uploads its executable as the job binary and starts it as
// the runner. The platform is the embedded one, in this process, unless the policy or -provider
// names another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func main() {
	if job.Requested() || job.Offered() { // as a function, for a local job, or as the runner
		job.Main(jobs())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	self, err := os.Executable()
	if err == nil {
		err = run(ctx, self, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run tells the story of deploying this program's own executable.
func run(ctx context.Context, self string, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("serverless", flag.ContinueOnError)
	policyFile := flags.String("policy", "", "policy `file`; default: a policy for the embedded platform")
	provider := flags.String("provider", "", "deploy with this provider, whatever the policy says: custom, or a cloud "+
		"that was added by a build tag")
	asJSON := flags.Bool("json", false, "print one JSON document in place of the story")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	story := &story{self: self, out: out, quiet: *asJSON}
	report, err := story.tell(ctx, *policyFile, *provider)
	if *asJSON && report != nil {
		return errors.Join(err, report.writeJSON(out, err))
	}
	return err
}
