//go:build linux || darwin

package ec2

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

const secretNode = "https://node.example/v3/canary"

// chainSpec returns a spec of service 5 on chain.
func chainSpec(t testing.TB, l *ledger) orchestrator.Spec {
	t.Helper()
	spec := runnerSpec(t, l)
	spec.Chain = &orchestrator.Chain{ServiceID: 5, LocalDataDir: "/home/me/state/svc"}
	spec.RunnerEnv = faas.NewEnv(map[string]string{"SERVICE_ID": "5", "HTTP_RPC_URL": "https://node.example"})
	return spec
}

// shell runs a script and returns what it prints.
func shell(t testing.TB, script string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Stdin, cmd.Env = strings.NewReader(script), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestARunnerOnChainStartsWithItsKeyAndItsSecrets(t *testing.T) {
	c := Config{Region: "eu-west-1", KeyParameter: "/blueprint/key", EnvParameter: "/blueprint/env"}
	spec := chainSpec(t, &ledger{})
	home := t.TempDir()
	spec.Chain.DataDir = filepath.Join(home, "data")
	spec.Env = faas.NewEnv(map[string]string{"LEVEL": "of all"})
	spec.RunnerEnv = faas.NewEnv(map[string]string{
		"SERVICE_ID": "5", "HTTP_RPC_URL": secretNode, "LEVEL": "of the runner"})
	data, err := c.userData(spec, "https://example.com")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", data).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	start, err := c.startScript(spec)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(start, "canary") {
		t.Error("the URL is in the user data")
	}
	// A stand-in for the AWS command-line tool shows how it was called, and answers.
	aws := `#!/bin/sh
echo "$*" >>"$HOME_OF_TEST/called"
case "$*" in
*/blueprint/key*) echo 0123abcd ;;
*) printf 'HTTP_RPC_URL=` + secretNode + `\n# a comment\n\nQUOTED=a "b" $HOME '"'c'"'\nKEYSTORE_PASSWORD=pass=word' ;;
esac
`
	if err := os.WriteFile(filepath.Join(home, "aws"), []byte(aws), 0o755); err != nil {
		t.Fatal(err)
	}
	const shown = `printf '%s\n' "$SERVICE_ID" "$HTTP_RPC_URL" "$QUOTED" "$KEYSTORE_PASSWORD" "$LEVEL" "$DATA_DIR" ` +
		`"$(cat "$KEYSTORE_URI")" "$(cat "$BLUEPRINT_KEYSTORE_URI")"; exit; `
	script := strings.Replace(start, "exec /opt", shown+"/opt", 1)
	env := []string{"PATH=" + home + ":" + os.Getenv("PATH"), "HOME_OF_TEST=" + home, "RUNTIME_DIRECTORY=" + home}
	out, err := shell(t, script, env...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := strings.Join([]string{"5", secretNode, `a "b" $HOME 'c'`, "pass=word", "of the runner", spec.Chain.DataDir,
		"0123abcd", "0123abcd", ""}, "\n")
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("the runner's environment (-want +got):\n%s", diff)
	}
	const call = "ssm get-parameter --region eu-west-1 --with-decryption --name %s --query Parameter.Value --output text\n"
	called, err := os.ReadFile(filepath.Join(home, "called"))
	if err != nil || string(called) != fmt.Sprintf(call, "/blueprint/key")+fmt.Sprintf(call, "/blueprint/env") {
		t.Errorf("calls %s, %v", called, err)
	}
	for path, mode := range map[string]os.FileMode{"key": 0o600, "data": 0o700} {
		if info, err := os.Stat(filepath.Join(home, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "env")); !os.IsNotExist(err) {
		t.Errorf("the file with the secrets: %v", err)
	}
	broken := strings.Replace(aws, "# a comment", "not a variable", 1)
	for _, tool := range []string{broken, "#!/bin/sh\nexit 254\n"} {
		if err := os.WriteFile(filepath.Join(home, "aws"), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := shell(t, script, env...); err == nil || strings.Contains(out, "canary") {
			t.Errorf("a parameter that cannot be read: %v, %s", err, out)
		}
	}
}

func TestTheConsoleTellsTheRunnersHealth(t *testing.T) {
	answer := func(status int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintln(w, text)
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	for name, tt := range map[string]struct {
		address, want string // of the reason; none if it is healthy
	}{
		"healthy":           {answer(200, "healthy"), ""},
		"behind":            {answer(503, "70 blocks behind\x1b the chain"), "70 blocks behind  the chain"},
		"nothing listens":   {"127.0.0.1:1", "does not answer"},
		"no endpoint":       {"", "says nothing"},
		"not on loopback":   {"192.0.2.1:80", "says nothing"},
		"not an address $(": {"127.0.0.1:$(exit 3)\n", "does not answer"},
	} {
		file := filepath.Join(t.TempDir(), "it's runner-5.addr")
		if tt.address != "" {
			if err := os.WriteFile(file, []byte(tt.address+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		script := strings.ReplaceAll(strings.Replace(healthScript, "sleep 15", "exit", 1), "@FILE@", quote(file))
		out, err := shell(t, script)
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		h := healthOf("[    1.0] blueprint[7]: " + healthMark + "2026-01-01T00:00:00Z 503 of old\n[    2.0] health[9]: " +
			out)
		if h.Healthy != (tt.want == "") || !strings.Contains(strings.Join(strings.Fields(h.Reason), " "),
			strings.Join(strings.Fields(tt.want), " ")) || strings.Contains(h.Reason, "of old") {
			t.Errorf("%s: %+v of %q, want %q", name, h, out, tt.want)
		}
	}
	if h := healthOf("booting"); !h.Healthy {
		t.Errorf("a console that says nothing: %+v", h)
	}
}

func TestTheHealthOfAMachineIsThatOfItsRunner(t *testing.T) {
	cloud := newCloud(t)
	l := &ledger{}
	o := open(t, func(c *Config) { c.KeyParameter = "/blueprint/key" })
	r, err := o.Start(t.Context(), chainSpec(t, l))
	if err != nil {
		t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(cloud.machines[0].launch.Get("UserData"))
	if err != nil || !strings.Contains(string(data), "blueprint-health.service") ||
		strings.Contains(string(data), "/home/me") {
		t.Errorf("user data %s, %v", data, err)
	}
	if h, err := r.Health(t.Context()); err != nil || !h.Healthy {
		t.Errorf("%+v, %v", h, err)
	}
	cloud.console = "booting\r\n[   70.1] health[12]: " + healthMark + "2026-12-01T05:00:00Z 503 no node can be used: \r\n"
	again, err := o.Attach(t.Context(), l.refs[len(l.refs)-1])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []orchestrator.Runner{r, again} {
		h, err := r.Health(t.Context())
		if err != nil || h.Healthy || h.Reason != "no node can be used: (since 2026-12-01T05:00:00Z)" {
			t.Errorf("%+v, %v", h, err)
		}
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAChangeOfWhatTheMachineReadsReplacesIt(t *testing.T) {
	newCloud(t)
	identity := func(change func(*Config, *orchestrator.Spec)) string {
		spec := chainSpec(t, &ledger{})
		spec.Binary.SHA256 = "the same"
		o := open(t, func(c *Config) {
			c.KeyParameter = "/blueprint/key"
			change(c, &spec)
		})
		runs, err := o.check(spec)
		if err != nil {
			t.Fatal(err)
		}
		return runs
	}
	was := identity(func(*Config, *orchestrator.Spec) {})
	if again := identity(func(*Config, *orchestrator.Spec) {}); again != was {
		t.Error("the same is another machine")
	}
	for name, change := range map[string]func(*Config, *orchestrator.Spec){
		"key":         func(c *Config, _ *orchestrator.Spec) { c.KeyParameter = "/other" },
		"environment": func(c *Config, _ *orchestrator.Spec) { c.EnvParameter = "/other" },
		"journal":     func(_ *Config, s *orchestrator.Spec) { s.Chain.DataDir = "/mnt" },
		"variable": func(_ *Config, s *orchestrator.Spec) {
			s.RunnerEnv = faas.NewEnv(map[string]string{"HTTP_RPC_URL": "https://other.example"})
		},
	} {
		if identity(change) == was {
			t.Errorf("another %s is the same machine", name)
		}
	}
}

func TestARunnerWithoutAKeyOrWithOpenSecretsIsRefused(t *testing.T) {
	cloud := newCloud(t)
	for text, change := range map[string]func(*Config, map[string]string){
		"no key":                  func(c *Config, _ map[string]string) { c.KeyParameter = "" },
		"give one":                func(_ *Config, env map[string]string) { env["KEYSTORE_URI"] = "/keys" },
		"no node":                 func(_ *Config, env map[string]string) { delete(env, "HTTP_RPC_URL") },
		"has HTTP_RPC_URL, which": func(_ *Config, env map[string]string) { env["HTTP_RPC_URL"] = "http://a," + secretNode },
		"has KEYSTORE_PASSWORD":   func(_ *Config, env map[string]string) { env["KEYSTORE_PASSWORD"] = "canary" },
	} {
		l := &ledger{}
		spec := chainSpec(t, l)
		env := spec.RunnerEnv.Reveal()
		o := open(t, func(c *Config) {
			c.KeyParameter = "/blueprint/key"
			change(c, env)
		})
		spec.RunnerEnv = faas.NewEnv(env)
		_, err := o.Start(t.Context(), spec)
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), text) ||
			strings.Contains(err.Error(), "canary") {
			t.Errorf("error %v, want %q", err, text)
		}
	}
	if len(cloud.actions) > 0 {
		t.Errorf("calls: %v", cloud.actions)
	}
}
