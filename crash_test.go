package serverless_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	_ "github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

var (
	crashRuns = flag.Int("crash.runs", 20, "how often the crash test kills a deploying process")
	crashSeed = flag.Uint64("crash.seed", 0, "seed of the crash test; 0 is a new one each time")
)

const crashJobs = 20

func crashConfig(endpoint string) serverless.ServerlessConfig {
	p := serverless.DefaultPolicy()
	p.Serverless.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: endpoint}
	p.Serverless.DefaultMemoryMB = 128
	return p.Serverless.Config()
}

func crashService(ctx context.Context, service, endpoint, state, binary string,
	opts ...serverless.DeployOption) (*serverless.Service, error) {
	jobs := make([]uint32, crashJobs)
	for i := range jobs {
		jobs[i] = uint32(i)
	}
	spec := serverless.ServiceSpec{Name: service, BlueprintID: 1, BinaryPath: binary,
		Env: map[string]string{"KEY": canary}}
	return serverless.DeployServerless(ctx, spec, jobs, crashConfig(endpoint),
		append(opts, serverless.WithStateDir(state))...)
}

func deployAll(ctx context.Context, service, endpoint, state, binary string, opts ...serverless.OpenOption) error {
	svc, err := crashService(ctx, service, endpoint, state, binary, deployOptions(opts)...)
	if err != nil {
		return err
	}
	return svc.Close(ctx)
}

func undeployAll(ctx context.Context, service, _, state, _ string, opts ...serverless.OpenOption) error {
	svc, err := serverless.OpenService(ctx, service, append(opts, serverless.WithStateDir(state))...)
	if err != nil {
		return err
	}
	return errors.Join(svc.Undeploy(ctx), svc.Close(ctx))
}

// versions returns two versions of a binary, which answer their index.
func versions(t testing.TB) []string {
	paths := []string{script(t), script(t)}
	for i, path := range paths {
		text := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\necho '{\"result\":[%d]}'\n", i)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// badWeather serves a proxy to the platform, in the sky's weather.
func badWeather(t *testing.T, sky *faastest.Sky, endpoint string) string {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: sky.Transport(base),
		// the connection breaks
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	})
	t.Cleanup(srv.Close)
	return srv.URL
}

// Processes that deploy or remove 20 functions in bad weather are killed at random moments, again
// and again. The ledger must always record all that the platform has, the next run must end in 20
// functions that answer with the code of that run, and a removal must leave nothing. No packages
// may be left among the temporary files. Several services are tested at once, because every
// recovery waits a moment for the requests of the killed process.
func TestADeployingProcessMayBeKilledAtAnyMoment(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	endpoint, binaries, state := startPlatform(t), versions(t), filepath.Join(t.TempDir(), "state")
	const services = 10
	var wg sync.WaitGroup
	var killed atomic.Int32
	for i := range services {
		wg.Go(func() {
			sky := faastest.NewSky(seed + uint64(i))
			c := &crasher{
				t: t, service: fmt.Sprintf("crash%d", i), sky: sky, endpoint: badWeather(t, sky, endpoint), state: state,
				binaries: binaries,
				rng:      rand.New(rand.NewPCG(seed, uint64(i))),
			}
			var err error
			for n := i; n < *crashRuns && err == nil; n += services {
				var dead bool
				if dead, err = c.crash(); dead {
					killed.Add(1)
				}
			}
			if err == nil {
				err = c.undeploy()
			}
			if err != nil {
				t.Errorf("%s: %v", c.service, err)
			}
		})
	}
	wg.Wait()
	last := &crasher{t: t, service: "crash0", endpoint: endpoint, state: state, binaries: binaries}
	if err := errors.Join(last.deploy(0), last.undeploy()); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "blueprint-package-*")); err != nil || len(left) > 0 {
		t.Errorf("packages of processes that were killed are left after one more deployment: %v, %v", left, err)
	}
	// A process that is killed in its very first write leaves the beginning of a ledger under another
	// name, which the next first write overwrites.
	if files, err := filepath.Glob(filepath.Join(state, "*.ledger")); err != nil || len(files) > 0 {
		t.Errorf("left in the state directory: %v, %v", files, err)
	}
	t.Logf("%d of %d processes were killed before they had ended; seed %d", killed.Load(), *crashRuns, seed)
}

// crasher crashes one service.
type crasher struct {
	t        *testing.T
	service  string
	sky      *faastest.Sky // between this machine and the platform; bad only while a process is to be killed
	endpoint string
	state    string
	binaries []string
	rng      *rand.Rand
}

// crash kills a process, and usually puts right what it left. It reports whether the process was
// killed before it had ended.
func (c *crasher) crash() (killed bool, err error) {
	role, events := "deploy", 4+4*crashJobs // observed and changed, with a start and an end each
	there, err := c.functions()
	if err != nil {
		return false, err
	}
	if len(there) > 0 && c.rng.IntN(3) == 0 {
		role, events = "undeploy", 2*crashJobs
	}
	c.sky.Set(c.rng.IntN(3) != 0)
	killed, err = c.run(role, c.rng.IntN(2), c.rng.IntN(events), time.Duration(c.rng.IntN(3000))*time.Microsecond)
	if len(c.sky.Told()) > 0 {
		err = nil // a process that was not killed may have failed
	}
	c.sky.Set(false)
	if err == nil {
		err = c.mustKnowAll()
	}
	if err != nil {
		return killed, err
	}
	switch c.rng.IntN(12) {
	case 0, 1, 2: // the next crash happens on top of this one
	case 3, 4, 5:
		err = c.undeploy()
	default:
		err = c.deploy(c.rng.IntN(2))
	}
	return killed, err
}

// run starts another process for an operation, and kills it a while after its event number killAt.
// It reports whether the process was killed before it had ended.
func (c *crasher) run(role string, version, killAt int, after time.Duration) (killed bool, err error) {
	o, err := startOther(c.t, role, serviceEnv+"="+c.service, endpointEnv+"="+c.endpoint, stateEnv+"="+c.state,
		binaryEnv+"="+c.binaries[version])
	if err != nil {
		return false, err
	}
	for events, line := 0, o.line(); line != ""; events, line = events+1, o.line() {
		if events == killAt {
			time.Sleep(after) // a random moment, not a state to wait for
			if err := o.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return false, err
			}
		}
	}
	err = o.cmd.Wait()
	if o.stderr.Len() > 0 {
		return false, fmt.Errorf("%s: %w: %s", role, err, o.stderr.String())
	}
	return err != nil, nil
}

// functions returns the ids that the platform has of the service.
func (c *crasher) functions() (ids []string, err error) {
	cfg := crashConfig(c.endpoint).Provider
	cfg.Service = c.service
	exec, err := faas.Open(c.t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	states, err := exec.List(c.t.Context())
	for _, s := range states {
		ids = append(ids, s.ID)
	}
	return ids, errors.Join(err, exec.Close())
}

// recorded returns the ids that the ledger has, and whether there is a ledger.
func (c *crasher) recorded() (ids []string, exists bool, err error) {
	infos, err := serverless.ListServices(c.state)
	for _, info := range infos {
		if info.Name != c.service {
			continue
		}
		exists = true
		for _, u := range info.Units {
			ids = append(ids, u.ID)
		}
	}
	return ids, exists, err
}

func (c *crasher) mustKnowAll() error {
	there, err := c.functions() // before the ledger, which must record everything before it exists
	if err != nil {
		return err
	}
	ids, _, err := c.recorded()
	for _, id := range there {
		if !slices.Contains(ids, id) {
			err = errors.Join(err, fmt.Errorf("%s exists and the ledger does not know it", id))
		}
	}
	return err
}

func (c *crasher) deploy(version int) error {
	ctx := c.t.Context()
	svc, err := crashService(ctx, c.service, c.endpoint, c.state, c.binaries[version])
	if err != nil {
		return err
	}
	errs := make([]error, crashJobs)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			result, err := svc.Invoke(ctx, uint32(i), nil)
			switch {
			case err != nil:
				errs[i] = fmt.Errorf("job %d does not answer: %w", i, err)
			case string(result.Output) != string([]byte{byte(version)}):
				errs[i] = fmt.Errorf("job %d answers %v, want the code of version %d", i, result.Output, version)
			}
		})
	}
	wg.Wait()
	ids, _, err := c.recorded()
	errs = append(errs, err)
	if len(ids) != crashJobs {
		errs = append(errs, fmt.Errorf("%d functions in the ledger, want %d", len(ids), crashJobs))
	}
	drift, err := svc.Diff(ctx)
	errs = append(errs, err)
	if err == nil && !drift.None() {
		errs = append(errs, fmt.Errorf("ledger and platform differ: %+v", drift))
	}
	return errors.Join(append(errs, svc.Close(ctx))...)
}

func (c *crasher) undeploy() error {
	if err := undeployAll(c.t.Context(), c.service, "", c.state, ""); err != nil && !errors.Is(err, faas.ErrNotFound) {
		return err
	}
	left, err := c.functions()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left at the platform: %v", left)
	}
	ids, exists, rerr := c.recorded()
	if exists {
		err = errors.Join(err, fmt.Errorf("there is still a ledger, with %v", ids))
	}
	return errors.Join(err, rerr)
}

func TestTwoProcessesDeployOneServiceOneAfterTheOther(t *testing.T) {
	p, err := platform.New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	arrived, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut { // holds the first process in the middle of its deployment
			once.Do(func() { close(arrived) })
			<-proceed
		}
		p.ServeHTTP(w, r)
	}))
	defer srv.Close()
	state, binary := t.TempDir(), script(t)
	first, err := startOther(t, "deploy", serviceEnv+"=crash", endpointEnv+"="+srv.URL, stateEnv+"="+state,
		binaryEnv+"="+binary)
	if err != nil {
		t.Fatal(err)
	}
	var unblock sync.Once
	defer unblock.Do(func() { close(proceed) })
	go func() {
		for first.line() != "" {
		}
	}()
	<-arrived

	_, err = crashService(t.Context(), "crash", srv.URL, state, binary, serverless.WithoutWaiting())
	if !errors.Is(err, faas.ErrConflict) || !strings.Contains(err.Error(), `"crash"`) {
		t.Errorf("without waiting: %v, want a conflict that names the service", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = crashService(ctx, "crash", srv.URL, state, binary); !errors.Is(err, faas.ErrTimeout) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for too long: %v, want a timeout", err)
	}

	waited := make(chan error, 1)
	go func() {
		svc, err := crashService(t.Context(), "crash", srv.URL, state, binary)
		if err == nil {
			for _, d := range svc.Deployments() {
				if d.Action != serverless.ActionKeep {
					err = errors.Join(err, fmt.Errorf("job %d: %s, want that what the first process deployed is kept", d.JobID,
						d.Action))
				}
			}
			err = errors.Join(err, svc.Undeploy(t.Context()))
		}
		waited <- err
	}()
	unblock.Do(func() { close(proceed) })
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := first.cmd.Wait(); err != nil {
		t.Errorf("the first process: %v: %s", err, first.stderr.String())
	}
}
