// Package cli is the command line of tangle-cloud. A program that links providers of its own is:
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
// The package links no provider and no cloud SDK, only the platform that the command "platform"
// serves. It uses only the public API of the library.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the command line with the arguments and standard streams of the process, and exits with
// the command's exit code. An interrupt ends the command cleanly; a second one ends it at once.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	color := os.Getenv("NO_COLOR") == ""
	os.Exit(run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: terminalWidth(os.Stderr), color: color,
		colorOut: color && terminalWidth(os.Stdout) != nil,
	}))
}
