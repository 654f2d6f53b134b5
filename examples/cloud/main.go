// Command cloud is an operator's command line for blueprints on serverless platforms: it sets the policy, measures and analyses jobs, plans,
// deploys, watches, invokes and removes services, and serves the embedded platform.
//
//	go run ./examples/cloud --help
//
// It is built on nothing but the public API of the library, and links every provider; build it with -tags faas_only,faas_aws for one cloud alone.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/tangle-network/blueprint-serverless/faas/all"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	color := os.Getenv("NO_COLOR") == ""
	os.Exit(run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: terminalWidth(os.Stderr), color: color,
		colorOut: color && terminalWidth(os.Stdout) != nil,
	}))
}
