package runner_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"os/signal"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// A whole blueprint. It also runs on every FaaS provider; blank imports of providers let it
// delegate jobs to them.
func ExampleMain() {
	runner.Main(job.Handlers{
		0: func(_ context.Context, args []byte) ([]byte, error) { return bytes.ToUpper(args), nil },
	})
}

// A runner within a program of its own kind.
func ExampleNew() {
	cfg, err := runner.ConfigFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(cfg,
		runner.WithHandlers(job.Handlers{
			0: func(ctx context.Context, args []byte) ([]byte, error) {
				if call, ok := runner.CallOf(ctx); ok {
					log.Printf("call %d of %x", call.ID, call.Caller)
				}
				return bytes.ToUpper(args), nil
			},
		}),
		runner.WithEvents(func(e runner.Event) {
			if e.Kind == runner.EventFinished {
				log.Printf("call %d: %s", e.Call, e.Outcome)
			}
		}))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := r.Run(ctx); err != nil && !errors.Is(err, runner.ErrServiceOver) {
		log.Print(faas.CodeOf(err), ": ", err)
	}
}
