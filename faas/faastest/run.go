package faastest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Harness connects [Run] with a provider.
type Harness struct {
	// Open returns an executor bound to the service. All executors of one Run use the same platform
	// or account. Run closes them.
	Open func(t testing.TB, service string) faas.Executor
	// Provider is the name that the provider's errors carry.
	Provider string
	// Limits and MemorySizes are the provider's. Zero means those of faas.ProviderLimits and
	// faas.ProviderMemorySizes.
	Limits      faas.Limits
	MemorySizes faas.MemorySizes
	// Binary is the binary that Run deploys: JobBinary, or another program with the same jobs. nil
	// means JobBinary.
	Binary *faas.Binary
	// OpenLossy returns an executor for the same platform that delivers invocations and loses the
	// answers, by Faulty or FaultyTransport. If it is nil, Run does not test that an invocation is
	// never repeated.
	OpenLossy func(t testing.TB, service string) faas.Executor
	// OpenIn returns an executor bound to the service that reaches the same platform through bad
	// weather: sky.Transport wraps its HTTP client's transport or, if it does not use HTTP,
	// sky.Executor wraps the executor. [Weather] needs OpenIn.
	OpenIn func(t testing.TB, service string, sky *Sky) faas.Executor
	// Settle waits until the platform under test has finished all calls that their caller gave up. A
	// request that was sent just before can take effect after the next one, which tests that give up
	// calls would see as a change by somebody else. Settle is nil if that cannot happen.
	Settle func(t testing.TB)
	// NoTimeouts says that the platform under test does not stop functions that exceed their
	// timeout, as some fakes do not.
	NoTimeouts bool
	// AtomicUpdate says that no call fails while Converge replaces a working function. Providers
	// that are registered with faas.ProviderInfo.AtomicUpdate need not set it.
	AtomicUpdate bool
	// Simulated says that the platform under test runs something with the same jobs, such as RunJob,
	// instead of the package.
	Simulated bool
	// MaxBody is the largest body of a request or an answer that the provider carries, in bytes, if
	// it bounds how much of a payload fits in the published form. 0 means that only
	// Limits.MaxPayloadMB counts.
	MaxBody int
	// MaxCompact is how many bytes of a payload the provider carries in the compact form. 0 means as
	// many as Limits.MaxPayloadMB allows.
	MaxCompact int
	// NoLogs says that the platform under test does not keep what jobs print, as some fakes and
	// emulators do not.
	NoLogs bool
}

// deadline bounds a single call. It is generous: it only has to turn a call that hangs into a
// failure.
const deadline = 2 * time.Minute

// Run tests every promise of the [faas.Executor] contract, those about putting back through the
// engine. It finds out which optional abilities the provider has: a provider that cannot list,
// identify a unit's code, warm or report health is not tested for them. A provider that cannot
// restore has to say so in State.NotRestorable.
func Run(t *testing.T, h Harness) {
	s := newSuite(t, h)
	t.Run("Units", s.units)
	t.Run("Deploy", s.deploying)
	t.Run("PutBack", s.puttingBack)
	t.Run("Reading", s.reading)
	t.Run("AtOnce", s.atOnce)
	t.Run("Neighbours", s.neighbours)
	t.Run("Invoke", s.invoking)
	t.Run("Payload", s.payloads)
	t.Run("Diagnose", s.diagnosing)
	t.Run("Logs", s.logging)
	t.Run("Close", s.closing)
}

// newSuite completes the harness.
func newSuite(t *testing.T, h Harness) *suite {
	s := &suite{t: t, h: h, secret: "canary-" + random(8), suffix: random(3), dir: t.TempDir(),
		packages: map[string]*faas.Package{}}
	if s.h.Limits == (faas.Limits{}) {
		s.h.Limits, _ = faas.ProviderLimits(h.Provider)
	}
	if s.h.MemorySizes.Min == 0 && s.h.MemorySizes.Sizes == nil {
		s.h.MemorySizes, _ = faas.ProviderMemorySizes(h.Provider)
	}
	if s.h.Limits.MaxMemoryMB == 0 || s.h.MemorySizes.RoundUp(1) == 0 {
		t.Fatalf("the harness gives no limits, and none are known for provider %q", h.Provider)
	}
	if s.h.Binary == nil {
		bin, err := faas.InspectBinary(JobBinary(t))
		if err != nil {
			t.Fatal(err)
		}
		s.h.Binary = bin
	}
	s.binary = s.h.Binary
	if info, linked := faas.Provider(h.Provider); linked && info.AtomicUpdate {
		s.h.AtomicUpdate = true
	}
	return s
}

type suite struct {
	t      *testing.T
	h      Harness
	binary *faas.Binary
	secret string // in every function's environment, and nowhere else
	suffix string // makes the names of services new, for platforms that remember
	dir    string

	packages map[string]*faas.Package // by their files
	second   *faas.Binary             // with other code; nil until it is needed
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func (s *suite) service(name string) string { return "faastest-" + name + "-" + s.suffix }

// open returns an executor that checks every call for what holds for all of them.
func (s *suite) open(t testing.TB, service string) *watched {
	t.Helper()
	exec := s.h.Open(t, service)
	t.Cleanup(func() {
		if err := exec.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &watched{s: s, t: t, Executor: exec}
}

func (s *suite) ctx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// function returns a small function for the job, with the canary in its environment.
func (s *suite) function(job uint32) faas.Function {
	return faas.Function{
		JobID: job, MemoryMB: s.h.MemorySizes.RoundUp(256), TimeoutSecs: min(60, s.h.Limits.MaxTimeoutSecs),
		Env: faas.NewEnv(map[string]string{"FAASTEST_SECRET": s.secret, "FAASTEST_VALUE": "one"}),
	}
}

func (s *suite) functions(jobs ...uint32) []faas.Function {
	var all []faas.Function
	for _, job := range jobs {
		all = append(all, s.function(job))
	}
	return all
}

// wanted returns the units of functions, with their packages.
func (s *suite) wanted(t testing.TB, exec faas.Executor, functions []faas.Function) []faas.Unit {
	t.Helper()
	units, err := exec.Units(s.binary, functions)
	if err != nil {
		t.Fatalf("Units: %v", err)
	}
	s.pack(t, units)
	return units
}

// pack builds the packages of units, one for all with equal files.
func (s *suite) pack(t testing.TB, units []faas.Unit) {
	t.Helper()
	for i := range units {
		key := fmt.Sprintf("%+v", units[i].Files)
		if s.packages[key] == nil {
			pkg, err := faas.BuildPackage(t.Context(), s.dir, units[i].Files)
			if err != nil {
				t.Fatal(err)
			}
			s.packages[key] = pkg
		}
		units[i].Package = s.packages[key]
	}
}

// converge brings units to the wanted state as the engine does, and removes them when the test
// ends.
func (s *suite) converge(t testing.TB, exec faas.Executor, units []faas.Unit) []faas.State {
	t.Helper()
	s.removeLater(t, exec, units)
	var states []faas.State
	for _, u := range units {
		state, err := exec.Converge(s.ctx(t), u, s.observe(t, exec, u.ID), nil)
		if err != nil {
			t.Fatalf("Converge(%s): %v", u.ID, err)
		}
		states = append(states, state)
	}
	return states
}

func (s *suite) removeLater(t testing.TB, exec faas.Executor, units []faas.Unit) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		for _, u := range units {
			if err := exec.Remove(ctx, u.ID); err != nil {
				t.Errorf("Remove(%s): %v", u.ID, err)
			}
		}
	})
}

// settle is called after a call that was given up.
func (s *suite) settle(t testing.TB) {
	t.Helper()
	if s.h.Settle != nil {
		s.h.Settle(t)
	}
}

// observe returns nil if nothing exists.
func (s *suite) observe(t testing.TB, exec faas.Executor, id string) *faas.State {
	t.Helper()
	state, err := exec.Observe(s.ctx(t), id)
	if faas.CodeOf(err) == faas.ErrNotFound {
		return nil
	}
	if err != nil {
		t.Fatalf("Observe(%s): %v", id, err)
	}
	return &state
}

// invoke runs a job that has to succeed.
func (s *suite) invoke(t testing.TB, exec faas.Invoker, job uint32, args string) string {
	t.Helper()
	r, err := exec.Invoke(s.ctx(t), job, []byte(args))
	if err != nil {
		t.Fatalf("Invoke(%d): %v", job, err)
	}
	return string(r.Output)
}

// wantCode fails the test unless err has one of the codes.
func wantCode(t testing.TB, err error, codes ...faas.Code) {
	t.Helper()
	for _, code := range codes {
		if err != nil && faas.CodeOf(err) == code {
			return
		}
	}
	t.Fatalf("got error %v (code %q), want code %q", err, faas.CodeOf(err), codes)
}

// watched is an executor that checks what the contract promises of every call.
type watched struct {
	faas.Executor
	s *suite
	t testing.TB
}

// as returns the same for a subtest.
func (w *watched) as(t testing.TB) *watched { return &watched{w.Executor, w.s, t} }

// opsThatAgree are the methods whose name all providers' errors carry. The errors of others name
// the operation more exactly.
var opsThatAgree = []string{"units", "warm", "invoke"}

func (w *watched) check(op string, err error) {
	w.t.Helper()
	if err == nil {
		return
	}
	var e *faas.Error
	if !errors.As(err, &e) {
		w.t.Errorf("%s: the error is no *faas.Error: %T %v", op, err, err)
		return
	}
	unnamed := e.Code == faas.ErrUnsupported && e.Provider == "" // what faas.Unimplemented returns
	if e.Code == "" || e.Provider != w.s.h.Provider && !unnamed {
		w.t.Errorf("%s: the error has code %q and provider %q, want a code and provider %q: %v", op, e.Code, e.Provider,
			w.s.h.Provider, err)
	}
	if want := strings.ToLower(op); e.Op != want && slices.Contains(opsThatAgree, want) {
		w.t.Errorf("%s: the error's op is %q, want %q: %v", op, e.Op, want, err)
	}
	w.secretless(op, err.Error()+fmt.Sprintf("%+v %#v", err, *e))
}

func (w *watched) state(op string, s faas.State) {
	w.t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		w.t.Errorf("%s: the state does not marshal: %v", op, err)
	}
	w.secretless(op, string(text)+fmt.Sprintf("%+v %s", s, s.Private))
}

func (w *watched) secretless(op, text string) {
	w.t.Helper()
	if strings.Contains(text, w.s.secret) {
		w.t.Errorf("%s: a value of the environment is in what it returned: %s", op, text)
	}
}

func (w *watched) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	units, err := w.Executor.Units(bin, functions)
	w.check("Units", err)
	return units, err
}

func (w *watched) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := w.Executor.Observe(ctx, id)
	w.check("Observe", err)
	w.state("Observe", s)
	if err == nil && (s.ID != id || s.Status == "") {
		w.t.Errorf("Observe(%s): the state has ID %q and status %q", id, s.ID, s.Status)
	}
	return s, err
}

func (w *watched) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	s, err := w.Executor.Converge(ctx, u, prior, report)
	w.check("Converge", err)
	w.state("Converge", s)
	if err == nil && (s.ID != u.ID || s.Status != faas.StatusReady) {
		w.t.Errorf("Converge(%s): the state has ID %q and status %q", u.ID, s.ID, s.Status)
	}
	if err == nil && s.PackageSHA256 != "" && s.Fingerprint != "" && !s.Current(u) {
		w.t.Errorf("Converge(%s): the state tells code and configuration, and they are not what was wanted", u.ID)
	}
	return s, err
}

func (w *watched) Restore(ctx context.Context, prior faas.State) error {
	err := w.Executor.Restore(ctx, prior)
	w.check("Restore", err)
	if prior.NotRestorable == "" && faas.CodeOf(err) == faas.ErrUnsupported {
		w.t.Errorf("Restore(%s) is unsupported, and the state did not say so: %v", prior.ID, err)
	}
	return err
}

func (w *watched) Remove(ctx context.Context, id string) error {
	err := w.Executor.Remove(ctx, id)
	w.check("Remove", err)
	return err
}

func (w *watched) List(ctx context.Context) ([]faas.State, error) {
	states, err := w.Executor.List(ctx)
	w.check("List", err)
	for i, s := range states {
		w.state("List", s)
		if i > 0 && states[i-1].ID >= s.ID {
			w.t.Errorf("List: %q comes before %q", states[i-1].ID, s.ID)
		}
	}
	return states, err
}

func (w *watched) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	r, err := w.Executor.Invoke(ctx, jobID, args)
	w.check("Invoke", err)
	if (r == nil) == (err == nil) {
		w.t.Errorf("Invoke: the result is %v and the error %v; exactly one is nil", r, err)
	}
	var e *faas.Error
	if errors.As(err, &e) && e.JobID != int64(jobID) {
		w.t.Errorf("Invoke(%d): the error is about job %d: %v", jobID, e.JobID, err)
	}
	var failed *faas.FunctionError
	if faas.CodeOf(err) == faas.ErrFunctionFailed && !errors.As(err, &failed) {
		w.t.Errorf("Invoke(%d): an ErrFunctionFailed without a *FunctionError: %v", jobID, err)
	}
	return r, err
}

func (w *watched) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	warmed, err := w.Executor.Warm(ctx, jobID, n)
	w.check("Warm", err)
	return warmed, err
}

func (w *watched) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	health, err := w.Executor.Health(ctx, jobID)
	w.check("Health", err)
	return health, err
}

func (w *watched) Close() error {
	err := w.Executor.Close()
	w.check("Close", err)
	return err
}
