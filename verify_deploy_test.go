package serverless_test

import (
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestDeployRefusesABinaryThatIsNotThePublishedOne(t *testing.T) {
	s := spec(t)
	file, err := faas.InspectBinary(s.BinaryPath)
	if err != nil {
		t.Fatal(err)
	}
	publishing := func(hash string) *serverless.Metadata {
		m := metadata("--")
		m.Sources = []serverless.BlueprintSource{{Kind: "native", Binaries: []serverless.PublishedBinary{{Arch: "amd64", OS: "linux", SHA256: hash}}}}
		return m
	}
	deploy := func(opts ...serverless.DeployOption) (*serverless.Service, error) {
		svc, err := serverless.Deploy(t.Context(), s, append(opts, serverless.WithPolicy(policy(false, true)), serverless.WithVerifiedBinary())...)
		if svc != nil {
			t.Cleanup(func() { _ = svc.Undeploy(t.Context()) })
		}
		return svc, err
	}
	if svc, err := deploy(serverless.WithMetadata(publishing(strings.Repeat("ab", 32)))); svc != nil || faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), file.SHA256) {
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
	dead := serverless.WithFetch(serverless.WithRPC("http://127.0.0.1:1"), serverless.WithContract("0x0165878A594ca255338adfa4d48449f69242Eb8F"))
	if svc, err := deploy(dead); svc != nil || faas.CodeOf(err) != faas.ErrUnavailable {
		t.Errorf("metadata that cannot be read: %v, %v", svc, err)
	}
}
