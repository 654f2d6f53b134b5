package runner_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// The jobs of testdata/blueprint.
const (
	upper = iota
	fails
	counts
	prints
)

// The development accounts: member is one of service 0 of the development chain, newcomer is only
// staked.
const (
	member   = 1
	newcomer = 4
)

var (
	buildOnce  sync.Once
	binaryPath string
	buildErr   error
)

// binary builds testdata/blueprint once.
func binary(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		var dir string
		if dir, buildErr = os.MkdirTemp("", "blueprint"); buildErr != nil {
			return
		}
		binaryPath = filepath.Join(dir, "blueprint")
		if runtime.GOOS == "windows" {
			binaryPath += ".exe"
		}
		args := []string{"build", "-o", binaryPath}
		if raceEnabled {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "./testdata/blueprint")...).CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("%w: %s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return binaryPath
}

// program is a started test binary.
type program struct {
	*exec.Cmd
	stdout, stderr tail
	ended          chan struct{} // closed once it has ended
	err            error         // of Wait
}

// tail is a buffer that may be read while a process writes to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// command is the test binary with nothing of this process's environment but what any process needs.
func command(t *testing.T, env map[string]string, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(binary(t), args...), ended: make(chan struct{})}
	p.Dir, p.Stdout, p.Stderr = t.TempDir(), &p.stdout, &p.stderr
	for _, kept := range os.Environ() {
		if name, _, _ := strings.Cut(kept, "="); name == "GOCOVERDIR" || name == "SYSTEMROOT" || name == "TMPDIR" {
			p.Env = append(p.Env, kept)
		}
	}
	for name, value := range env {
		p.Env = append(p.Env, name+"="+value)
	}
	return p
}

// run runs the program to its end, and returns the exit code.
func (p *program) run(t *testing.T) int {
	t.Helper()
	p.begin(t)
	return p.end(t)
}

func (p *program) begin(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("stdout: %s\nstderr: %s", p.stdout.String(), p.stderr.String())
		}
	})
}

// end waits for the end, and returns the exit code.
func (p *program) end(t *testing.T) int {
	t.Helper()
	<-p.ended
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.ProcessState.ExitCode()
}

// await waits for a state of a running program, and fails when the program has ended or the test
// run itself is out of patience.
func (p *program) await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	await(t, what, func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the program ended while it was waited for %s", what)
		default:
		}
		return reached()
	})
}

// await waits for a state.
func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("waited a minute for %s", what)
}

// devnet is a development chain with a node, and what the ecosystem's manager would tell a runner
// of its service 0.
type devnet struct {
	*devchain.Chain
	node    *devchain.Node
	url     string
	env     map[string]string
	service uint64
}

func startChain(t *testing.T, account int) *devnet {
	t.Helper()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	node := c.Node()
	url, err := node.Listen()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(hex.EncodeToString(devchain.Key(account))), 0o600); err != nil {
		t.Fatal(err)
	}
	return &devnet{Chain: c, node: node, url: url, env: map[string]string{
		"HTTP_RPC_URL": url, "WS_RPC_URL": "ws://127.0.0.1:1", "KEYSTORE_URI": "file://" + key,
		"DATA_DIR": filepath.Join(dir, "data"), "BLUEPRINT_ID": "0", "SERVICE_ID": "0", "PROTOCOL": "tangle",
		"CHAIN": "local_testnet", "TANGLE_CONTRACT": devchain.Contract.String(),
		"STATUS_REGISTRY_CONTRACT": "0x0000000000000000000000000000000000000000",
	}}
}

// with returns the environment with changes.
func (d *devnet) with(changes ...string) map[string]string {
	env := map[string]string{}
	for name, value := range d.env {
		env[name] = value
	}
	for i := 0; i < len(changes); i += 2 {
		env[changes[i]] = changes[i+1]
	}
	return env
}

// addressFile is where a runner of the service writes where it answers about its health.
func (d *devnet) addressFile() string {
	return filepath.Join(d.env["DATA_DIR"], fmt.Sprintf("runner-%d.addr", d.service))
}

func (d *devnet) submit(t *testing.T, job uint8, inputs string) uint64 {
	t.Helper()
	call, err := d.Submit(d.service, job, []byte(inputs))
	if err != nil {
		t.Fatal(err)
	}
	return call
}

// answer waits for the result of a call.
func (d *devnet) answer(t *testing.T, p *program, call uint64) string {
	t.Helper()
	p.await(t, fmt.Sprintf("the result of call %d", call), func() bool { return len(d.Results(d.service, call)) > 0 })
	return string(d.Results(d.service, call)[0].Output)
}

func TestAProgramWithoutEnvironmentSaysWhatItNeeds(t *testing.T) {
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"run"}, 2, "", "BLUEPRINT_ID is not set: whole number\n  SERVICE_ID is not set"},
		{[]string{"run", "--nonsense"}, 2, "", "known: --dry-run, --help, --pretty, --test-mode, -v, -vv"},
		{[]string{"start"}, 2, "", "(known: run, --help, --version)"},
		{[]string{"--help"}, 0, "BLUEPRINT_FAAS_CONFIG ", ""},
		{[]string{"--version"}, 0, "blueprint", ""},
	} {
		p := command(t, nil, tt.args...)
		if code := p.run(t); code != tt.code || !strings.Contains(p.stdout.String(), tt.stdout) ||
			!strings.Contains(p.stderr.String(), tt.stderr) || tt.stderr == "" && p.stderr.String() != "" ||
			tt.stdout == "" && p.stdout.String() != "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", tt.args, code, p.stdout.String(), p.stderr.String())
		}
	}
}

func TestAProgramWithoutArgumentsAnswersOneRequest(t *testing.T) {
	p := command(t, map[string]string{"SERVICE_ID": "0"})
	p.Stdin = bytes.NewReader(faas.AppendRequest(nil, upper, []byte("hello")))
	code := p.run(t)
	var response faas.Response
	if err := faas.ParseResponse([]byte(p.stdout.String()), &response); err != nil || code != 0 ||
		string(response.Result) != "HELLO" {
		t.Errorf("exit %d, %+v, %v", code, response, err)
	}
}

func TestAProviderThatIsNotLinkedNamesTheImport(t *testing.T) {
	d := startChain(t, member)
	p := command(t, d.with("BLUEPRINT_FAAS_CONFIG",
		`{"0":{"provider":"aws-lambda","function_id":"f","service":"s"}}`), "run")
	if code := p.run(t); code != 2 || !strings.Contains(p.stderr.String(), `import _ \"github.com/`) &&
		!strings.Contains(p.stderr.String(), `import _ "github.com/`) {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
}

func TestADryRunSaysWhatWouldBeDoneAndSendsNothing(t *testing.T) {
	d := startChain(t, member)
	d.submit(t, upper, "x")
	sent := len(d.Mined())
	p := command(t, d.env, "run", "--dry-run")
	if code := p.run(t); code != 0 {
		t.Fatalf("exit %d", code)
	}
	for _, want := range []string{
		"operator     " + devchain.Account(member).String(), "contract     " + devchain.Contract.String() + " on chain 31337",
		"node         " + d.url + ": block ", "blueprint    0, for which the operator is registered", "balance      1",
		"service      0 of blueprint 0, active, of which the operator is a member", "job          0 runs here",
		"open         1 of 1 calls: 0",
	} {
		if !strings.Contains(p.stdout.String(), want+"") {
			t.Errorf("%q is missing", want)
		}
	}
	if n := len(d.Mined()); n != sent || len(d.Pooled()) != 0 {
		t.Errorf("%d transactions were sent", n-sent+len(d.Pooled()))
	}
	if _, err := os.Stat(d.env["DATA_DIR"]); !os.IsNotExist(err) {
		t.Errorf("the data directory was made: %v", err)
	}
}

func TestTheManagersRegistration(t *testing.T) {
	for _, tt := range []struct {
		name    string
		changes []string
		file    string // what it holds
		done    bool   // the operator is registered
	}{
		{"without inputs", nil, "\x00", true},
		{"with inputs", []string{"TEST_INPUTS", "some inputs"}, "some inputs", true},
		{"captured only", []string{"TEST_INPUTS", "some inputs", "REGISTRATION_CAPTURE_ONLY", "true"}, "some inputs", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := startChain(t, newcomer)
			d.Stake(devchain.Account(newcomer), true)
			output := filepath.Join(d.env["DATA_DIR"], "registration_inputs.bin")
			env := d.with(append([]string{"REGISTRATION_MODE_ON", "true", "REGISTRATION_OUTPUT_PATH", output}, tt.changes...)...)
			p := command(t, env, "run")
			if code := p.run(t); code != 0 {
				t.Errorf("exit %d", code)
			}
			if text, err := os.ReadFile(output); err != nil || string(text) != tt.file {
				t.Errorf("the file holds %q (%v), want %q", text, err, tt.file)
			}
			if got := d.Registered(0, devchain.Account(newcomer)); got != tt.done {
				t.Errorf("registered: %v, want %v", got, tt.done)
			}
			if p = command(t, env, "run"); p.run(t) != 0 { // registered already
				t.Error("a second registration fails")
			}
			if n := len(d.Mined(devchain.Account(newcomer))); n > 1 {
				t.Errorf("%d transactions were sent", n)
			}
		})
	}
}

func TestAnOperatorThatIsNotRegisteredIsRegisteredFirst(t *testing.T) {
	d := startChain(t, newcomer)
	d.Stake(devchain.Account(newcomer), true)
	p := command(t, d.with("TEST_INPUTS", "x", "BLUEPRINT_OPERATOR_URL", "https://operator.example"), "run", "--test-mode")
	if code := p.run(t); code != 0 || !d.Registered(0, devchain.Account(newcomer)) {
		t.Errorf("exit %d, registered %v", code, d.Registered(0, devchain.Account(newcomer)))
	}
	mined := d.Mined(devchain.Account(newcomer))
	if len(mined) != 1 || !bytes.Contains(mined[0].Data, []byte("https://operator.example")) ||
		bytes.Contains(mined[0].Data, []byte(d.url)) {
		t.Errorf("sent %+v", mined)
	}
}

func TestARegistrationThatIsRefusedSaysWhy(t *testing.T) {
	d := startChain(t, newcomer)
	d.Stake(devchain.Account(newcomer), false)
	p := command(t, d.env, "run", "--test-mode")
	if code := p.run(t); code != 1 || !strings.Contains(p.stderr.String(), "OperatorNotActive") {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
}

// health asks a runner by the address in its data directory.
func health(t *testing.T, d *devnet, path string) (int, string) {
	t.Helper()
	addr, err := os.ReadFile(d.addressFile())
	if err != nil {
		return 0, ""
	}
	resp, err := http.Get("http://" + strings.TrimSpace(string(addr)) + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The whole way: a call on the chain, the handler, the result on the chain, health, and a stop.
func TestARunnerAnswersTheCallsOfItsService(t *testing.T) {
	d := startChain(t, member)
	before := d.submit(t, upper, "before")
	p := command(t, d.env, "run", "--test-mode", "--pretty", "-vv")
	p.begin(t)
	if got := d.answer(t, p, before); got != "BEFORE" {
		t.Errorf("got %q", got)
	}
	failing := d.submit(t, fails, "")
	printing := d.submit(t, prints, "kept")
	if got := d.answer(t, p, printing); got != "kept" {
		t.Errorf("got %q", got)
	}
	p.await(t, "health", func() bool { code, _ := health(t, d, "/healthz"); return code == http.StatusOK })
	var status runner.Status
	p.await(t, "all outcomes in the status", func() bool {
		_, text := health(t, d, "/status")
		return json.Unmarshal([]byte(text), &status) == nil && status.Outcomes[runner.JobFailed] == 1 &&
			status.Outcomes[runner.Done] == 2
	})
	if status.Balance == nil || status.Operator != devchain.Account(member).String() {
		t.Errorf("status %+v", status)
	}
	if _, text := health(t, d, "/metrics"); !strings.Contains(text, `outcome="done"} `) {
		t.Errorf("metrics: %s", text)
	}
	if n := len(d.Results(0, failing)); n != 0 {
		t.Errorf("the failed job has %d results", n)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	if code, _ := health(t, d, "/healthz"); code != 0 {
		t.Error("the address file is still there")
	}
}

func TestAServiceThatIsOverEndsItsRunner(t *testing.T) {
	d := startChain(t, member)
	p := command(t, d.env, "run", "--test-mode")
	p.begin(t)
	p.await(t, "health", func() bool { code, _ := health(t, d, "/healthz"); return code == http.StatusOK })
	if err := d.Terminate(0); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestTwoRunnersDoNotShareADirectory(t *testing.T) {
	d := startChain(t, member)
	p := command(t, d.env, "run", "--test-mode")
	p.begin(t)
	p.await(t, "health", func() bool { code, _ := health(t, d, "/healthz"); return code == http.StatusOK })
	second := command(t, d.env, "run", "--test-mode")
	if code := second.run(t); code != 1 || !strings.Contains(second.stderr.String(), "another runner") {
		t.Errorf("exit %d: %s", code, second.stderr.String())
	}
	if code, _ := health(t, d, "/healthz"); code != http.StatusOK {
		t.Error("the address of the first runner is lost")
	}
}

// post asks a runner to do something, and returns the status.
func post(t *testing.T, d *devnet, path string) int {
	t.Helper()
	addr, err := os.ReadFile(d.addressFile())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+strings.TrimSpace(string(addr))+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Blueprint-Runner", "test")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestWhatAnOperatorMayAskOfARunner(t *testing.T) {
	d := startChain(t, member)
	blueprint := d.AddBlueprint(devchain.Blueprint{Rate: big.NewInt(1e15), Definition: tangle.Definition{
		Jobs: make([]tangle.Job, 4)}})
	d.service = d.AddService(devchain.Service{Blueprint: blueprint, PerJob: true})
	d.env["BLUEPRINT_ID"], d.env["SERVICE_ID"] = fmt.Sprint(blueprint), fmt.Sprint(d.service)
	p := command(t, d.env, "run", "--test-mode", "--pretty")
	p.begin(t)
	failing := d.submit(t, fails, "")
	var status runner.Status
	failures := func(n uint64) func() bool {
		return func() bool {
			_, text := health(t, d, "/status")
			return json.Unmarshal([]byte(text), &status) == nil && status.Outcomes[runner.JobFailed] == n
		}
	}
	p.await(t, "the job's failure", failures(1))
	if code := post(t, d, fmt.Sprintf("/retry?call=%d", failing)); code != http.StatusAccepted {
		t.Errorf("a retry is answered with %d", code)
	}
	p.await(t, "the second failure", func() bool {
		return strings.Count(p.stderr.String(), "no luck") == 2
	})
	if code := post(t, d, "/retry?call=77"); code != http.StatusNotFound {
		t.Errorf("a retry of no call is answered with %d", code)
	}
	if code := post(t, d, "/claim"); code != http.StatusNotFound {
		t.Errorf("a claim of nothing is answered with %d", code)
	}
	d.answer(t, p, d.submit(t, upper, "x"))
	if d.Rewards(devchain.Account(member)).Sign() == 0 {
		t.Fatal("the result earned nothing")
	}
	if code := post(t, d, "/claim"); code != http.StatusAccepted {
		t.Errorf("a claim is answered with %d", code)
	}
	if rewards := d.Rewards(devchain.Account(member)); rewards.Sign() != 0 {
		t.Errorf("%s wei are left after the claim", rewards)
	}
}

func TestHeartbeatsBeginWithTheRunnerAndEndWithIt(t *testing.T) {
	const healthy, offline = 0, 2
	d := startChain(t, member)
	p := command(t, d.with("TEST_HEARTBEATS", "1"), "run", "--test-mode", "-vv", "--pretty")
	p.begin(t)
	p.await(t, "a heartbeat", func() bool {
		beats, _, status := d.Beats(0, devchain.Account(member))
		return beats == 1 && status == healthy
	})
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, _, status := d.Beats(0, devchain.Account(member)); status != offline {
		t.Errorf("the registry says %d, want %d", status, offline)
	}
}

// A host is served while no node answers.
func TestTheHostIsAnsweredWithoutANode(t *testing.T) {
	d := startChain(t, member)
	b, err := faas.InspectBinary(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	orc := &orchestrator.Local{Dir: t.TempDir()}
	r, err := orc.Start(t.Context(), orchestrator.Spec{Service: "svc", Binary: b, Args: []string{"run", "--test-mode"},
		Env: faas.NewEnv(d.with("HTTP_RPC_URL", "http://127.0.0.1:1")), LocalJobs: []uint32{upper},
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	result, err := r.Invoke(t.Context(), upper, []byte("x"))
	if err != nil || string(result.Output) != "X" {
		t.Errorf("got %+v, %v", result, err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNobodyIsRegisteredForTheWrongBlueprint(t *testing.T) {
	d := startChain(t, member)
	other := d.AddBlueprint(devchain.Blueprint{})
	p := command(t, d.with("BLUEPRINT_ID", fmt.Sprint(other)), "run", "--test-mode")
	p.begin(t)
	d.answer(t, p, d.submit(t, upper, "x"))
	if d.Registered(other, devchain.Account(member)) {
		t.Error("the operator is registered")
	}
	if !strings.Contains(p.stderr.String(), fmt.Sprintf("service 0 is of blueprint 0, and not of %d", other)) {
		t.Error("nobody is told")
	}
}

// Nothing that a runner writes or answers holds a secret, an input or an output.
func TestSecretsStayWithTheRunner(t *testing.T) {
	const secret, input = "s3cr3t", "confidential"
	d := startChain(t, member)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/"+secret {
			http.Error(w, "no key", http.StatusUnauthorized)
			return
		}
		d.node.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	dead := "http://user:" + secret + "@127.0.0.1:1/" + secret
	env := d.with("HTTP_RPC_URL", dead+","+proxy.URL+"/v2/"+secret, "KEYSTORE_PASSWORD", secret)
	dry := command(t, env, "run", "--dry-run")
	dry.run(t)
	p := command(t, env, "run", "--test-mode", "-vv")
	p.begin(t)
	if got := d.answer(t, p, d.submit(t, upper, input)); got != strings.ToUpper(input) {
		t.Errorf("got %q", got)
	}
	d.submit(t, fails, input)
	p.await(t, "the failed job", func() bool { return strings.Contains(p.stderr.String(), "no luck") })
	_, status := health(t, d, "/status")
	_, metrics := health(t, d, "/metrics")
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	key := hex.EncodeToString(devchain.Key(member))
	for name, text := range map[string]string{
		"the log": p.stderr.String(), "standard output": p.stdout.String(), "status": status, "metrics": metrics,
		"the dry run": dry.stdout.String() + dry.stderr.String(),
	} {
		for _, hidden := range []string{secret, input, strings.ToUpper(input), key, hex.EncodeToString([]byte(input))} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(hidden)) {
				t.Errorf("%q is in %s: %s", hidden, name, text)
			}
		}
	}
	if !strings.Contains(dry.stdout.String(), "http://127.0.0.1:1: ") {
		t.Errorf("the dry run does not tell of the dead node")
	}
}

// serveManager is the manager's bridge. It returns its socket and the paths that were called.
func serveManager(t *testing.T) (socket string, pings chan string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bridge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, pings = filepath.Join(dir, "socket"), make(chan string, 10)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &protocols, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pings <- r.URL.Path
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "0")
		})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return socket, pings
}

// A registration is over before a ping on the side would be answered.
func TestARegistrationPingsTheManagersBridge(t *testing.T) {
	socket, pings := serveManager(t)
	d := startChain(t, newcomer)
	p := command(t, d.with("BRIDGE_SOCKET_PATH", socket, "REGISTRATION_MODE_ON", "1", "REGISTRATION_CAPTURE_ONLY", "1"),
		"run")
	if code := p.run(t); code != 0 || len(pings) != 1 {
		t.Errorf("exit %d after %d pings", code, len(pings))
	}
}

// A host that started the runner and ends its input wants it to stop.
func TestTheEndOfTheHostsInputStopsTheRunner(t *testing.T) {
	d := startChain(t, member)
	p := command(t, d.with(frame.Env, frame.Offer()), "run", "--test-mode")
	input, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.begin(t)
	p.await(t, "health", func() bool { code, _ := health(t, d, "/healthz"); return code == http.StatusOK })
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	ended := false
	await(t, "the end of the program", func() bool {
		select {
		case <-p.ended:
			ended = true
		default:
		}
		return ended
	})
	if code := p.end(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// The manager's bridge is pinged, and not in test mode.
func TestTheManagersBridgeIsPinged(t *testing.T) {
	socket, pings := serveManager(t)
	for _, mode := range [][]string{{"--test-mode"}, nil} {
		d := startChain(t, member)
		p := command(t, d.with("BRIDGE_SOCKET_PATH", socket), append([]string{"run"}, mode...)...)
		p.begin(t)
		if mode == nil {
			if got := <-pings; got != "/blueprint_manager_bridge.BlueprintManagerBridge/Ping" {
				t.Errorf("called %s", got)
			}
		}
		p.await(t, "health", func() bool { code, _ := health(t, d, "/healthz"); return code == http.StatusOK })
		if err := p.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != 0 || len(pings) != 0 {
			t.Errorf("%v: exit %d, %d pings too many", mode, code, len(pings))
		}
	}
}

// A job has one state, whether the chain or the deploying program asks.
func TestTheChainAndTheHostShareTheHandlers(t *testing.T) {
	d := startChain(t, member)
	b, err := faas.InspectBinary(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	var log tail
	orc := &orchestrator.Local{Dir: t.TempDir(), Log: func(line []byte) { _, _ = log.Write(append(line, '\n')) }}
	r, err := orc.Start(t.Context(), orchestrator.Spec{Service: "svc", Binary: b, Args: []string{"run", "--test-mode"},
		Env: faas.NewEnv(d.env), LocalJobs: []uint32{counts},
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	alive := &program{ended: make(chan struct{})} // the orchestrator's
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	result, err := r.Invoke(t.Context(), counts, nil)
	if err != nil || string(result.Output) != "1" {
		t.Fatalf("got %+v, %v", result, err)
	}
	if got := d.answer(t, alive, d.submit(t, counts, "")); got != "2" {
		t.Errorf("the chain's call is number %s", got)
	}
	if result, err = r.Invoke(t.Context(), prints, []byte("x")); err != nil || string(result.Output) != "x" {
		t.Errorf("a job that prints: %+v, %v", result, err)
	}
	if result, err = r.Invoke(t.Context(), counts, nil); err != nil || string(result.Output) != "3" {
		t.Errorf("got %+v, %v", result, err)
	}
	stop()
	if strings.Contains(log.String(), "ERROR") || !strings.Contains(log.String(), "the host asks the runner to stop") {
		t.Errorf("log: %s", log.String())
	}
}
