package cli_test

import (
	"github.com/tangle-network/blueprint-serverless/cli"
	_ "github.com/tangle-network/blueprint-serverless/faas/custom"
)

// A program with the providers of its choice, its own included, imports them beside this package.
func Example() {
	cli.Main()
}
