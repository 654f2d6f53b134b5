package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// defaultHealthAddr is where Main's runner answers about its health: the system chooses the port.
const defaultHealthAddr = "127.0.0.1:0"

const (
	serviceHeader = "Blueprint-Service"
	actionHeader  = "Blueprint-Runner"
)

const (
	// maxBehind is how many blocks a healthy runner may be behind the head.
	maxBehind = 50
	// maxHeadAge is how old the latest block may be. Local chains make blocks only for transactions.
	maxHeadAge = 5 * time.Minute
)

// judge fills in whether the runner is healthy, and why not.
func judge(s *Status) {
	var reasons []string
	say := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if s.Over != "" {
		say("the service is over: %s", s.Over)
	}
	if s.Paused {
		say("the contract is paused")
	}
	usable, problem := false, "none was asked yet"
	for _, n := range s.Nodes {
		usable = usable || n.Usable
		if n.Problem != "" {
			problem = n.Node + ": " + n.Problem
		}
	}
	switch {
	case !usable:
		say("no node can be used: %s", problem)
	case s.Behind > maxBehind:
		say("%d blocks behind the chain", s.Behind)
	case !s.Ready:
		say("it has not caught up with the chain yet")
	}
	if age := time.Since(s.HeadTime); !s.HeadTime.IsZero() && !isLocal(s.ChainID) && age > maxHeadAge {
		say("the latest block is %v old: the nodes are stuck, or still read the chain", age.Round(time.Minute))
	}
	if s.Balance != nil && s.MinBalance != nil && s.Balance.Cmp(s.MinBalance) < 0 {
		say("%s has %s wei, which pays for too few results: send it at least %s", s.Operator, s.Balance, s.MinBalance)
	}
	s.Healthy, s.Reason = len(reasons) == 0, strings.Join(reasons, "; ")
}

// actions are what the endpoint may be asked to do.
type actions struct {
	retry func(call uint64) error
	claim func(context.Context) error
}

// endpoint answers about a runner on a loopback address.
type endpoint struct {
	service  uint64
	status   func() Status
	act      actions
	logger   *slog.Logger
	listener net.Listener
	file     string // "": none
	latency  histogram
}

// listen makes the endpoint listen, and writes its address to a file in the directory unless
// another runner answers there.
func listen(ctx context.Context, addr, dir string, service uint64, status func() Status, act actions,
	logger *slog.Logger) (*endpoint, error) {
	bad := func(err error) error {
		return faas.Errorf(faas.ErrInvalidArgument, "listen for health requests", "", "at %q: %w", addr, err)
	}
	if err := checkLoopback(addr); err != nil {
		return nil, bad(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, bad(err)
	}
	e := &endpoint{service: service, status: status, act: act, logger: logger, listener: l}
	if dir == "" {
		return e, nil
	}
	e.file = filepath.Join(dir, fmt.Sprintf("runner-%d.addr", service))
	if e.taken(ctx) {
		return e, nil
	}
	if err := e.publish(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return e, nil
}

// publish writes the address to the file. The runner that has the journal is the one to be found
// there, and calls it again.
func (e *endpoint) publish() error {
	if e.file == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(e.file), 0o700)
	if err == nil {
		err = files.Write(e.file, e.line(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing where the health endpoint listens: %w", err)
	}
	return nil
}

// taken reports whether another runner answers at the address in the file. A process that was
// killed leaves the file behind.
func (e *endpoint) taken(ctx context.Context) bool {
	text, err := os.ReadFile(e.file)
	addr := strings.TrimSpace(string(text))
	if err != nil || checkLoopback(addr) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+addr+"/status", nil)
	if err != nil {
		return false
	}
	t := &http.Transport{} // no proxy
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.Header.Get(serviceHeader) == strconv.FormatUint(e.service, 10)
}

// line is the content of the file.
func (e *endpoint) line() []byte { return []byte(e.listener.Addr().String() + "\n") }

// observe takes the events that metrics are made of.
func (e *endpoint) observe(ev Event) {
	if ev.Kind == EventFinished && ev.Outcome == Done && ev.Elapsed > 0 {
		e.latency.add(ev.Elapsed)
	}
}

// serve answers until ctx ends.
func (e *endpoint) serve(ctx context.Context) error {
	s := &http.Server{
		Handler: e.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(e.logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(closing) != nil { // a client does not read its answer
			_ = s.Close()
		}
	})
	err := s.Serve(e.listener)
	if !stop() {
		<-ended
	}
	// The file may be another runner's by now, which was started before this one had ended.
	if text, rerr := os.ReadFile(e.file); e.file != "" && rerr == nil && string(text) == string(e.line()) {
		_ = os.Remove(e.file)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answering health requests: %w", err)
}

// handler answers one request.
func (e *endpoint) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", e.healthz)
	mux.HandleFunc("GET /status", e.serveStatus)
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("POST /retry", e.retry)
	mux.HandleFunc("POST /claim", e.claim)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(serviceHeader, strconv.FormatUint(e.service, 10))
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// A web page can make a name of its own resolve to this machine and then read the answers.
		if !httputil.IsLoopback(httputil.HostOnly(r.Host)) {
			http.Error(w, "the host in the request is not a loopback address", http.StatusForbidden)
			return
		}
		if r.Method == http.MethodPost && r.Header.Get(actionHeader) == "" {
			http.Error(w, "the header "+actionHeader+" is missing", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (e *endpoint) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s := e.status(); !s.Healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, s.Reason+"\n")
		return
	}
	_, _ = io.WriteString(w, "healthy\n")
}

func (e *endpoint) serveStatus(w http.ResponseWriter, _ *http.Request) {
	text, err := json.MarshalIndent(e.status(), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n'))
}

func (e *endpoint) retry(w http.ResponseWriter, r *http.Request) {
	call, err := strconv.ParseUint(r.URL.Query().Get("call"), 10, 64)
	if err != nil {
		http.Error(w, "call is not the number of a call: POST /retry?call=N", http.StatusBadRequest)
		return
	}
	answer(w, e.act.retry(call))
}

func (e *endpoint) claim(w http.ResponseWriter, r *http.Request) { answer(w, e.act.claim(r.Context())) }

// answer reports the end of an action.
func answer(w http.ResponseWriter, err error) {
	switch code := faas.CodeOf(err); {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case code == faas.ErrNotFound:
		http.Error(w, err.Error(), http.StatusNotFound)
	case code == faas.ErrConflict, code == faas.ErrInvalidArgument:
		http.Error(w, err.Error(), http.StatusConflict)
	case code == faas.ErrUnavailable:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
