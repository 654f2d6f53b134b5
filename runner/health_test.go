package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// well is the status of a runner that is fine.
func well() Status {
	return Status{
		Service: 7, Blueprint: 3, Operator: operator1, ChainID: 31337, Contract: "0x01",
		Ready: true, Head: 100, Read: 99, Behind: 1, Queued: 4, Parked: 5, Running: 6, Submitting: 2,
		Waiting:  map[string]int{"a \"reason\"\\\n": 3},
		Outcomes: map[Outcome]uint64{Done: 9},
		Jobs: map[uint32]JobStatus{
			0: {Outcomes: map[Outcome]uint64{Done: 1}},
			1: {Outcomes: map[Outcome]uint64{Done: 8, JobFailed: 1}},
		},
		Balance: big.NewInt(2e9), MinBalance: big.NewInt(1e9), Rewards: big.NewInt(5), GasUsed: 123, Spent: big.NewInt(77),
		Nodes:   []NodeStatus{{Node: "http://a", Head: 100, Usable: true, Errors: 2}, {Node: "http://b", Problem: "refused"}},
		Started: time.UnixMilli(1_500), LastAnswer: time.Unix(9, 0),
	}
}

func TestHealthNamesEveryReason(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Status)
		want   string // empty: healthy
	}{
		{"fine", func(*Status) {}, ""},
		{"a bit behind", func(s *Status) { s.Behind = maxBehind }, ""},
		{"behind", func(s *Status) { s.Behind = maxBehind + 1 }, "51 blocks behind the chain"},
		{"starting", func(s *Status) { s.Ready = false }, "it has not caught up with the chain yet"},
		{"no node", func(s *Status) { s.Nodes[0].Usable = false }, "no node can be used: http://b: refused"},
		{"before any node", func(s *Status) { s.Nodes = nil }, "no node can be used: none was asked yet"},
		{"paused", func(s *Status) { s.Paused = true }, "the contract is paused"},
		{"over", func(s *Status) { s.Over = "it was terminated" }, "the service is over: it was terminated"},
		{"poor", func(s *Status) { s.Balance = big.NewInt(999_999_999) },
			operator1 + " has 999999999 wei, which pays for too few results: send it at least 1000000000"},
		{"just rich enough", func(s *Status) { s.Balance = s.MinBalance }, ""},
		{"balance unknown", func(s *Status) { s.Balance = nil }, ""},
		{"old blocks of a local chain", func(s *Status) { s.HeadTime = time.Unix(1, 0) }, ""},
		{"old blocks", func(s *Status) { s.ChainID, s.HeadTime = 84532, time.Now().Add(-7*time.Minute) },
			"the latest block is 7m0s old: the nodes are stuck, or still read the chain"},
		{"new blocks", func(s *Status) { s.ChainID, s.HeadTime = 84532, time.Now().Add(-4*time.Minute) }, ""},
		{"blocks of the future", func(s *Status) { s.ChainID, s.HeadTime = 84532, time.Now().Add(time.Hour) }, ""},
		{"two reasons", func(s *Status) { s.Paused, s.Behind = true, 60 },
			"the contract is paused; 60 blocks behind the chain"},
	} {
		s := well()
		tt.change(&s)
		judge(&s)
		if s.Reason != tt.want || s.Healthy != (tt.want == "") {
			t.Errorf("%s: got %v %q, want %q", tt.name, s.Healthy, s.Reason, tt.want)
		}
	}
}

// serveHealth starts an endpoint, and returns a function that stops it.
func serveHealth(t *testing.T, dir string, status func() Status, act actions) (e *endpoint, stop func()) {
	t.Helper()
	e, err := listen(t.Context(), "127.0.0.1:0", dir, 7, status, act, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

func TestTheHealthEndpoint(t *testing.T) {
	ill := false
	status := func() Status {
		s := well()
		s.Paused = ill
		judge(&s)
		return s
	}
	var retried []uint64
	act := actions{
		retry: func(call uint64) error {
			retried = append(retried, call)
			switch call {
			case 1:
				return nil
			case 2:
				return faas.Errorf(faas.ErrNotFound, "retry", "", "no such call")
			case 3:
				return faas.Errorf(faas.ErrConflict, "retry", "", "it runs")
			}
			return errors.New("the disk is full")
		},
		claim: func(context.Context) error { return nil },
	}
	e, _ := serveHealth(t, "", status, act)
	for _, tt := range []struct {
		method, path, host string
		headers            []string
		ill                bool
		code               int
		body               string
	}{
		{method: "GET", path: "/healthz", code: 200, body: "healthy\n"},
		{method: "HEAD", path: "/healthz", code: 200},
		{method: "GET", path: "/healthz", ill: true, code: 503, body: "the contract is paused\n"},
		{method: "GET", path: "/healthz", host: "localhost:80", code: 200, body: "healthy\n"},
		{method: "GET", path: "/healthz", host: "[::1]", code: 200, body: "healthy\n"},
		{method: "GET", path: "/healthz", host: "evil.example", code: 403},
		{method: "GET", path: "/status", host: "localhost.evil.example:1", code: 403},
		{method: "GET", path: "/metrics", host: "192.168.0.1", code: 403},
		{method: "GET", path: "/", code: 404},
		{method: "PUT", path: "/healthz", code: 405},
		{method: "POST", path: "/healthz", headers: []string{actionHeader, "1"}, code: 405},
		{method: "GET", path: "/retry?call=1", code: 405},
		{method: "POST", path: "/retry?call=1", code: 403},
		{method: "POST", path: "/retry?call=1", host: "evil.example", headers: []string{actionHeader, "1"}, code: 403},
		{method: "POST", path: "/retry?call=x", headers: []string{actionHeader, "1"}, code: 400},
		{method: "POST", path: "/retry", headers: []string{actionHeader, "1"}, code: 400},
		{method: "POST", path: "/retry?call=1", headers: []string{actionHeader, "1"}, code: 202},
		{method: "POST", path: "/retry?call=2", headers: []string{actionHeader, "1"}, code: 404,
			body: "faas: retry: no such call\n"},
		{method: "POST", path: "/retry?call=3", headers: []string{actionHeader, "1"}, code: 409,
			body: "faas: retry: it runs\n"},
		{method: "POST", path: "/retry?call=4", headers: []string{actionHeader, "1"}, code: 500, body: "the disk is full\n"},
		{method: "POST", path: "/claim", code: 403},
		{method: "POST", path: "/claim", headers: []string{actionHeader, "1"}, code: 202},
	} {
		ill = tt.ill
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Host = "127.0.0.1:1"
		if tt.host != "" {
			r.Host = tt.host
		}
		for i := 0; i < len(tt.headers); i += 2 {
			r.Header.Set(tt.headers[i], tt.headers[i+1])
		}
		w := httptest.NewRecorder()
		e.handler().ServeHTTP(w, r)
		if w.Code != tt.code || tt.body != "" && w.Body.String() != tt.body {
			t.Errorf("%s %s to %s: got %d %q, want %d %q", tt.method, tt.path, r.Host, w.Code, w.Body, tt.code, tt.body)
		}
		if got := w.Header().Get(serviceHeader); got != "7" {
			t.Errorf("%s %s: the service is %q", tt.method, tt.path, got)
		}
	}
	if want := []uint64{1, 2, 3, 4}; !slices.Equal(retried, want) {
		t.Errorf("calls %v were tried again, want %v", retried, want)
	}
}

func TestTheAddressIsInAFileWhileTheEndpointServes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "runner-7.addr")
	if err := os.WriteFile(path, []byte("127.0.0.1:1\n"), 0o600); err != nil { // of a process that was killed
		t.Fatal(err)
	}
	_, stop := serveHealth(t, dir, well, actions{})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + strings.TrimSuffix(string(text), "\n") + "/status")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get(serviceHeader) != "7" {
		t.Errorf("got %d of service %q (%v)", resp.StatusCode, resp.Header.Get(serviceHeader), err)
	}
	var got Status
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(well(), got, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
		t.Errorf("the status that arrived: %s", diff)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestAnotherRunnersAddressIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	_, stop := serveHealth(t, dir, well, actions{})
	path := filepath.Join(dir, "runner-7.addr")
	if err := os.WriteFile(path, []byte("127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop()
	if text, err := os.ReadFile(path); err != nil || string(text) != "127.0.0.1:1\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

// Until it has the journal, a second runner leaves the first one's address alone.
func TestTheAddressOfARunnerThatAnswersIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "runner-7.addr")
	first, _ := serveHealth(t, dir, well, actions{})
	second, stop := serveHealth(t, dir, well, actions{})
	if text, err := os.ReadFile(path); err != nil || string(text) != string(first.line()) {
		t.Errorf("got %q, %v", text, err)
	}
	if err := second.publish(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != string(second.line()) {
		t.Errorf("got %q, %v", text, err)
	}
	stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestTheEndpointListensOnlyOnLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "127.0.0.1"} {
		_, err := listen(t.Context(), addr, "", 7, well, actions{}, slog.New(slog.DiscardHandler))
		if faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%s: got %v", addr, err)
		}
	}
}

// A stop does not wait for a client that holds its connection, and ends an action.
func TestTheEndpointStopsWithItsRunner(t *testing.T) {
	began := make(chan struct{})
	e, stop := serveHealth(t, "", well, actions{claim: func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}})
	r, err := http.NewRequest(http.MethodPost, "http://"+e.listener.Addr().String()+"/claim", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(actionHeader, "1")
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusInternalServerError {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
		answered <- err
	}()
	<-began
	stop()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)\{(([a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-z_]+) (gauge|counter|histogram)$`)
	helpLine   = regexp.MustCompile(`^# HELP ([a-z_]+) [^\\]+$`)
)

// parseMetrics reads the text format strictly, and returns the samples by name and labels.
func parseMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	samples := map[string]float64{}
	family, kind := "", ""
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line, ended := strings.CutSuffix(line, "\n")
		if !ended {
			t.Errorf("the last line does not end: %q", line)
		}
		if m := helpLine.FindStringSubmatch(line); m != nil {
			if family = m[1]; seen[family] {
				t.Errorf("family %s comes twice", family)
			}
			seen[family] = true
			continue
		}
		if m := typeLine.FindStringSubmatch(line); m != nil {
			if kind = m[2]; m[1] != family {
				t.Errorf("the type of %s follows the help of %s", m[1], family)
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not a line of the format: %q", line)
			continue
		}
		base := m[1]
		if kind == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
		}
		if base != family || kind == "counter" != strings.HasSuffix(base, "_total") {
			t.Errorf("a sample of %s in the family %s %s", m[1], kind, family)
		}
		value, err := strconv.ParseFloat(m[4], 64)
		if err != nil || math.IsNaN(value) {
			t.Errorf("%q: %v", line, err)
		}
		key := m[1] + "{" + m[2] + "}"
		if _, twice := samples[key]; twice {
			t.Errorf("%s comes twice", key)
		}
		samples[key] = value
	}
	return samples
}

func TestMetrics(t *testing.T) {
	e := &endpoint{service: 7, status: well}
	for _, d := range []time.Duration{250 * time.Millisecond, 251 * time.Millisecond, 2 * time.Hour} {
		e.observe(Event{Kind: EventFinished, Outcome: Done, Elapsed: d})
	}
	e.observe(Event{Kind: EventFinished, Outcome: JobFailed, Elapsed: time.Second})
	e.observe(Event{Kind: EventAnswered, Elapsed: time.Second})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil)
	e.handler().ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	got := parseMetrics(t, w.Body.String())
	for key, want := range map[string]float64{
		`info{service="7",blueprint="3",operator="` + operator1 + `",chain_id="31337",contract="0x01"}`: 1,

		`healthy{service="7"}`:                                     0, // well does not judge
		`paused{service="7"}`:                                      0,
		`head_block{service="7"}`:                                  100,
		`behind_blocks{service="7"}`:                               1,
		`queued_jobs{service="7"}`:                                 4,
		`parked_jobs{service="7"}`:                                 5,
		`running_jobs{service="7"}`:                                6,
		`submitting_results{service="7"}`:                          2,
		`waiting_jobs{service="7",reason="a \"reason\"\\\n"}`:      3,
		`jobs_total{service="7",job="0",outcome="done"}`:           1,
		`jobs_total{service="7",job="1",outcome="done"}`:           8,
		`jobs_total{service="7",job="1",outcome="job failed"}`:     1,
		`result_seconds_bucket{service="7",le="0.25"}`:             1,
		`result_seconds_bucket{service="7",le="0.5"}`:              2,
		`result_seconds_bucket{service="7",le="3600"}`:             2,
		`result_seconds_bucket{service="7",le="+Inf"}`:             3,
		`result_seconds_count{service="7"}`:                        3,
		`result_seconds_sum{service="7"}`:                          7200.501,
		`gas_used_total{service="7"}`:                              123,
		`spent_wei_total{service="7"}`:                             77,
		`balance_wei{service="7"}`:                                 2e9,
		`min_balance_wei{service="7"}`:                             1e9,
		`pending_rewards_wei{service="7"}`:                         5,
		`node_usable{service="7",node="http://a",index="0"}`:       1,
		`node_usable{service="7",node="http://b",index="1"}`:       0,
		`node_head_block{service="7",node="http://a",index="0"}`:   100,
		`node_errors_total{service="7",node="http://a",index="0"}`: 2,
		`start_time_seconds{service="7"}`:                          1.5,
		`last_answer_time_seconds{service="7"}`:                    9,
	} {
		if value, ok := got["blueprint_runner_"+key]; !ok || value != want {
			t.Errorf("%s: got %v (%v), want %v", key, value, ok, want)
		}
	}
	e.status = func() Status { return Status{} }
	w = httptest.NewRecorder()
	e.handler().ServeHTTP(w, r)
	if got := parseMetrics(t, w.Body.String()); len(got) == 0 {
		t.Error("a runner that has not begun has no metrics")
	} else if _, ok := got[`blueprint_runner_balance_wei{service="7"}`]; ok {
		t.Error("an unknown balance is shown")
	}
}
