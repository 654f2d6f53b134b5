package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

const (
	// The request and response limits of the clouds, in bytes.
	maxCloudRunBody = 32 << 20
	maxAzureBody    = 100 << 20
	// grace is how long calls in flight may take after the signal to stop. Cloud Run kills the
	// process after 10 s.
	grace = 9 * time.Second
	// keptBuffer is the largest buffer that is kept for later requests, in bytes.
	keptBuffer = 1 << 20
	// memoryInterval is the maximum age of the memory in a response.
	memoryInterval = 100 * time.Millisecond
)

// httpServer answers invocations over HTTP.
type httpServer struct {
	*process
	maxBody int64
	// envelope unpacks requests that are not plain ones. It is nil if there are no others.
	envelope func(w http.ResponseWriter, r *http.Request, body []byte) bool
	buffers  sync.Pool // of *[]byte

	memoryAt atomic.Int64 // when memoryMB was last asked for, in nanoseconds of Unix time
	memoryMB atomic.Uint32
}

// serveCloudRun serves HTTP on all interfaces, as Cloud Run functions must.
func (p *process) serveCloudRun(ctx context.Context) error {
	port, err := p.port(cloudRunPortEnv)
	if err != nil {
		return err
	}
	return p.listen(ctx, ":"+port, &httpServer{process: p, maxBody: maxCloudRunBody})
}

// listen serves until ctx is done, and then finishes the calls in flight.
func (p *process) listen(ctx context.Context, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	server := &http.Server{
		Handler: handler,
		// Reading a body and writing an answer have no time limit: the platform has one, and a job may
		// take an hour.
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(p.stderr, "job: ", 0),
		BaseContext:       func(net.Listener) context.Context { return calls },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err = server.Shutdown(shutdown)
	<-served
	if err != nil {
		cancelCalls()
		_ = server.Close() // only closes what Shutdown gave up on
		return fmt.Errorf("calls were still running %v after the signal to stop", grace)
	}
	return nil
}

// ServeHTTP answers an invocation on any path, since the body names the job, and probes.
func (s *httpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		s.invoke(w, r)
	case http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case http.MethodGet:
		if r.URL.Path != "/" && r.URL.Path != "/healthz" {
			writeError(w, http.StatusNotFound, "NOT_FOUND", "there is nothing to get here; invoke a job with POST")
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, marker[:len(protocols)])
		_, _ = io.WriteString(w, "\n")
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		writeError(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "invoke a job with POST")
	}
}

func (s *httpServer) invoke(w http.ResponseWriter, r *http.Request) {
	if payloads.IsCall(r.Header) {
		s.invokeRaw(w, r)
		return
	}
	buf := s.buffer()
	defer s.release(buf)
	body, err := readBody((*buf)[:0], r, s.maxBody)
	*buf = body
	if err != nil {
		refuseBody(w, err)
		return
	}
	if faas.IsWarmRequest(body) {
		writeJSON(w, http.StatusOK, []byte(faas.WarmResponse))
		return
	}
	id, args, compact, err := faas.ParseAnyRequest(nil, body)
	if err != nil {
		if s.envelope == nil || !s.envelope(w, r, body) {
			writeError(w, http.StatusBadRequest, "INVALID_REQUEST", err.Error())
		}
		return
	}
	// The request is parsed, so its buffer can take the answer.
	status, answer := s.answerCall(r.Context(), (*buf)[:0], id, args, compact)
	if cap(answer) > cap(*buf) {
		*buf = answer
	}
	writeJSON(w, status, answer)
}

// invokeRaw answers an invocation in the raw form. The body becomes the handler's arguments, and
// the output becomes the body of the answer, both unencoded.
func (s *httpServer) invokeRaw(w http.ResponseWriter, r *http.Request) {
	call, err := payloads.ParseCall(r.Header)
	if err != nil {
		refuseBody(w, err)
		return
	}
	room := min(call.Size, s.maxBody)
	args, err := readBody(make([]byte, 0, room+1), r, s.maxBody) // one more, so that the end is seen without growing
	if err == nil {
		args, err = call.Arguments(args)
	}
	if err != nil {
		refuseBody(w, err)
		return
	}
	output, took, fail := s.await(r.Context(), call.JobID, args)
	if fail == nil && int64(len(output)) > s.maxBody {
		fail = tooLarge(int64(len(output)), s.maxBody)
	}
	if fail != nil {
		status, answer := s.failed(nil, call.JobID, took, fail, false)
		writeJSON(w, status, answer)
		return
	}
	payloads.SetAnswer(w.Header(), response(call.JobID, output, took, nil, s.memory()))
	_, _ = w.Write(output) // the client is gone, and nobody else wants to know
}

// refuseBody answers a request that could not be read.
func refuseBody(w http.ResponseWriter, err error) {
	if errors.Is(err, frame.ErrTooLarge) {
		w.Header().Set("Connection", "close") // the rest of the body is not worth reading
		writeError(w, http.StatusRequestEntityTooLarge, payloads.TooLarge, err.Error())
		return
	}
	writeError(w, http.StatusBadRequest, "INVALID_REQUEST", "reading the request body: "+err.Error())
}

// answerCall runs a job, appends the JSON of the answer to dst in the form of the request, and
// returns it with its status.
func (s *httpServer) answerCall(ctx context.Context, dst []byte, id uint32, args []byte, compact bool) (int, []byte) {
	output, took, fail := s.await(ctx, id, args)
	if fail != nil {
		return s.failed(dst, id, took, fail, compact)
	}
	start, r := len(dst), response(id, output, took, nil, s.memory())
	r.Compact = compact
	dst = faas.AppendResponse(dst, r)
	if size := int64(len(dst) - start); size > s.maxBody {
		return s.failed(dst[:start], id, took, tooLarge(size, s.maxBody), compact)
	}
	return http.StatusOK, dst
}

// failed appends the JSON of a call that failed to dst, and returns it with its status.
func (s *httpServer) failed(dst []byte, id uint32, took time.Duration, fail *failure, compact bool) (int, []byte) {
	if fail.code == frame.UnknownJob {
		return http.StatusNotFound, appendError(dst, "NOT_FOUND", fail.message)
	}
	r := response(id, nil, took, fail, s.memory())
	r.Compact = compact
	dst = faas.AppendResponse(dst, r)
	if fail.code == frame.TooLarge { // which callers tell from a failure of the job
		dst = append(dst[:len(dst)-1], `,"code":"`+payloads.TooLarge+`"}`...)
	}
	return http.StatusInternalServerError, dst
}

// memory is peakMemoryMB, read only now and then, since reading it takes as long as a short call.
func (s *httpServer) memory() uint32 {
	now := time.Now().UnixNano()
	last := s.memoryAt.Load()
	if now-last > int64(memoryInterval) && s.memoryAt.CompareAndSwap(last, now) {
		s.memoryMB.Store(peakMemoryMB())
	}
	return s.memoryMB.Load()
}

func tooLarge(size, limit int64) *failure {
	return &failure{frame.TooLarge, fmt.Sprintf("the response has %d bytes, the platform's limit is %d", size, limit)}
}

// readBody appends the request's body to dst.
func readBody(dst []byte, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return dst, fmt.Errorf("%w: the request has %d bytes, the limit is %d", frame.ErrTooLarge, r.ContentLength, limit)
	}
	body := io.LimitReader(r.Body, limit+1)
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := body.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case int64(len(dst)) > limit:
			return dst, fmt.Errorf("%w: the request is larger than the limit of %d bytes", frame.ErrTooLarge, limit)
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

func (s *httpServer) buffer() *[]byte {
	if buf, ok := s.buffers.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, 0, 4<<10)
	return &buf
}

func (s *httpServer) release(buf *[]byte) {
	if cap(*buf) <= keptBuffer {
		s.buffers.Put(buf)
	}
}

func writeJSON(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client is gone, and nobody else wants to know
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, appendError(nil, code, message))
}

// appendError appends the custom platform protocol's error.
func appendError(dst []byte, code, message string) []byte {
	text, err := json.Marshal(struct {
		Error   string   `json:"error"`
		Code    string   `json:"code"`
		Details struct{} `json:"details"`
	}{Error: message, Code: code})
	if err != nil {
		panic("job: strings do not marshal: " + err.Error())
	}
	return append(dst, text...)
}
