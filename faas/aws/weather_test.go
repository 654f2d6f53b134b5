//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

var (
	historiesFlag = flag.Int("histories", 15, "how many histories of bad weather are lived through")
	seedFlag      = flag.Uint64("seed", 0, "the first of them")
)

// weather is a network on which reads are answered as they were a while ago, answers are lost after
// the change was made, requests are lost before, and calls are throttled and refused.
type weather struct {
	mu   sync.Mutex
	rand *rand.Rand
	bad  bool
	past map[string][]answered // by what is read
	lags map[string]int        // how many reads of a function still tell of the past
}

// answered is an answer to a read.
type answered struct {
	status int
	header http.Header
	body   []byte
}

func (a answered) response(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(),
		Body:   io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: req,
	}
}

func refusal(status int, code string) answered {
	return answered{status, http.Header{"X-Amzn-Errortype": {code}, "Content-Type": {"application/json"}},
		[]byte(`{"message":"the weather is bad"}`)}
}

func (w *weather) set(bad bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad, w.lags = bad, map[string]int{}
}

// of returns the function that a request is about, and what the request does with it.
func (*weather) of(req *http.Request) (function, what string) {
	what = req.URL.Path + "?" + req.URL.RawQuery
	parts := strings.Split(req.URL.Path, "/functions/")
	if len(parts) < 2 {
		return what, what
	}
	function, _, _ = strings.Cut(parts[1], "/")
	return function, what
}

// forecast says what happens to a request: nothing, a refusal, the loss of the request or of its
// answer, or, for a read, an answer of the past.
func (w *weather) forecast(req *http.Request) (before *answered, lostBefore, lostAfter bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.bad {
		return nil, false, false
	}
	function, what := w.of(req)
	if req.Method == http.MethodGet && w.lags[function] > 0 && len(w.past[what]) > 0 {
		w.lags[function]--
		all := w.past[what]
		old := all[max(0, len(all)-1-w.rand.IntN(3))]
		return &old, false, false
	}
	kind := w.rand.IntN(100)
	switch {
	case kind < 4:
		r := refusal(429, "TooManyRequestsException")
		return &r, false, false
	case kind < 7:
		r := refusal(503, "ServiceException")
		return &r, false, false
	case kind < 9:
		return nil, true, false
	case kind < 12:
		return nil, false, true
	case kind < 16 && req.Method != http.MethodGet:
		r := refusal(403, "AccessDeniedException") // which no repetition helps
		return &r, false, false
	case kind < 14 && req.Method == http.MethodGet && strings.Contains(what, "/functions/"):
		r := refusal(404, "ResourceNotFoundException")
		return &r, false, false
	}
	return nil, false, false
}

func (w *weather) RoundTrip(req *http.Request) (*http.Response, error) {
	before, lostBefore, lostAfter := w.forecast(req)
	switch {
	case before != nil:
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return before.response(req), nil
	case lostBefore:
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errors.New("connection reset by peer")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read
	if err != nil {
		return nil, err
	}
	now := answered{resp.StatusCode, resp.Header, body}
	w.mu.Lock()
	function, what := w.of(req)
	if req.Method == http.MethodGet {
		if all := w.past[what]; len(all) == 0 || !bytes.Equal(all[len(all)-1].body, body) {
			w.past[what] = append(all, now)
		}
	} else if w.bad && w.rand.IntN(4) == 0 {
		w.lags[function] = 1 + w.rand.IntN(4)
	}
	w.mu.Unlock()
	if lostAfter {
		return nil, errors.New("connection reset by peer")
	}
	return now.response(req), nil
}

// history is a service that lives through bad weather.
type history struct {
	t      *testing.T
	rand   *rand.Rand
	server *lambdatest.Server
	sky    *weather
	state  string
	log    []string
	// live is the answer of each job.
	live map[uint32]string
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) fatal(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(h.log, "\n  "))
}

// executor returns the executor of a new process.
func (h *history) executor() *Executor {
	env := h.server.Environment()
	pace := fastPace
	pace.settle, pace.role, pace.late = 300*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond
	e, err := open(h.t.Context(), faas.Config{
		Provider: faas.AWSLambda, Service: "weather", Options: map[string]string{"create_role": "true"},
		HTTPClient: &http.Client{Transport: h.sky},
	}, pace, config.WithBaseEndpoint(h.server.URL()), config.WithSharedConfigFiles([]string{}),
		config.WithSharedCredentialsFiles([]string{}),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], "")),
		config.WithRetryer(func() awssdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
			})
		}))
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

const patience = 200 * time.Millisecond

func (h *history) deploy(bin *faas.Binary, value string, jobs []uint32) ([]string, error) {
	e := h.executor()
	defer e.Close()
	cfg := serverless.ServerlessConfig{Provider: faas.Config{Provider: faas.AWSLambda, Region: "us-east-1"},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 60}
	if value == "-c" { // which leaves no room for another version beside the one that is kept warm
		cfg.KeepWarm, cfg.MaxConcurrency = 2, 2
	}
	spec := serverless.ServiceSpec{Name: "weather", BinaryPath: bin.Path, Env: map[string]string{"VALUE": value}}
	svc, err := serverless.DeployServerless(h.t.Context(), spec, jobs, cfg, serverless.WithExecutor(e),
		serverless.WithStateDir(h.state), serverless.WithoutRunner(), serverless.WithPatience(patience))
	if err == nil {
		return nil, svc.Close(h.t.Context())
	}
	var failed *faas.Error
	if errors.As(err, &failed) {
		return failed.Leftovers, err
	}
	return nil, err
}

func (h *history) undeploy() error {
	e := h.executor()
	defer e.Close()
	svc, err := serverless.OpenService(h.t.Context(), "weather", serverless.WithExecutor(e),
		serverless.WithStateDir(h.state), serverless.WithoutRunner(), serverless.WithPatience(patience))
	if err != nil {
		return err
	}
	return errors.Join(svc.Undeploy(h.t.Context()), svc.Close(h.t.Context()))
}

// sees asks every job, in good weather.
func (h *history) sees(want map[uint32]string, spared []string) {
	h.t.Helper()
	e := h.executor()
	defer e.Close()
	for job, value := range want {
		name := functionName("weather", job)
		if slices.Contains(spared, name) {
			continue
		}
		r, err := e.Invoke(h.t.Context(), job, nil)
		if err != nil || !strings.HasSuffix(string(r.Output), value) {
			got, _ := h.server.Function(name)
			h.fatal("job %d answers %v, %v; want %s; it is %+v", job, r, err, value, got)
		}
	}
}

// disturb makes changes as people do by hand.
func (h *history) disturb() {
	for job := range h.live {
		name := functionName("weather", job)
		got, ok := h.server.Function(name)
		if !ok {
			continue
		}
		switch h.rand.IntN(4) {
		case 0:
			h.note("somebody switches job %d off", job)
			h.server.SetReserved(name, 0)
		case 1:
			h.note("somebody deletes the alias of job %d", job)
			h.server.MoveAlias(name, "live", "")
		case 2:
			if len(got.Versions) > 0 && got.Aliases["live"] != "" {
				h.note("somebody moves the alias of job %d", job)
				h.server.MoveAlias(name, "live", fmt.Sprint(got.Versions[0]))
			}
		default:
			h.note("somebody changes the memory of job %d", job)
			e, memory := h.executor(), int32(777)
			_, err := e.lambda.UpdateFunctionConfiguration(
				h.t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, MemorySize: &memory})
			if err != nil {
				h.fatal("%v", err)
			}
			e.Close()
		}
		delete(h.live, job) // what it answers is nobody's promise until the next deployment
		return
	}
}

// Whatever the weather: everything that a failed deployment does not name is as it was, a
// deployment that succeeds has its effect, and in the end everything can be deployed and removed.
func TestServicesSurviveBadWeather(t *testing.T) {
	bins := map[string]*faas.Binary{"-a": script(t, "a"), "-b": script(t, "b"), "-c": script(t, "a")}
	for i := range *historiesFlag {
		seed := *seedFlag + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := &history{t: t, rand: rand.New(rand.NewPCG(seed, 1)), state: t.TempDir(), live: map[uint32]string{}}
			h.server = serve(t, lambdatest.Config{Handler: answering, Pending: time.Millisecond, Updating: time.Millisecond,
				MovingAlias: 5 * time.Millisecond})
			h.sky = &weather{rand: rand.New(rand.NewPCG(seed, 2)), past: map[string][]answered{}, lags: map[string]int{}}
			for range 6 {
				h.step(bins)
			}
			h.sky.set(false)
			if left, err := h.deploy(bins["-a"], "-a", []uint32{0, 1}); err != nil {
				h.fatal("in good weather: %v, left %v", err, left)
			}
			h.sees(map[uint32]string{0: "-a", 1: "-a"}, nil)
			if err := h.undeploy(); err != nil {
				h.fatal("undeploy in good weather: %v", err)
			}
			if left := h.server.Left(); !onlyLogs(left) {
				h.fatal("left %v", left)
			}
			t.Log(strings.Join(h.log, "\n"))
		})
	}
}

func (h *history) step(bins map[string]*faas.Binary) {
	h.t.Helper()
	switch kind := h.rand.IntN(10); {
	case kind < 7:
		value := []string{"-a", "-b", "-c"}[h.rand.IntN(3)]
		jobs := []uint32{0, 1}[:1+h.rand.IntN(2)]
		h.sky.set(true)
		left, err := h.deploy(bins[value], value, jobs)
		h.sky.set(false)
		h.note("deploy %s of jobs %v: %v", value, jobs, err)
		if err == nil {
			h.live = map[uint32]string{}
			for _, job := range jobs {
				h.live[job] = value
			}
		}
		h.sees(h.live, left)
		for job := range h.live {
			if slices.Contains(left, functionName("weather", job)) {
				delete(h.live, job)
			}
		}
	case kind < 8:
		h.sky.set(true)
		err := h.undeploy()
		h.sky.set(false)
		h.note("undeploy: %v", err)
		h.live = map[uint32]string{}
		if left := h.server.Left(); err == nil && !onlyLogs(left) {
			h.fatal("left %v", left)
		}
	case kind < 9:
		h.note("the ledger is lost")
		h.state = h.t.TempDir()
	default:
		h.disturb()
	}
}
