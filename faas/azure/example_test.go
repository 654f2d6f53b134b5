//go:build !faas_only || faas_azure

package azure_test

import (
	"context"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure"
)

// All jobs of a service are one function app. What the plan cannot do is refused before any call.
func ExampleNew() {
	e, err := azure.New(context.Background(), faas.Config{
		Service: "my-service", SubscriptionID: "00000000-0000-0000-0000-000000000000", Region: "westeurope",
		Options: map[string]string{"always_ready": "1"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()

	// by faas.InspectBinary
	bin := &faas.Binary{Path: "job", Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64,
		Protocols: faas.SpeaksAll}
	units, err := e.Units(bin, []faas.Function{{JobID: 0, MemoryMB: 512, TimeoutSecs: 60},
		{JobID: 1, MemoryMB: 2048, TimeoutSecs: 230}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range units[0].Files {
		fmt.Println(f.Name)
	}

	_, err = e.Units(bin, []faas.Function{{JobID: 0, MemoryMB: 512, TimeoutSecs: 900}})
	fmt.Println(faas.CodeOf(err))
	// Output:
	// bootstrap
	// host.json
	// job0/function.json
	// job1/function.json
	// too large
}
