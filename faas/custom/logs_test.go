package custom_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// texts ranges over a log and returns up to most lines.
func texts(t testing.TB, reader faas.LogReader, q faas.LogQuery, most int) (got []string, failed error) {
	t.Helper()
	for line, err := range reader.Logs(t.Context(), q) {
		if err != nil {
			return got, err
		}
		if got = append(got, line.Text); len(got) == most {
			break
		}
	}
	return got, nil
}

func TestAPlatformWithoutLogsIsUnsupported(t *testing.T) {
	p := newFake(t)
	server := p.start(t)
	e := open(t, faas.Config{Service: "svc", Endpoint: server.URL})
	if _, err := texts(t, e, faas.LogQuery{JobIDs: []uint32{1}}, -1); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("of a function that does not exist: %v", err)
	}
	f := &fakeFunction{service: "svc"}
	size := uint32(512)
	f.config.MemoryMB, f.config.TimeoutSecs = &size, &size
	p.mu.Lock()
	p.functions["svc-job1"] = f
	p.mu.Unlock()
	for _, follow := range []bool{false, true} {
		_, err := texts(t, e, faas.LogQuery{JobIDs: []uint32{1}, Follow: follow}, -1)
		if faas.CodeOf(err) != faas.ErrUnsupported || !strings.Contains(err.Error(), "/logs") {
			t.Errorf("follow %v: %v", follow, err)
		}
	}
	byHand := open(t, faas.Config{Service: "svc", Endpoint: server.URL, Options: map[string]string{"mode": "invoke-only"}})
	if _, err := texts(t, byHand, faas.LogQuery{JobIDs: []uint32{1}}, -1); faas.CodeOf(err) != faas.ErrUnsupported {
		t.Errorf("an invoke-only platform: %v", err)
	}
}

// logPlatform is a platform that only answers requests for logs.
func logPlatform(t testing.TB, serve func(w http.ResponseWriter, r *http.Request)) faas.LogReader {
	p := newFake(t)
	p.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/logs") {
			serve(w, r)
			return true
		}
		return false
	}
	return open(t, faas.Config{Service: "svc", Endpoint: p.start(t).URL, Options: map[string]string{"token": "the-token"}})
}

func TestABrokenConnectionGoesOnWhereItWas(t *testing.T) {
	var calls atomic.Int32
	e := logPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		after, follow := r.FormValue("after"), r.FormValue("follow")
		if got := r.Header.Get("Authorization"); got != "Bearer the-token" {
			t.Errorf("authorization %q", got)
		}
		switch n := calls.Add(1); n {
		case 1:
			if after != "" || follow != "" || r.FormValue("limit") != "5" {
				t.Errorf("the first request is %s", r.URL)
			}
			fmt.Fprintln(w, `{"cursor":"a","time":"2026-01-02T03:04:05Z","text":"one","unknown":{"member":1}}`)
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			want := map[int32]string{2: "a", 4: "b", 5: "c"}[n]
			if after != want || follow != "true" || r.FormValue("limit") != "" {
				t.Errorf("request %d is %s", n, r.URL)
			}
			fmt.Fprintf(w, "\n{\"cursor\":%q,\"time\":\"2026-01-02T03:04:05Z\",\"text\":\"line %d\"}\n", string(rune('b'+n/4)),
				n)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	got, err := texts(t, e, faas.LogQuery{JobIDs: []uint32{1}, Follow: true, Limit: 5}, 4)
	if diff := cmp.Diff([]string{"one", "line 2", "line 4", "line 5"}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestForeignLogsAreReadWithinLimits(t *testing.T) {
	body := ""
	e := logPlatform(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) })
	for name, tt := range map[string]struct {
		body string
		want []string
		code faas.Code
	}{
		"nothing":            {"", nil, ""},
		"a line without end": {`{"text":"x"}`, []string{"x"}, ""},
		"the platform's words": {`{"text":"START","system":true}` + "\n" +
			`{"text":"it ran out of memory","system":true,"severity":"ERROR"}` + "\n" +
			`{"text":"y","severity":"loud","time":"soon"}`, []string{"it ran out of memory", "y"}, ""},
		"no JSON":       {"<html>the-token", nil, faas.ErrInternal},
		"another shape": {`{"text":1}`, nil, faas.ErrInternal},
		"too long":      {`{"text":"` + strings.Repeat("x", 2<<20) + `"}`, nil, faas.ErrTooLarge},
	} {
		body = tt.body
		got, err := texts(t, e, faas.LogQuery{JobIDs: []uint32{1}}, -1)
		if diff := cmp.Diff(tt.want, got); diff != "" || faas.CodeOf(err) != tt.code {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "the-token") {
			t.Errorf("%s: the token is in %v", name, err)
		}
	}
	body = `{"text":"START","system":true}`
	if got, err := texts(t, e, faas.LogQuery{JobIDs: []uint32{1}, System: true}, -1); len(got) != 1 || err != nil {
		t.Errorf("with system lines: %v %v", got, err)
	}
}
