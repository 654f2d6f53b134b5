package serverless_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// roles are what the test binary does instead of testing if roleEnv names one: they are the other
// processes that the tests of this package need.
var roles = map[string]func() error{
	"platform": servePlatform,
	"deploy":   func() error { return operate(deployAll) },
	"undeploy": func() error { return operate(undeployAll) },
}

const (
	roleEnv     = "SERVERLESS_TEST_ROLE"
	serviceEnv  = "SERVERLESS_TEST_SERVICE"
	endpointEnv = "SERVERLESS_TEST_ENDPOINT"
	stateEnv    = "SERVERLESS_TEST_STATE"
	binaryEnv   = "SERVERLESS_TEST_BINARY"
)

func playRole(name string) int {
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", name)
		return 2
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// servePlatform serves an embedded platform until its standard input ends. It prints the platform's
// URL.
func servePlatform() error {
	p, err := platform.New()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, p.Close())
	}
	srv := p.Server()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Println("http://" + l.Addr().String())
	_, _ = io.Copy(io.Discard, os.Stdin)
	err = errors.Join(srv.Close(), p.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// operate runs an operation on the service. It prints a line for every event and one at the end.
func operate(f func(ctx context.Context, service, endpoint, state, binary string,
	opts ...serverless.OpenOption) error) error {
	events := serverless.WithEvents(func(e serverless.Event) { fmt.Println("event", e.Kind, e.Phase, e.Action, e.Unit) })
	err := f(context.Background(), os.Getenv(serviceEnv), os.Getenv(endpointEnv), os.Getenv(stateEnv),
		os.Getenv(binaryEnv), events)
	if err == nil {
		fmt.Println("done")
	}
	return err
}

// other is another process of this test binary.
type other struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr strings.Builder
}

func startOther(t testing.TB, role string, env ...string) (*other, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &other{cmd: exec.Command(self)}
	o.cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role)...)
	o.cmd.Stderr = &o.stderr
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if o.stdin, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	o.lines = bufio.NewScanner(stdout)
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = o.stdin.Close()
		_ = o.cmd.Process.Kill() // it has ended already, unless the test failed
		_ = o.cmd.Wait()
	})
	return o, nil
}

// line returns the next line that the process prints; empty at the end.
func (o *other) line() string {
	if o.lines.Scan() {
		return o.lines.Text()
	}
	return ""
}

// startPlatform serves a platform in another process, and returns its URL.
func startPlatform(t *testing.T) string {
	t.Helper()
	p, err := startOther(t, "platform")
	if err != nil {
		t.Fatal(err)
	}
	url := p.line()
	if url == "" {
		t.Fatalf("the platform did not start: %v: %s", p.cmd.Wait(), p.stderr.String())
	}
	t.Cleanup(func() {
		_ = p.stdin.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the platform: %v: %s", err, p.stderr.String())
		}
	})
	return url
}
