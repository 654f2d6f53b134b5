// Command chain shows how to read a blueprint from the Tangle contracts and to analyze its jobs for
// several providers side by side.
//
//	go run ./examples/chain                  a blueprint from the recorded answers of a real contract
//	go run ./examples/chain -blueprint 1     another one of the recording
//	go run ./examples/chain -rpc https://sepolia.base.org -blueprint 7
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
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

// report is what the program prints, as a table or as JSON.
type report struct {
	Metadata *serverless.Metadata    `json:"metadata"`
	Analyses []*serverless.Analysis  `json:"analyses"`
	Binary   *serverless.BinaryCheck `json:"binary,omitempty"`
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("chain", flag.ContinueOnError)
	rpc := flags.String("rpc", "", "`URLs` of nodes, tried in order, separated by commas; without it and -contract a "+
		"recorded answer is read")
	contract := flags.String("contract", "", "`address` of the Tangle contract; default: the environment's, or the "+
		"known one of the node's chain")
	id := flags.Uint64("blueprint", 0, "`id` of the blueprint")
	block := flags.Uint64("block", 0, "read the state of the block with this `number`; 0 is the latest")
	binary := flags.String("binary", "", "the blueprint's binary: its profiles file is read, and its hash compared "+
		"with the published one")
	cache := flags.String("cache", "", "`directory` to keep verified events in")
	asJSON := flags.Bool("json", false, "print JSON in place of the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: see -help", flags.Arg(0))
	}
	options := []serverless.FetchOption{
		serverless.WithRPC(strings.Split(*rpc, ",")...), serverless.WithContract(*contract), serverless.WithBlock(*block),
		serverless.WithBinary(*binary),
		serverless.WithCache(*cache),
	}
	if *rpc == "" && *contract == "" {
		recorded, stop, err := recording(ctx)
		if err != nil {
			return err
		}
		defer stop()
		options = append(options, recorded...)
	}

	meta, err := serverless.FetchMetadata(ctx, *id, options...)
	if err != nil {
		return err
	}
	r := &report{Metadata: meta}
	for _, provider := range []string{faas.AWSLambda, faas.GCPFunctions, faas.AzureFunctions, faas.Custom} {
		analysis, err := serverless.AnalyzeFor(meta, provider, true)
		if err != nil {
			return err
		}
		r.Analyses = append(r.Analyses, analysis)
	}
	if *binary != "" {
		if r.Binary, err = serverless.VerifyBinary(meta, *binary); err != nil {
			return err
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	return r.print(out)
}
