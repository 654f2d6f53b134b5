package profile_test

import (
	"context"
	"fmt"
	"log"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/profile"
)

// A build step profiles the binary that it has built, and writes what the deployment reads.
func ExampleMeasure() {
	const binary = "target/release/my-blueprint"
	set, err := profile.Measure(context.Background(), binary,
		map[uint32][][]byte{
			0: {[]byte("a typical request"), []byte("the largest request")},
			1: {nil}, // this job takes no arguments
		},
		profile.WithRuns(20),
		profile.WithStateful(1),
	)
	if err != nil {
		log.Print(err)
		return
	}
	if err := set.WriteFile(serverless.ProfilesPath(binary)); err != nil {
		log.Print(err)
		return
	}
	profilingData, err := set.OnChain()
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("register the blueprint with this profilingData:", profilingData)
}
