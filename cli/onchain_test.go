package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
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
