//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// late is a network on which requests that create functions arrive a while after their caller has
// given them up.
type late struct {
	delay time.Duration
	wg    *sync.WaitGroup
}

func (l late) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/functions") {
		return http.DefaultTransport.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	sent := req.Clone(context.Background())
	sent.Body = io.NopCloser(bytes.NewReader(body))
	l.wg.Go(func() {
		time.Sleep(l.delay)
		if resp, err := http.DefaultTransport.RoundTrip(sent); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	return nil, errors.New("connection reset by peer")
}

func TestAFunctionThatComesIntoBeingLateIsRemoved(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	var wg sync.WaitGroup
	e := openAt(t, server, "late", opening{client: &http.Client{Transport: late{50 * time.Millisecond, &wg}}})
	u := unitOf(t, e, script(t, "x"), small(0))
	_, err := e.Converge(t.Context(), u, nil, nil)
	var failed *faas.Error
	if faas.CodeOf(err) != faas.ErrUnavailable || !errors.As(err, &failed) || !failed.Unsettled {
		t.Errorf("got %v, which may still take effect", err)
	}
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := e.Remove(t.Context(), u.ID); err != nil { // the SDK has sent it more than once
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

// The function comes into being again after its deletion and before the look whether it is gone.
func TestAFunctionThatComesBackWhileItIsRemovedIsRemovedToo(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "back", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	mustDeploy(t, e, u)
	back := openAt(t, server, "back", opening{client: &http.Client{
		Transport: afterDelete{func() { mustDeploy(t, e, u) }, new(sync.Once)}}})
	if err := back.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

// afterDelete is a network that calls a function right after the first DELETE.
type afterDelete struct {
	do   func()
	once *sync.Once
}

func (a afterDelete) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if req.Method == http.MethodDelete {
		a.once.Do(a.do)
	}
	return resp, err
}

func TestAChangeUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "CreateFunction" {
			cancel()
			time.Sleep(30 * time.Millisecond) // the caller has given up long before the function exists
		}
		return nil
	}})
	e := openAt(t, server, "waited", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	if _, err := e.Converge(ctx, u, nil, nil); faas.CodeOf(err) != faas.ErrTimeout {
		t.Errorf("got %v", err)
	}
	if _, ok := server.Function(u.ID); !ok {
		t.Error("Converge returned before its request had taken effect")
	}
}

// A change that gets no answer in time is reported as one that may still take effect.
func TestAChangeThatIsNotAnsweredIsUnsettled(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"CreateFunction", "UpdateFunctionConfiguration"} {
		ctx, cancel := context.WithCancel(t.Context())
		release, armed := make(chan struct{}), false
		server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == operation && armed {
				cancel()
				<-release
			}
			return nil
		}})
		hasty := fastPace
		hasty.grace = 10 * time.Millisecond
		e := openAt(t, server, "unanswered", opening{pace: &hasty})
		bin := script(t, "x")
		u := unitOf(t, e, bin, valued("-one", 0, 0))
		if operation != "CreateFunction" {
			mustDeploy(t, e, u)
			u = unitOf(t, e, bin, valued("-two", 0, 0))
		}
		armed = true
		_, err := deploy(ctx, e, u)
		close(release)
		var failed *faas.Error
		if faas.CodeOf(err) != faas.ErrTimeout || !errors.As(err, &failed) || !failed.Unsettled ||
			!errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", operation, err)
		}
	}
}
