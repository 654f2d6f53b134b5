// Command blueprint runs a whole blueprint (see the directory words) from nothing to results on a
// chain. It builds the blueprint, starts a chain and a FaaS platform on this machine, deploys two
// of the three jobs to the platform, starts the runner, submits jobs on the chain as a customer
// would, and prints the results that arrive there. It needs no account and no network.
//
// The chain is a model in this program. With -anvil it is a real EVM node, and the contract is one
// with the interface of Tangle's:
//
//	npm install --allow-scripts=@foundry-rs/anvil @foundry-rs/anvil
//	go run ./examples/blueprint -anvil node_modules/.bin/anvil
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run tells the story. When it returns, even with an error, it has stopped and removed everything.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("blueprint", flag.ContinueOnError)
	anvil := flags.String("anvil", "", "path of `anvil`, to use it as the chain")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	workspace, err := os.MkdirTemp("", "blueprint-example-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(workspace)) }()
	var chain chain
	if *anvil != "" {
		chain, err = startAnvil(ctx, *anvil)
	} else {
		chain, err = startModel()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chain.close()) }()
	return (&story{out: out, chain: chain, workspace: workspace}).tell(ctx)
}
