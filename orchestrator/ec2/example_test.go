package ec2_test

import (
	"context"
	"log"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/orchestrator/ec2"
)

func Example() {
	ctx := context.Background()
	machines, err := ec2.New(ctx, ec2.Config{
		Region: "us-east-1", Bucket: "my-binaries", InstanceProfile: "blueprint-runner"})
	if err != nil {
		log.Fatal(err)
	}
	spec := serverless.ServiceSpec{Name: "prices", BlueprintID: 7, BinaryPath: "./blueprint-arm64", Args: []string{"run"}}
	cfg := serverless.DefaultPolicy().Serverless.Config()
	svc, err := serverless.DeployServerless(ctx, spec, []uint32{0, 1}, cfg, serverless.WithOrchestrator(machines))
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close(ctx) // the machine continues
}
