package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/profile"
)

// operator is the development account that runs the service.
const operator = 1

// story runs the blueprint once, and says what happens.
type story struct {
	out       io.Writer
	chain     chain
	workspace string
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// tell goes from the blueprint's source to results on the chain.
func (s *story) tell(ctx context.Context) (err error) {
	s.say("1. A chain: %s.", s.chain)
	binary, err := s.build(ctx)
	if err != nil {
		return err
	}
	policy, stopPlatform, err := s.platform()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopPlatform()) }()
	service, err := s.deploy(ctx, binary, policy)
	if err != nil {
		return err
	}
	defer func() {
		// Ctrl-C ends ctx, and the removal has to run all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		uerr := service.Undeploy(ctx)
		if err = errors.Join(err, uerr); err == nil {
			s.say("6. Stopped the runner and removed the functions. Its journal would stay.")
		}
	}()
	if err := s.customers(ctx); err != nil {
		return err
	}
	return s.operators(ctx, service)
}

// build makes the blueprint's binary and measures its jobs, as its author does.
func (s *story) build(ctx context.Context) (string, error) {
	binary := filepath.Join(s.workspace, "target", "release", "words.exe") // any system takes that name
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", binary,
		"github.com/tangle-network/blueprint-serverless/examples/blueprint/words")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(ctx.Err(), fmt.Errorf("build the blueprint: %w: %s", err, out))
	}
	text := [][]byte{[]byte("some words to measure with")}
	profiles, err := profile.Measure(ctx, binary, map[uint32][][]byte{0: text, 1: text, 2: text}, profile.WithStateful(2))
	if err != nil {
		return "", err
	}
	s.say("2. The blueprint is built and measured: job 2 remembers, so it is not for FaaS.")
	return binary, profiles.WriteFile(serverless.ProfilesPath(binary))
}

// platform starts a FaaS platform in this program, and returns a policy that leads there.
func (s *story) platform() (*serverless.Policy, func() error, error) {
	p, err := platform.New()
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // it always ends with an error
	}()
	policy := serverless.DefaultPolicy()
	policy.Serverless.Enable, policy.Serverless.FallbackToVM = true, false
	policy.Serverless.Provider = serverless.ProviderSettings{Type: faas.Custom,
		Endpoint: "http://" + listener.Addr().String()}
	policy.Serverless.DefaultMemoryMB, policy.Serverless.DefaultTimeoutSecs = 256, 30
	return policy, func() error {
		err := errors.Join(server.Close(), p.Close())
		<-served
		return err
	}, nil
}

// deploy deploys the functions and starts the runner, with the operator's key.
func (s *story) deploy(ctx context.Context, binary string, policy *serverless.Policy) (*serverless.Service, error) {
	keystore := filepath.Join(s.workspace, "key") // of a development account: everybody knows it
	if err := os.WriteFile(keystore, []byte(hex.EncodeToString(devchain.Key(operator))), 0o600); err != nil {
		return nil, err
	}
	chain := s.chain.settings()
	spec := serverless.ServiceSpec{Name: "words", BlueprintID: chain.blueprint, ServiceID: &chain.service,
		BinaryPath: binary, Keystore: keystore}
	// The chain says which jobs the blueprint has, and the file beside the binary what they need.
	options := []serverless.DeployOption{serverless.WithPolicy(policy),
		serverless.WithFetch(serverless.WithRPC(chain.url), serverless.WithContract(chain.contract),
			serverless.WithChainID(chain.id)),
		// a real program leaves it at its default, outside of what it removes
		serverless.WithStateDir(filepath.Join(s.workspace, "state"))}
	if chain.silent {
		meta, err := serverless.FetchMetadata(ctx, chain.blueprint, serverless.WithBinary(binary), serverless.WithMock())
		if err != nil {
			return nil, err
		}
		options = append(options, serverless.WithMetadata(meta))
	}
	service, err := serverless.Deploy(ctx, spec, options...)
	if err != nil {
		return nil, err
	}
	s.say("3. Deployed: jobs %v on FaaS, jobs %v in the runner.", service.Strategy().FaaSJobs,
		service.Strategy().LocalJobs)
	return service, nil
}

// customers submits jobs on the chain, and shows the results that arrive there.
func (s *story) customers(ctx context.Context) error {
	calls := []struct {
		job  uint8
		text string
	}{
		{0, "pear apple fig"}, {1, "pear apple fig"}, {2, "two words"}, {0, "to be or not to be"}, {2, "and three more"},
	}
	s.say("4. Submitted on the chain, and answered there:")
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, c := range calls {
		began := time.Now()
		call, err := s.chain.submit(ctx, c.job, []byte(c.text))
		if err != nil {
			return err
		}
		output, err := s.chain.result(ctx, call)
		if err != nil {
			return fmt.Errorf("call %d: %w", call, err)
		}
		fmt.Fprintf(w, "   call %d\tjob %d\t%q\t%q\t%v\n", call, c.job, c.text, output,
			time.Since(began).Round(10*time.Millisecond))
	}
	return w.Flush()
}

// operators asks the service itself. The runner is one process, so job 2 remembers what came from
// the chain.
func (s *story) operators(ctx context.Context, service *serverless.Service) error {
	result, err := service.Invoke(ctx, 2, []byte("not from the chain"))
	if err != nil {
		return err
	}
	health, err := service.Health(ctx)
	if err != nil {
		return err
	}
	if !health.Healthy {
		return fmt.Errorf("the service is not healthy: the runner says %+v", health.Runner)
	}
	s.say("5. Invoked job 2 beside the chain: %q. The service is healthy.", result.Output)
	return nil
}
