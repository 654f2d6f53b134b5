package otelrunner_test

import (
	"context"
	"log"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/otelrunner"
)

// A blueprint whose runner tells the program's OpenTelemetry SDK what it does.
func Example() {
	tel, err := otelrunner.New()
	if err != nil {
		log.Fatal(err)
	}
	handlers := job.Handlers{0: func(_ context.Context, args []byte) ([]byte, error) { return args, nil }}
	runner.Main(handlers, runner.WithEvents(tel.Events(context.Background())))
}
