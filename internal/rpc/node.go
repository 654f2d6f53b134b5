package rpc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// Node is a node's URL, and what is known of the node.
type Node struct {
	url  *url.URL
	hide *sanitize.Cleaner // knows the secrets of the URL

	mu       sync.Mutex
	refused  error     // why it must not be used; nil: it may be
	errors   uint64    // all that were its fault
	failures int       // in a row
	last     *Error    // the last that was its fault
	failed   time.Time // when it was asked what failed last
	rest     time.Time // it is not asked before
	demanded bool      // it wants that rest, because it is asked too much
	batch    int       // calls in a request; 0: maxBatch
	shrunk   time.Time // when batch was set
}

func newNode(raw string) (*Node, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil: // the error's text may contain a password
		return nil, errors.New("cannot be parsed: it must be like http://localhost:9944")
	case u.Scheme == "ws" || u.Scheme == "wss":
		return nil, fmt.Errorf("has the scheme %s, and only http and https are spoken: most nodes serve both, at the "+
			"same host", u.Scheme)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("must begin with http:// or https:// and name a host")
	}
	return &Node{url: u, hide: cleanerOf(u)}, nil
}

// String returns the scheme and the host of the node. The path and query may contain secrets: keys
// of hosted nodes.
func (n *Node) String() string { return n.url.Scheme + "://" + n.url.Host }

// Refuse says why the node must not be used by Do, or with nil that it may be.
func (n *Node) Refuse(reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused = reason
}

// Refused returns why the node must not be used, or nil.
func (n *Node) Refused() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refused
}

// Health returns how many requests failed by the node's fault, how many of them in a row at last,
// and the last such error, which is nil if there was none.
func (n *Node) Health() (total uint64, inRow int, last error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last != nil {
		last = n.last
	}
	return n.errors, n.failures, last
}

// Pause returns how long the node should not be asked: it failed, or asked for rest.
func (n *Node) Pause() time.Duration {
	pause, _ := n.rests()
	return pause
}

// rests returns how long the node should not be asked, and whether it said so itself.
func (n *Node) rests() (pause time.Duration, demanded bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rest.IsZero() {
		return 0, false
	}
	return max(0, time.Until(n.rest)), n.demanded
}

// note remembers the outcome of a request that was sent at a time.
func (n *Node) note(sent time.Time, err *Error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil || !err.blames() {
		if !sent.Before(n.failed) { // else it was better before than it is now
			n.failures, n.rest = 0, time.Time{}
		}
		return
	}
	n.errors++
	n.last = err
	if sent.Before(n.failed) { // one failure, seen by several that asked at the same time
		return
	}
	n.failed = time.Now()
	pause := min(firstPause<<min(n.failures, 8), longestPause)
	n.failures++
	n.demanded = err.Throttled() || err.after > 0
	n.rest = n.failed.Add(max(min(err.after, maxPause), pause/2+rand.N(pause/2)))
}

// batchLimit returns how many calls may be sent in a request.
func (n *Node) batchLimit() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.batch != 0 && time.Since(n.shrunk) > forgetBatch {
		n.batch = 0
	}
	if n.batch == 0 {
		return maxBatch
	}
	return n.batch
}

func (n *Node) setBatchLimit(limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batch, n.shrunk = limit, time.Now()
}

// Scrub removes the URL's secrets from a text that others wrote. It must come before any cut,
// which could leave a part of one.
func (n *Node) Scrub(text string) string { return n.hide.Clean(text) }

// RPCError returns an error that says that the node answered a method with an error.
func (n *Node) RPCError(err *RPCError, method string) *Error {
	scrubbed := *err
	scrubbed.Message = n.Scrub(err.Message)
	e := errorf(ErrRPC, "node %s answered %s with %w", n, method, &scrubbed)
	e.RPC, e.again = &scrubbed, err.transient()
	return e
}

// Malformed returns an error that says that the node's answer to a method is malformed.
func (n *Node) Malformed(method string, err error) *Error {
	return errorf(ErrMalformed, "node %s: answer to %s malformed: %w", n, method, &scrubbedError{n.malformed(err), err})
}

// malformed returns the text of an error that may contain foreign text.
func (n *Node) malformed(err error) string {
	if garbage, ok := err.(*errNotJSON); ok {
		return (&errNotJSON{n.Scrub(garbage.begin)}).Error()
	}
	return n.Scrub(err.Error())
}

// scrubbedError is an error without the secrets that its text may have contained.
type scrubbedError struct {
	text string
	err  error
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.err }
