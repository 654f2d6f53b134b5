package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// nodes answers requests by host, without a network.
type nodes map[string]func(calls []string) (status int, header http.Header, body string)

func (n nodes) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	type message struct{ Method string }
	var batch []message
	if bytes.HasPrefix(body, []byte("[")) {
		err = json.Unmarshal(body, &batch)
	} else {
		batch = make([]message, 1)
		err = json.Unmarshal(body, &batch[0])
	}
	if err != nil {
		return nil, err
	}
	calls := make([]string, len(batch))
	for i, m := range batch {
		calls[i] = m.Method
	}
	status, header, text := n[r.URL.Host](calls)
	switch status {
	case -1:
		return nil, io.EOF
	case 0:
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(text)),
		ContentLength: int64(len(text)), Request: r}, nil
}

func answers(calls []string, value string) string {
	texts := make([]string, len(calls))
	for i := range calls {
		texts[i] = fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%q}`, i+1, value)
	}
	if len(calls) == 1 {
		return texts[0]
	}
	return "[" + strings.Join(texts, ",") + "]"
}

func good(value string) func([]string) (int, http.Header, string) {
	return func(calls []string) (int, http.Header, string) { return 200, nil, answers(calls, value) }
}

func newClient(t *testing.T, n http.RoundTripper, hosts ...string) *rpc.Client {
	t.Helper()
	urls := make([]string, len(hosts))
	for i, host := range hosts {
		urls[i] = "http://" + host
	}
	c, err := rpc.New(rpc.Config{URLs: urls, HTTP: &http.Client{Transport: n}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func number(t *testing.T, c *rpc.Client, among ...*rpc.Node) (uint64, error) {
	t.Helper()
	answers, _, err := c.Do(t.Context(), []rpc.Call{{Method: "n", Required: true}}, among...)
	if err != nil {
		return 0, err
	}
	return answers[0].Quantity()
}

func TestANodeIsLeftAloneAsLongAsItAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var asked []time.Duration
		c := newClient(t, nodes{"a": func(calls []string) (int, http.Header, string) {
			if asked = append(asked, time.Since(start)); len(asked) == 1 {
				return 429, http.Header{"Retry-After": {"3"}}, ""
			}
			return 200, nil, answers(calls, "0x7")
		}}, "a")
		if n, err := number(t, c); err != nil || n != 7 {
			t.Fatalf("%d, %v", n, err)
		}
		if len(asked) != 2 || asked[1] < 3*time.Second || asked[1] > 4*time.Second {
			t.Errorf("asked at %v", asked)
		}
	})
}

// All that fail together are one failure, so the next pause is not the longest.
func TestAFailureCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		c := newClient(t, nodes{"a": func(calls []string) (int, http.Header, string) {
			time.Sleep(10 * time.Millisecond) // so that all are on their way
			if down.Load() {
				return 503, nil, ""
			}
			return 200, nil, answers(calls, "0x7")
		}}, "a")
		n := c.Nodes()[0]
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, _ = c.Ask(t.Context(), n, []rpc.Call{{Method: "n", Required: true}})
			})
		}
		all.Wait()
		total, inRow, last := n.Health()
		if total != 50 || inRow != 1 || n.Pause() > 100*time.Millisecond || !errors.Is(last, rpc.ErrHTTP) {
			t.Errorf("%d errors, %d in a row, rests for %v, %v", total, inRow, n.Pause(), last)
		}
		down.Store(false)
		if _, err := number(t, c); err != nil {
			t.Error(err)
		}
		if _, inRow, _ := n.Health(); inRow != 0 || n.Pause() != 0 {
			t.Errorf("after an answer: %d in a row", inRow)
		}
	})
}

func TestTheNextNodeIsAskedAndTheFailingOneLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		record := func(host string, f func([]string) (int, http.Header, string)) func([]string) (int, http.Header, string) {
			return func(calls []string) (int, http.Header, string) {
				asked = append(asked, host)
				return f(calls)
			}
		}
		dead := func([]string) (int, http.Header, string) { return 0, nil, "" }
		n := nodes{"a": record("a", dead), "b": record("b", good("0x2"))}
		c := newClient(t, n, "a", "b")
		for range 3 {
			if got, err := number(t, c); err != nil || got != 2 {
				t.Fatal(got, err)
			}
			time.Sleep(time.Minute) // it has rested enough, but nobody knows that it is better
		}
		if diff := cmp.Diff([]string{"a", "b", "b", "b"}, asked); diff != "" {
			t.Error(diff)
		}
		n["a"] = record("a", good("0x1"))
		if _, err := c.Ask(t.Context(), c.Nodes()[0], []rpc.Call{{Method: "n"}}); err != nil { // as a probe does
			t.Fatal(err)
		}
		if got, err := number(t, c); err != nil || got != 1 {
			t.Errorf("%d from the preferred node, %v", got, err)
		}
		c.Nodes()[0].Refuse(errors.New("is of another chain"))
		if got, err := number(t, c); err != nil || got != 2 {
			t.Errorf("%d, %v", got, err)
		}
		c.Nodes()[1].Refuse(errors.New("is behind"))
		_, err := number(t, c)
		if !errors.Is(err, rpc.ErrUnusable) ||
			err.Error() != "no node is usable: node http://a: is of another chain; node http://b: is behind" {
			t.Errorf("%v", err)
		}
	})
}

// An answer to what was asked before a failure does not end the rest that followed the failure.
func TestAnOlderAnswerEndsNoRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, nodes{"a": func(calls []string) (int, http.Header, string) {
			if calls[0] == "slow" {
				time.Sleep(time.Second)
				return 200, nil, answers(calls, "0x1")
			}
			return 429, http.Header{"Retry-After": {"5"}}, ""
		}}, "a")
		n := c.Nodes()[0]
		var slow sync.WaitGroup
		slow.Go(func() { _, _ = c.Ask(t.Context(), n, []rpc.Call{{Method: "slow"}}) })
		synctest.Wait()
		time.Sleep(time.Millisecond)
		_, _ = c.Ask(t.Context(), n, []rpc.Call{{Method: "quick"}})
		slow.Wait()
		if n.Pause() < 3*time.Second {
			t.Errorf("rests for %v", n.Pause())
		}
	})
}

// Who has waited for a node asks it, although it has failed with another since.
func TestNobodyWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := newClient(t, nodes{"a": func(calls []string) (int, http.Header, string) {
			if calls[0] == "bad" {
				return 503, nil, ""
			}
			return 200, nil, answers(calls, "0x1")
		}}, "a")
		fail := func() { _, _ = c.Ask(t.Context(), c.Nodes()[0], []rpc.Call{{Method: "bad"}}) }
		fail() // it rests for at least 50 ms
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := number(t, c); err != nil || time.Since(start) > 120*time.Millisecond {
				t.Errorf("after %v, %v", time.Since(start), err)
			}
		})
		time.Sleep(40 * time.Millisecond)
		fail() // and now for at least 100 ms more
		waiting.Wait()
	})
}

// A dead node costs a request of every caller, not three with pauses in between.
func TestADeadNodeFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := newClient(t, nodes{"a": func([]string) (int, http.Header, string) { asked++; return 0, nil, "" }}, "a")
		for i := range 5 {
			before := time.Now()
			if _, err := number(t, c); !errors.Is(err, rpc.ErrUnreachable) {
				t.Fatal(err)
			}
			if took := time.Since(before); i > 0 && took > 3*time.Second {
				t.Errorf("call %d took %v", i, took)
			}
		}
		if asked != 3+4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestBatchesAreAsLargeAsTheNodeTakesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most := 20
		var sizes []int
		c := newClient(t, nodes{"a": func(calls []string) (int, http.Header, string) {
			sizes = append(sizes, len(calls))
			if len(calls) > most {
				return 200, nil, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}`
			}
			return 200, nil, answers(calls, "0x1")
		}}, "a")
		ask := func(calls int) []int {
			sizes = nil
			list := make([]rpc.Call, calls)
			for i := range list {
				list[i] = rpc.Call{Method: "n" + strconv.Itoa(i), Required: true}
			}
			got, _, err := c.Do(t.Context(), list)
			if err != nil || len(got) != calls {
				t.Fatalf("%d answers, %v", len(got), err)
			}
			return sizes
		}
		if diff := cmp.Diff([]int{80, 40, 20, 20, 20, 20}, ask(80)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]int{20, 20, 20, 20}, ask(80)); diff != "" {
			t.Error("it is remembered", diff)
		}
		most = 1
		if diff := cmp.Diff([]int{3, 1, 1, 1}, ask(3)); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Hour)
		most = 1000
		if diff := cmp.Diff([]int{100, 50}, ask(150)); diff != "" {
			t.Error("it is forgotten", diff)
		}
	})
}

func TestAnswersAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, nodes{"a": good("0x1"), "b": good("0x2")}, "a", "b")
		want := func(wanted uint64, otherwise error) rpc.Call {
			return rpc.Call{Method: "n", Required: true, Check: func(result []byte) error {
				if n, err := (rpc.Answer{Result: result}).Quantity(); err != nil || n != wanted {
					return errors.Join(err, otherwise)
				}
				return nil
			}}
		}
		if _, from, err := c.Do(t.Context(), []rpc.Call{want(2, errors.New("no"))}); err != nil || from != c.Nodes()[1] {
			t.Errorf("%v, %v", from, err)
		}
		if total, _, _ := c.Nodes()[0].Health(); total != 1 {
			t.Errorf("%d errors of a node with a wrong answer", total)
		}
		if _, _, err := c.Do(t.Context(), []rpc.Call{want(3, rpc.ErrAbsent)}); !errors.Is(err, rpc.ErrAbsent) {
			t.Errorf("%v", err)
		}
		if total, _, _ := c.Nodes()[1].Health(); total != 0 {
			t.Error("a node was blamed for what it does not have")
		}
	})
}

func TestErrorsOfNodesAreToldApart(t *testing.T) {
	for _, test := range []struct {
		code                         int64
		message                      string
		throttled, tooWide, reverted bool
	}{
		{-32005, "query returned more than 10000 results", false, true, false},
		{-32005, "daily request count exceeded, request rate limited", true, false, false},
		{-32005, "limit exceeded", true, false, false},
		{429, "Your app has exceeded its compute units per second capacity", true, false, false},
		{-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no " +
			"limit on the response size ... this range should work: [0x0, 0x10]", false, true, false},
		{-32614, "eth_getLogs is limited to a 10,000 range", false, true, false},
		{-32000, "exceed maximum block range: 50000", false, true, false},
		{-32602, "block range extends beyond current head block", false, false, false},
		{-32602, "BlockOutOfRangeError: block height is 264 but requested was 512", false, false, false},
		{-32000, "unknown block", false, false, false},
		{-32600, "Too many requests, slow down", true, false, false},
		{-32016, "over rate limit", true, false, false},
		{3, "execution reverted: rate limit", false, false, true},
		{-32015, "VM execution error: revert", false, false, true},
		{-32000, "execution reverted", false, false, true},
		{-32000, "header not found", false, false, false},
		{-32601, "method not found", false, false, false},
	} {
		e := &rpc.RPCError{Code: test.code, Message: test.message}
		if e.Throttled() != test.throttled || e.TooWide() != test.tooWide || e.Reverted() != test.reverted {
			t.Errorf("%d %q: throttled %t, too wide %t, reverted %t", test.code, test.message, e.Throttled(), e.TooWide(),
				e.Reverted())
		}
	}
}

func TestWhatCertainlyWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			answer func([]string) (int, http.Header, string)
			unsent bool
		}{
			"refused connection": {func([]string) (int, http.Header, string) { return 0, nil, "" }, true},
			"lost connection":    {func([]string) (int, http.Header, string) { return -1, nil, "" }, false},
			"no permission":      {func([]string) (int, http.Header, string) { return 403, nil, "" }, true},
			"too many requests":  {func([]string) (int, http.Header, string) { return 429, nil, "" }, true},
			"bad gateway":        {func([]string) (int, http.Header, string) { return 502, nil, "" }, false},
			"garbage":            {func([]string) (int, http.Header, string) { return 200, nil, "<html>" }, false},
		} {
			c := newClient(t, nodes{"a": test.answer}, "a")
			_, err := c.Ask(t.Context(), c.Nodes()[0], []rpc.Call{{Method: "n", Required: true}})
			if err == nil || err.Unsent() != test.unsent {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestOneConnectionServesManyRequests(t *testing.T) {
	var connections, requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, `{"id":1,"result":"0x1"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c, err := rpc.New(rpc.Config{URLs: []string{server.URL}, HTTP: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		_, _ = c.Ask(t.Context(), c.Nodes()[0], []rpc.Call{{Method: "n"}})
	}
	if requests.Load() != 10 || connections.Load() != 1 {
		t.Errorf("%d connections for %d requests", connections.Load(), requests.Load())
	}
}

func TestManyMayAskAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn atomic.Int64
		flaky := func(calls []string) (int, http.Header, string) {
			if turn.Add(1)%3 == 0 {
				return 503, nil, ""
			}
			return 200, nil, answers(calls, "0x9")
		}
		c, err := rpc.New(rpc.Config{URLs: []string{"http://a", "http://b"}, Attempts: 20,
			HTTP: &http.Client{Transport: nodes{"a": flaky, "b": flaky}}})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				got, _, err := c.Do(ctx, []rpc.Call{{Method: "x", Required: true}, {Method: "y", Required: true}})
				if err != nil || len(got) != 2 {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}
