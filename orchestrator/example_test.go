package orchestrator_test

import (
	"context"
	"log"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// This runner outlives the program, and its log is in a directory that the operator chose.
func ExampleLocal() {
	ctx := context.Background()
	spec := serverless.ServiceSpec{Name: "prices", BlueprintID: 7, BinaryPath: "./blueprint", Args: []string{"run"}}
	svc, err := serverless.Deploy(ctx, spec, serverless.WithOrchestrator(&orchestrator.Local{
		LogDir: "/var/log/blueprints", Detached: true}))
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close(ctx) // the runner continues
}
