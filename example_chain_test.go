package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// Metadata from a chain, with a second node as a fallback.
func ExampleFetchMetadata_chain() {
	cache, err := os.UserCacheDir()
	if err != nil {
		log.Fatal(err)
	}
	meta, err := serverless.FetchMetadata(context.Background(), 7,
		// no contract is named: the known one of the node's chain is used
		serverless.WithRPC("https://sepolia.base.org", "http://localhost:8545"),
		serverless.WithBinary("target/release/my-blueprint"),
		serverless.WithCache(filepath.Join(cache, "blueprints")),
	)
	switch {
	case errors.Is(err, serverless.ErrBlueprintNotFound):
		log.Fatal("there is no blueprint 7")
	case err != nil:
		log.Fatal(err)
	}
	for _, job := range meta.Jobs {
		fmt.Println(job.ID, job.Name, job.ProfileSource)
	}
}

func ExampleVerifyBinary() {
	executable, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	meta := &serverless.Metadata{Source: serverless.SourceChain} // a blueprint that publishes no binary
	check, err := serverless.VerifyBinary(meta, executable)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(check.Verdict)
	// Output: unpublished
}
