// Command linked prints which providers it has, and why not the others.
package main

import (
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
	_ "github.com/tangle-network/blueprint-serverless/faas/all"
)

func main() {
	for _, name := range faas.KnownNames() {
		if err := faas.CheckLinked(name); err != nil {
			fmt.Printf("%s: %v\n", name, err)
			continue
		}
		fmt.Printf("%s: linked\n", name)
	}
}
