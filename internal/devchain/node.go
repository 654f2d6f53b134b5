package devchain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// LogLimit is how a node words that a query for logs asks for too much.
type LogLimit int

// The ways of different providers.
const (
	LimitRange      LogLimit = iota // -32602: query exceeds max block range
	LimitSuggestion                 // -32602: response size exceeded, this range should work [a, b]
	LimitResults                    // -32005: query returned more than 10000 results
	LimitProvider                   // -32614: eth_getLogs is limited to a range
	LimitServer                     // -32000: exceed maximum block range
	LimitHTTP                       // HTTP 413 without JSON
	LimitBrokenBody                 // the body ends in the middle
	LimitNoAnswer                   // the connection ends without an answer
)

// Faults say how a node fails. The zero value is a good node. A counter counts down.
type Faults struct {
	Lag     uint64        // the node is this many blocks behind
	LogLag  uint64        // queries for logs do not see the last blocks, and do not say so
	Latency time.Duration // of every answer
	Down    bool          // connections end without an answer
	NoBatch bool          // batches are refused
	// MaxBatch is the most calls in a batch; 0: 1000.
	MaxBatch int
	// LogBlocks is the widest range of a query for logs, LogResults the most logs; 0: no limit.
	LogBlocks  uint64
	LogResults int
	LogLimit   LogLimit
	// MaxAnswer is the most bytes of an answer; a longer one breaks off. 0: no limit.
	MaxAnswer int

	TooMany   int // answers of HTTP 429
	Throttled int // answers of -32005
	Broken    int // answers that break off
	Cut       int // connections that end without an answer
	Garbage   int // answers of HTML with status 200
	Internal  int // answers of -32603
	// LoseSent takes transactions and cuts the connection; DropSent answers with the hash of a
	// transaction that it forgets.
	LoseSent, DropSent int

	// Random makes this share of requests fail, each time in another way: some are answered, and the
	// answer is lost. Seed 0 is a seed too.
	Random float64
	Seed   uint64
}

// Node is a node of the chain, as an http.Handler. Several nodes of one chain share everything but
// their faults.
type Node struct {
	chain *Chain
	geth  bool

	mu       sync.Mutex
	faults   Faults
	random   *rand.Rand
	calls    map[string]int
	requests int
	before   func(method string, params []json.RawMessage)
	server   *http.Server
	address  string
	served   sync.WaitGroup
}

// Node returns a new node of the chain, with the error codes and messages of anvil.
func (c *Chain) Node() *Node { return c.node(false) }

// GethNode returns a new node of the chain, with the error codes and messages of go-ethereum. It
// keeps transactions that do not pay the base fee, as go-ethereum does.
func (c *Chain) GethNode() *Node { return c.node(true) }

func (c *Chain) node(geth bool) *Node {
	n := &Node{chain: c, geth: geth, calls: map[string]int{}, random: rand.New(rand.NewPCG(0, 0))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	return n
}

// Set changes how the node fails.
func (n *Node) Set(change func(*Faults)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	seed := n.faults.Seed
	if change(&n.faults); n.faults.Seed != seed {
		n.random = rand.New(rand.NewPCG(n.faults.Seed, 0))
	}
}

// Before calls a function before every call of a method. The function may change the chain.
func (n *Node) Before(call func(method string, params []json.RawMessage)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before = call
}

// Requests returns how many HTTP requests came, and how many calls of each method.
func (n *Node) Requests() (requests int, calls map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	calls = make(map[string]int, len(n.calls))
	for method, count := range n.calls {
		calls[method] = count
	}
	return n.requests, calls
}

// Listen serves the node on a port of the loopback interface, until the chain is closed, and
// returns the URL. A node that was stopped gets its port again.
func (n *Node) Listen() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return "http://" + n.address, nil
	}
	if n.address == "" {
		n.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", n.address)
	if err != nil {
		return "", fmt.Errorf("serve a node: %w", err)
	}
	n.address = listener.Addr().String()
	server := &http.Server{Handler: n, ReadHeaderTimeout: time.Minute}
	n.server = server
	n.served.Go(func() { _ = server.Serve(listener) }) // it always ends with an error
	return "http://" + n.address, nil
}

// Stop closes the port and all connections. Listen opens it again.
func (n *Node) Stop() { n.close() }

func (n *Node) close() {
	n.mu.Lock()
	server := n.server
	n.server = nil
	n.mu.Unlock()
	if server != nil {
		_ = server.Close() // nobody is left to be told
		n.served.Wait()
	}
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data,omitempty"`
}

type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

// null is a result that is there, and is null.
var null = json.RawMessage("null")

// cutOff ends the connection without an answer.
type cutOff struct{}

// brokenOff ends an answer in the middle.
type brokenOff struct{}

// statusOnly answers with an HTTP status alone.
type statusOnly int

// ServeHTTP answers a call or a batch of calls.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		http.Error(w, "request entity too large", http.StatusRequestEntityTooLarge)
		return
	}
	n.mu.Lock()
	n.requests++
	faults := n.faults
	fault := n.pick()
	n.mu.Unlock()
	if faults.Latency > 0 {
		select {
		case <-time.After(faults.Latency):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case r.Method != http.MethodPost:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		http.Error(w, "invalid content type, only application/json is supported", http.StatusUnsupportedMediaType)
		return
	}
	switch fault := fault.(type) {
	case cutOff:
		panic(http.ErrAbortHandler)
	case statusOnly:
		http.Error(w, http.StatusText(int(fault)), int(fault))
		return
	case string:
		_, _ = io.WriteString(w, fault) // the client may be gone
		return
	}
	reply, special := n.answer(body, faults, fault)
	switch special := special.(type) {
	case cutOff:
		panic(http.ErrAbortHandler)
	case statusOnly:
		http.Error(w, http.StatusText(int(special)), int(special))
		return
	}
	out, err := json.Marshal(reply)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, isBroken := fault.(brokenOff)
	_, wasBroken := special.(brokenOff)
	w.Header().Set("Content-Type", "application/json")
	if isBroken || wasBroken || faults.MaxAnswer > 0 && len(out) > faults.MaxAnswer {
		w.Header().Set("Content-Length", fmt.Sprint(len(out)))
		_, _ = w.Write(out[:len(out)/2])
		_ = http.NewResponseController(w).Flush() // a recorder, which cannot, has it already
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(out) // the client may be gone
}

// pick chooses the fault of a request: nil for none.
func (n *Node) pick() any {
	countdown := func(counter *int) bool {
		if *counter > 0 {
			*counter--
			return true
		}
		return false
	}
	f := &n.faults
	switch {
	case f.Down, countdown(&f.Cut):
		return cutOff{}
	case countdown(&f.TooMany):
		return statusOnly(http.StatusTooManyRequests)
	case countdown(&f.Garbage):
		return "<html><body>upstream error</body></html>"
	case countdown(&f.Broken):
		return brokenOff{}
	case countdown(&f.Throttled):
		return &rpcError{Code: -32005, Message: "daily request count exceeded, request rate limited"}
	case countdown(&f.Internal):
		return &rpcError{Code: -32603, Message: "internal error"}
	case f.Random > 0 && n.random.Float64() < f.Random:
		return []any{
			cutOff{}, statusOnly(http.StatusTooManyRequests), statusOnly(http.StatusBadGateway), brokenOff{},
			&rpcError{Code: -32005, Message: "request rate limited"}, &rpcError{Code: -32603, Message: "internal error"},
			"<html><body>bad gateway</body></html>",
		}[n.random.IntN(7)]
	}
	return nil
}

// answer answers a body. special is how the answer is spoilt.
func (n *Node) answer(body []byte, faults Faults, fault any) (reply, special any) {
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		var r request
		if err := json.Unmarshal(body, &r); err != nil {
			return n.unparsed(), nil
		}
		return n.reply(r, faults, fault)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return n.unparsed(), nil
	}
	most := faults.MaxBatch
	if most == 0 {
		most = 1000
	}
	switch {
	case faults.NoBatch:
		return failure(nil, &rpcError{Code: -32600, Message: "batches are not supported"}), nil
	case len(list) == 0:
		return failure(nil, &rpcError{Code: -32600, Message: "empty batch"}), nil
	case len(list) > most:
		return failure(nil, &rpcError{Code: -32600, Message: "batch too large"}), nil
	}
	replies := make([]response, len(list))
	for i, raw := range list {
		var r request
		at := len(list) - 1 - i // in reverse order: the standard allows any
		if err := json.Unmarshal(raw, &r); err != nil {
			replies[at] = failure(nil, &rpcError{Code: -32600, Message: "invalid request"})
			continue
		}
		var spoilt any
		if replies[at], spoilt = n.reply(r, faults, fault); spoilt != nil {
			special = spoilt
		}
	}
	return replies, special
}

// unparsed answers what is no JSON.
func (n *Node) unparsed() response {
	if n.geth {
		return failure(nil, &rpcError{Code: -32700, Message: "parse error"})
	}
	return failure(nil, &rpcError{Code: -32600, Message: "Invalid request"})
}

func failure(id json.RawMessage, err *rpcError) response {
	if id == nil {
		id = null
	}
	return response{Version: "2.0", ID: id, Error: err}
}

func (n *Node) reply(r request, faults Faults, fault any) (response, any) {
	if r.Version != "2.0" || r.Method == "" || len(r.ID) == 0 {
		return failure(r.ID, &rpcError{Code: -32600, Message: "invalid request"}), nil
	}
	n.mu.Lock()
	n.calls[r.Method]++
	before := n.before
	n.mu.Unlock()
	if err, ok := fault.(*rpcError); ok {
		return failure(r.ID, err), nil
	}
	var params []json.RawMessage
	if len(r.Params) > 0 && json.Unmarshal(r.Params, &params) != nil {
		return failure(r.ID, &rpcError{Code: -32602, Message: "invalid params: expected a list"}), nil
	}
	if before != nil {
		before(r.Method, params)
	}
	result, err := n.call(r.Method, params, faults)
	var special any
	var told *rpcError
	switch {
	case err == nil:
		if result == nil {
			result = null
		}
		return response{Version: "2.0", ID: r.ID, Result: result}, nil
	case errors.As(err, &told):
		return failure(r.ID, told), nil
	default:
		special = spoil(err)
	}
	return failure(r.ID, &rpcError{Code: -32000, Message: "no answer"}), special
}

// spoilt is an error that spoils the whole answer.
type spoilt struct{ how any }

func (spoilt) Error() string { return "answer spoilt" }

func spoil(err error) any {
	var s spoilt
	if errors.As(err, &s) {
		return s.how
	}
	return nil
}

func (e *rpcError) Error() string { return e.Message }
