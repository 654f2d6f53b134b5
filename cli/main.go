// Package cli is the command line of cmd/tangle-cloud, for programs that link providers of their own:
//
//	package main
//
//	import (
//		"github.com/tangle-network/blueprint-serverless/cli"
//		_ "github.com/tangle-network/blueprint-serverless/faas/all"
//		_ "example.com/my/provider"
//	)
//
//	func main() { cli.Main() }
//
// The package links no provider but what the command "platform" serves. It uses nothing but the
// public API of the library.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the command line with the arguments and the standard streams of the process, and ends
// the process with the command's exit code.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	color := os.Getenv("NO_COLOR") == ""
	os.Exit(run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: terminalWidth(os.Stderr), color: color,
		colorOut: color && terminalWidth(os.Stdout) != nil,
	}))
}
