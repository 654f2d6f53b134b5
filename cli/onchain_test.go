package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
)

func TestAServiceOnChainIsRememberedAndItsRunnerIsHeard(t *testing.T) {
	t.Setenv("KEYSTORE_PASSWORD", "canary")
	d := ready(t)
	deploy := []string{"deploy", "--service-id", "7", "--binary", d.binary, "--keystore", "/keys/canary", "--runner-env",
		"KEYSTORE_PASSWORD", "--data-dir", filepath.Join(d.dir, "journal")}
	r := d.do(t.Context(), "", deploy...)
	if r.code != exitOK || !strings.Contains(r.err, "add --run") {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	var services []serverless.ServiceInfo
	d.json(&services, "list")
	if len(services) != 1 || services[0].ServiceID == nil || *services[0].ServiceID != 7 ||
		services[0].DataDir != filepath.Join(d.dir, "journal") {
		t.Errorf("recorded: %+v", services)
	}
	// What is recorded is known, and what is not recorded must be given again.
	r = d.do(t.Context(), "", "deploy", "--service-id", "7")
	if r.code == exitOK || !strings.Contains(r.err, "chain.keystore, runner.KEYSTORE_PASSWORD") ||
		strings.Contains(r.err, "chain.service") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	plan := d.ok("plan", "--service-id", "7", "--keystore", "/keys/canary", "--runner-env", "KEYSTORE_PASSWORD=canary")
	if !strings.Contains(plan, "the runner serves service 7 on chain") || strings.Contains(plan, "canary") ||
		!strings.Contains(plan, "0 to create, 0 to update") {
		t.Errorf("plan: %s", plan)
	}
	status := d.ok("status", "--service-id", "7")
	if strings.Contains(status, "runner") {
		t.Errorf("status without a runner: %s", status)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Blueprint-Service", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "60 blocks behind the chain")
	}))
	t.Cleanup(server.Close)
	address := []byte(strings.TrimPrefix(server.URL, "http://"))
	err := os.MkdirAll(filepath.Join(d.dir, "journal"), 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "journal", "runner-7.addr"), address, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r = d.do(t.Context(), "", "status", "--service-id", "7")
	if r.code != exitUnhealthy || !strings.Contains(r.out, "runner: unhealthy: 60 blocks behind the chain") {
		t.Errorf("exit code %d: %s", r.code, r.out)
	}
	d.ok("deploy", "--service-id", "7", "--drop", "chain.service", "--drop", "chain.keystore", "--drop",
		"runner.KEYSTORE_PASSWORD")
	services = nil
	d.json(&services, "list")
	if services[0].ServiceID != nil {
		t.Errorf("recorded after it was dropped: %+v", services)
	}
	d.ok("undeploy", "--service-id", "7")
}

func TestARunnerOnChainNeedsAServiceAndAKey(t *testing.T) {
	d := ready(t)
	for text, args := range map[string][]string{
		"name the service by --service-id": {"--name", "x", "--keystore", "k"},
		"give --keystore too":              {"--service-id", "7", "--data-dir", "d"},
		"--runner-env NOT_SET_AT_ALL":      {"--service-id", "7", "--runner-env", "NOT_SET_AT_ALL"},
	} {
		r := d.do(t.Context(), "", append([]string{"plan", "--binary", d.binary}, args...)...)
		if r.code != exitUsage || !strings.Contains(r.err, text) {
			t.Errorf("%v: exit code %d: %s", args, r.code, r.err)
		}
	}
}

func TestARunnerTakesJobsFromTheChainUntilCtrlC(t *testing.T) {
	d := newDesk(t)
	words := filepath.Join(d.dir, "target", "release", "words")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", words, "../examples/blueprint/words")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	chain := devchain.New(devchain.Config{})
	t.Cleanup(chain.Close)
	url, err := chain.Node().Listen()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(d.dir, "key")
	if err := os.WriteFile(key, []byte(hex.EncodeToString(devchain.Key(1))), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok("policy", "--serverless", "true", "--faas-provider", "custom", "--faas-custom-endpoint", d.endpoint,
		"--serverless-fallback", "false")
	d.ok("profile", words, "--input", "0=text:hi", "--input", "1=text:hi", "--runs", "1", "--warmups", "0", "-q")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan result, 1)
	go func() {
		ended <- d.do(ctx, "", "deploy", "--service-id", "0", "--blueprint-id", "0", "--binary", words, "--keystore", key,
			"--rpc", url, "--contract", devchain.Contract.String(), "--run")
	}()
	for job, text := range []string{"b a", "b a", "b a"} { // on FaaS twice, and in the runner
		call, err := chain.Submit(0, uint8(job), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for len(chain.Results(0, call)) == 0 {
			select {
			case r := <-ended:
				t.Fatalf("exit code %d: %s", r.code, r.err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		if got := string(chain.Results(0, call)[0].Output); got != []string{"a b", "beedb4a7", "2 words so far"}[job] {
			t.Errorf("job %d: %q", job, got)
		}
	}
	if status := d.do(t.Context(), "", "status", "--service-id", "0"); !strings.Contains(status.out, "runner: healthy") {
		t.Errorf("status: %s%s", status.out, status.err)
	}
	stop()
	if r := <-ended; r.code != exitOK && r.code != exitInterrupted {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	d.ok("undeploy", "--service-id", "0")
	if entries, err := os.ReadDir(filepath.Join(d.dir, "state", "runners", "service-0")); err != nil || len(entries) == 0 {
		t.Errorf("the journal: %v, %v", entries, err)
	}
}
