package serverless_test

import (
	"context"
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

func TestABinaryThatIsNotThePublishedOneIsRefused(t *testing.T) {
	s := spec(t)
	file, err := faas.InspectBinary(s.BinaryPath)
	if err != nil {
		t.Fatal(err)
	}
	publishing := func(hash string) *serverless.Metadata {
		m := metadata("--")
		m.Sources = []serverless.BlueprintSource{{Kind: "native",
			Binaries: []serverless.PublishedBinary{{Arch: "amd64", OS: "linux", SHA256: hash}}}}
		return m
	}
	for name, call := range map[string]func(...serverless.DeployOption) (*serverless.Service, error){
		"Deploy": func(opts ...serverless.DeployOption) (*serverless.Service, error) {
			return serverless.Deploy(t.Context(), s, append(opts, serverless.WithPolicy(policy(false, true)))...)
		},
		"DeployServerless": func(opts ...serverless.DeployOption) (*serverless.Service, error) {
			opts = append(opts, serverless.WithExecutor(faastest.NewMemory().Executor("svc")),
				serverless.WithStateDir(t.TempDir()))
			return serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(), opts...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			deploy := func(opts ...serverless.DeployOption) (*serverless.Service, error) {
				svc, err := call(append(opts, serverless.WithVerifiedBinary())...)
				if svc != nil {
					t.Cleanup(func() { _ = svc.Undeploy(context.Background()) })
				}
				return svc, err
			}
			if svc, err := deploy(serverless.WithMetadata(publishing(strings.Repeat("ab", 32)))); svc != nil ||
				faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), file.SHA256) {
				t.Errorf("a mismatch: %v, %v", svc, err)
			}
			svc, err := deploy(serverless.WithMetadata(publishing(file.SHA256)))
			if err != nil || len(svc.Warnings()) != 0 {
				t.Errorf("a match: %v", err)
			}
			svc, err = deploy(serverless.WithMetadata(metadata("--")))
			if err != nil || len(svc.Warnings()) != 1 || !strings.Contains(svc.Warnings()[0], "nothing to compare") {
				t.Errorf("nothing published: %v", err)
			}
			dead := serverless.WithFetch(serverless.WithRPC("http://127.0.0.1:1"),
				serverless.WithContract("0x0165878A594ca255338adfa4d48449f69242Eb8F"))
			if svc, err := deploy(dead); svc != nil || faas.CodeOf(err) != faas.ErrUnavailable {
				t.Errorf("metadata that cannot be read: %v, %v", svc, err)
			}
		})
	}
}

func TestDeployServerlessRefusesOptionsThatItWouldHaveToIgnore(t *testing.T) {
	for name, opt := range map[string]serverless.DeployOption{
		"WithPolicy": serverless.WithPolicy(policy(true, false)),
		"WithTraditional": serverless.WithTraditional(
			func(context.Context, serverless.ServiceSpec, []uint32, serverless.Sizing) (orchestrator.Runner, error) {
				return hookRunner{}, nil
			}),
	} {
		cloud := faastest.NewMemory()
		svc, err := serverless.DeployServerless(t.Context(), spec(t), []uint32{0}, policy(true, false).Serverless.Config(),
			opt, serverless.WithExecutor(cloud.Executor("svc")))
		if svc != nil || faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, svc, err)
		}
	}
}
