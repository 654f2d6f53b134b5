package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
)

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := runner.Config{RPC: "http://127.0.0.1:1", DataDir: t.TempDir(), Signer: signer(t, operator)}
	for name, tt := range map[string]struct {
		change func(*runner.Config)
		opt    runner.Option
		want   string
	}{
		"no node":       {func(c *runner.Config) { c.RPC = " , " }, nil, "Config.RPC"},
		"no directory":  {func(c *runner.Config) { c.DataDir = "" }, nil, "Config.DataDir"},
		"no signer":     {func(c *runner.Config) { c.Signer = nil }, nil, "Config.Signer"},
		"contract":      {func(c *runner.Config) { c.Contract = "0x12" }, nil, "Config.Contract"},
		"registry":      {func(c *runner.Config) { c.StatusRegistry = "x" }, nil, "Config.StatusRegistry"},
		"concurrency":   {nil, runner.WithConcurrency(0), "WithConcurrency"},
		"grace":         {nil, runner.WithGrace(-1), "WithGrace"},
		"poll":          {nil, runner.WithPoll(-1), "WithPoll"},
		"fees":          {nil, runner.WithFees(big.NewInt(-1), nil), "WithFees"},
		"job's timeout": {nil, runner.WithJob(3, runner.JobOptions{Timeout: -1}), "WithJob(3)"},
		"job's policy":  {nil, runner.WithJob(3, runner.JobOptions{Repeat: 9}), "WithJob(3)"},
		"handler":       {nil, runner.WithHandlers(job.Handlers{4: nil}), "job 4"},
	} {
		cfg, opts := good, []runner.Option{}
		if tt.change != nil {
			tt.change(&cfg)
		}
		if tt.opt != nil {
			opts = append(opts, tt.opt)
		}
		if _, err := runner.New(cfg, opts...); faas.CodeOf(err) != faas.ErrInvalidArgument ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error that names %s", name, err, tt.want)
		}
	}
	if _, err := runner.New(good); err != nil {
		t.Errorf("New with a good configuration: %v", err)
	}
}

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(t *testing.T, wanted ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, want := range wanted {
		if !strings.Contains(l.text.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, &l.text)
		}
	}
}

// TestAStartTellsWhatWillNotWork has a blueprint with eight jobs, of which one is not here, one
// needs others' signatures, and a handler that the blueprint does not know.
func TestAStartTellsWhatWillNotWork(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	c.SetRules(0, 1, devchain.Rules{Aggregate: true})
	cfg := config(t, listen(t, c.Node()))
	cfg.BlueprintID = 5
	log := &lines{}
	s := start(t, cfg, runner.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		runner.WithHandlers(job.Handlers{0: answer, 1: answer, 2: answer, 4: answer, 5: answer, 6: answer, 7: answer,
			77: answer}))
	call, err := c.Submit(0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := s.await(t, finished(call)); e.Outcome != runner.NeedsAggregate {
		t.Errorf("a call that needs others: %+v", e)
	}
	log.has(t, "job 3 has neither a handler nor a function", "has no job 77", "job 1 needs results with the signatures",
		"service 0 is of blueprint 0, and not of 5")
}

// TestADefinitionThatCannotBeReadIsNoReasonToStop has a node whose definition of the blueprint is
// not one.
func TestADefinitionThatCannotBeReadIsNoReasonToStop(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	node := c.Node()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var request struct{ ID json.RawMessage }
		if bytes.Contains(body, []byte("0x6171fea8")) && json.Unmarshal(body, &request) == nil {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":"0x%0128d"}`, request.ID, 7)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		node.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	log := &lines{}
	s := start(t, config(t, server.URL), runner.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		runner.WithHandlers(job.Handlers{0: answer}))
	call, err := c.Submit(0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := s.await(t, finished(call)); e.Outcome != runner.Done {
		t.Errorf("a call: %+v", e)
	}
	log.has(t, "the schemas of results are not known")
}

// TestAStartWaitsForANode starts the runner before its node.
func TestAStartWaitsForANode(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	node := c.Node()
	cfg := config(t, listen(t, node))
	node.Stop()
	s := start(t, cfg, runner.WithHandlers(job.Handlers{0: answer}))
	s.await(t, func(e runner.Event) bool { return e.Kind == runner.EventNodeTrouble })
	if st := s.Status(); st.Healthy || !strings.Contains(st.Reason, "no node can be used") {
		t.Errorf("healthy %t: %s", st.Healthy, st.Reason)
	}
	if err := s.Retry(0); faas.CodeOf(err) != faas.ErrUnavailable {
		t.Errorf("Retry before a node has answered: %v", err)
	}
	listen(t, node)
	call, err := c.Submit(0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, finished(call))
}

// TestARunnerThatCannotWorkEnds has configurations that no waiting mends.
func TestARunnerThatCannotWorkEnds(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	url := listen(t, c.Node())
	for name, change := range map[string]func(*runner.Config){
		"no contract": func(c *runner.Config) { c.Contract = devchain.Account(9).String() },
		"no URL":      func(c *runner.Config) { c.RPC = "ftp://127.0.0.1" },
		"other chain": func(c *runner.Config) { c.ChainID = 5 },
	} {
		cfg := config(t, url)
		change(&cfg)
		s := start(t, cfg)
		select {
		case err := <-s.ended:
			if err == nil || !strings.Contains(err.Error(), "service 0: ") {
				t.Errorf("%s: Run = %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: Run does not end", name)
		}
		if err := s.Run(context.Background()); faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%s: the second Run = %v", name, err)
		}
	}
}
