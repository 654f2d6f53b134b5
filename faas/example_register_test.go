package faas_test

import (
	"context"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// acme is an executor for a platform outside this module. The embedded interface stands for the
// methods that the example leaves out.
type acme struct {
	faas.Executor
	service, region string
}

func (a *acme) Invoke(_ context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	return &faas.Result{Output: fmt.Appendf(nil, "job %d of %s in %s got %d bytes", jobID, a.service, a.region,
		len(args))}, nil
}

func (a *acme) Close() error { return nil }

// A provider registers when its package is imported. It does no I/O then.
func init() {
	faas.Register("acme", faas.ProviderInfo{
		Limits:      faas.Limits{MaxMemoryMB: 1024, MaxTimeoutSecs: 60, MaxPayloadMB: 1},
		MemorySizes: faas.MemorySizes{Sizes: []uint32{256, 1024}},
		Options:     []faas.Option{{Name: "token", Help: "token of the account", Required: true, Sensitive: true}},
		Open: func(_ context.Context, cfg faas.Config) (faas.Executor, error) {
			if cfg.Region == "" {
				return nil, faas.Errorf(faas.ErrInvalidArgument, "open", "acme", "region is missing")
			}
			return &acme{service: cfg.Service, region: cfg.Region}, nil
		},
	})
}

func ExampleRegister() {
	ctx := context.Background()
	cfg := faas.Config{Provider: "acme", Service: "squares"}
	_, err := faas.Open(ctx, cfg)
	fmt.Println(err)

	cfg.Region, cfg.Options = "north", map[string]string{"token": "secret"}
	exec, err := faas.Open(ctx, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer exec.Close()
	result, err := exec.Invoke(ctx, 3, []byte("abc"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n%v\n", result.Output, cfg)
	// Output:
	// faas: open: acme: option "token" is missing: token of the account
	// job 3 of squares in north got 3 bytes
	// {provider:acme service:squares region:north options:[token]}
}
