//go:build !faas_only || faas_gcp

package gcp_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
)

// A program that does not use the registry makes an executor itself. New sends nothing.
func ExampleNew() {
	e, err := gcp.New(context.Background(), faas.Config{
		Service: "pricing", ProjectID: "my-project", Region: "europe-west4", Options: map[string]string{
			"concurrency": "20", "service_account": "jobs@my-project.iam.gserviceaccount.com",
		}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	fmt.Println(e)
	// Output: gcp-functions{service:pricing project:my-project region:europe-west4 mode:functions}
}

// Before a first deployment, Preflight says what is missing in a project, and how to add it.
func ExampleExecutor_Preflight() {
	e, err := gcp.New(context.Background(), faas.Config{Service: "pricing", ProjectID: "my-project"})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	if err := e.Preflight(context.Background()); err != nil {
		log.Fatal(err) // with a gcloud command for each API and permission that is missing
	}
}
