// Package rpc speaks JSON-RPC over HTTP with several nodes that it does not trust: it limits every
// response, counts every retry, and never prints what is secret in a URL.
package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// The limits of a conversation with a node.
const (
	// defaultMaxResponse is the maximum length of an unpacked response in bytes, unless configured. If
	// a node does not support batches, it limits the sum of the responses that replace a batch.
	defaultMaxResponse = 4 << 20
	// maxErrorBody limits how much of the body of an HTTP error is read.
	maxErrorBody = 64 << 10
	// defaultTimeout limits the time for a response.
	defaultTimeout = 10 * time.Second
	// defaultAttempts is how often a node is asked the same, unless configured.
	defaultAttempts = 3
	// waitsPerAttempt is how often Do waits at most, because all nodes rest, for each attempt.
	waitsPerAttempt = 3
	// firstPause doubles with every failure of a node, up to longestPause. maxPause limits the pause
	// that a node may ask for.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	maxPause     = 5 * time.Second
	// maxBatch is how many calls are sent in a request. A node that refuses them gets fewer, and
	// leastBatch is the fewest to try before single calls; forgetBatch is when it is tried again.
	maxBatch    = 100
	leastBatch  = 16
	forgetBatch = 10 * time.Minute
)

// Config says which nodes to ask, and how.
type Config struct {
	URLs        []string      // http or https URLs of nodes, the preferred ones first
	HTTP        *http.Client  // nil for http.DefaultClient
	Timeout     time.Duration // per response; 0 for ten seconds
	MaxResponse int           // bytes; 0 for 4 MiB
	// Attempts is how often a node is asked the same if that may help; 0 for three. A node that failed
	// as often before is asked once.
	Attempts int
}

// Client asks nodes. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	timeout time.Duration
	limit   int // of a response
	tries   int
	nodes   []*Node
}

// New returns a client. It sends nothing. The error is an *Error of the kind ErrConfig.
func New(cfg Config) (*Client, error) {
	c := &Client{timeout: cfg.Timeout, limit: cmp.Or(cfg.MaxResponse, defaultMaxResponse),
		tries: cmp.Or(cfg.Attempts, defaultAttempts)}
	httpClient := cfg.HTTP
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	copied := *httpClient
	// A redirect could send the URL's credentials to another host, and turn the POST into a GET.
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &copied
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if t := httpClient.Timeout; t > 0 {
		c.timeout = min(c.timeout, t)
	}
	for i, raw := range cfg.URLs {
		n, err := newNode(raw)
		if err != nil {
			return nil, errorf(ErrConfig, "RPC URL %d of %d %w", i+1, len(cfg.URLs), err)
		}
		c.nodes = append(c.nodes, n)
	}
	if len(c.nodes) == 0 {
		return nil, errorf(ErrConfig, "no RPC URL is given")
	}
	return c, nil
}

// Once returns a client of the same nodes that asks each at most once.
func (c *Client) Once() *Client {
	once := *c
	once.tries = 1
	return &once
}

// Nodes returns all nodes in the order of the URLs.
func (c *Client) Nodes() []*Node { return slices.Clone(c.nodes) }

// Do sends the calls to one of the nodes, all of the client's if none are named, and returns their
// answers in the same order and the node that gave them. It sends a batch if the node supports
// batches. If a node fails, Do asks the next one; it asks all nodes again, after a pause, if that
// may help. It asks nodes that failed lately last, and those that are refused not at all. The
// error is an *Error.
//
// The answer to a required call is a result, or a revert by the contract. Other answers may contain
// any error.
func (c *Client) Do(ctx context.Context, calls []Call, among ...*Node) ([]Answer, *Node, error) {
	if among == nil {
		among = c.nodes
	}
	nodes, err := candidates(among)
	if err != nil {
		return nil, nil, err
	}
	tries := make([]try, len(nodes))
	for i, n := range nodes {
		tries[i].left = c.tries
		if _, inRow, _ := n.Health(); inRow >= c.tries {
			tries[i].left = 1
		}
	}
	var partial []Answer // lacks only answers that are not required
	var partialFrom *Node
	for waits := 0; ; waits++ {
		wait := time.Duration(-1)
		for i, n := range nodes {
			if tries[i].left == 0 {
				continue
			}
			// Who has waited for a node asks it, although others may have failed with it since, unless it
			// wants to be left alone.
			if pause, demanded := n.rests(); pause > 0 && (waits == 0 || demanded) {
				if wait < 0 || pause < wait {
					wait = pause
				}
				continue
			}
			answers, failure := c.Ask(ctx, n, calls)
			if ctx.Err() != nil {
				return nil, nil, &Error{Kind: ErrTimeout, Err: fmt.Errorf("node %s had not answered: %w", n, context.Cause(ctx))}
			}
			if failure == nil {
				return answers, n, nil
			}
			if answers != nil {
				partial, partialFrom = answers, n
			}
			tries[i].err = failure
			if tries[i].left--; !failure.again {
				tries[i].left = 0
			}
			if pause := n.Pause(); tries[i].left > 0 && (wait < 0 || pause < wait) {
				wait = pause
			}
		}
		if wait < 0 || waits == waitsPerAttempt*c.tries {
			break
		}
		// Those that wait for the same node must not ask it all at once.
		if !httputil.Sleep(ctx, wait+rand.N(wait/8+1)) {
			return nil, nil, &Error{Kind: ErrTimeout, Err: fmt.Errorf("no node had answered: %w; the last attempt: %w",
				context.Cause(ctx), combine(nodes, tries))}
		}
	}
	if partial != nil {
		return partial, partialFrom, nil
	}
	return nil, nil, combine(nodes, tries)
}

// try is how it went with a node.
type try struct {
	left int
	err  *Error // the last
}

// candidates returns the nodes that may be asked, those that failed lately last.
func candidates(nodes []*Node) ([]*Node, *Error) {
	usable := make([]*Node, 0, len(nodes))
	failing := make(map[*Node]int)
	var refusals joined
	for _, n := range nodes {
		if err := n.Refused(); err != nil {
			refusals = append(refusals, fmt.Errorf("node %s: %w", n, err))
			continue
		}
		usable = append(usable, n)
		_, failing[n], _ = n.Health()
	}
	if len(usable) == 0 {
		return nil, errorf(ErrUnusable, "no node is usable: %w", refusals)
	}
	slices.SortStableFunc(usable, func(a, b *Node) int { return failing[a] - failing[b] })
	return usable, nil
}

// combine returns one error for the errors of all nodes. Its kind is that of the first node, the
// preferred one, or ErrAbsent if a node answered that it does not have what was asked for.
func combine(nodes []*Node, tries []try) *Error {
	var all joined
	var first *Error
	for i, t := range tries {
		err := t.err
		if err == nil { // it was resting all the time
			if _, _, last := nodes[i].Health(); last == nil || !errors.As(last, &err) {
				err = errorf(ErrUnreachable, "node %s was not asked", nodes[i])
			}
		}
		if first == nil || err.Kind == ErrAbsent {
			copied := *err
			first = &copied
		}
		all = append(all, err)
	}
	if len(all) > 1 {
		first.Err = fmt.Errorf("none of %d nodes gave an answer: %w", len(all), all)
	}
	return first
}

// joined is a list of errors in one line.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// Ask asks a node once, whether it rests or is refused or not. With an error it may return answers,
// which then lack only what is not required.
func (c *Client) Ask(ctx context.Context, n *Node, calls []Call) ([]Answer, *Error) {
	sent := time.Now()
	answers, err := c.exchange(ctx, n, calls)
	if ctx.Err() == nil { // else the caller has no patience, which is no fault of the node's
		n.note(sent, err)
	}
	return answers, err
}

// exchange sends the calls in as many requests as the node wants, and checks the answers.
func (c *Client) exchange(ctx context.Context, n *Node, calls []Call) ([]Answer, *Error) {
	known := n.batchLimit()
	limit := known
	answers := make([]Answer, 0, len(calls))
	for total := 0; len(answers) < len(calls); {
		rest := calls[len(answers):]
		some, size, refused, err := c.request(ctx, n, rest[:min(limit, len(rest))])
		if refused && limit > 1 {
			if limit = min(limit, len(rest)) / 2; limit < leastBatch {
				limit = 1
			}
			if !err.Throttled() {
				continue
			}
			n.setBatchLimit(limit) // it wants less, and later
		}
		if err != nil {
			return nil, err
		}
		if total += size; total > c.limit {
			return nil, c.tooLarge(n)
		}
		answers = append(answers, some...)
	}
	if limit < known { // only now it is certain that it was the number of calls that was refused
		n.setBatchLimit(limit)
	}
	var flaw *Error
	for i, a := range answers {
		switch {
		case a.Err == nil && calls[i].Check != nil:
			if err := calls[i].Check(a.Result); errors.Is(err, ErrAbsent) {
				return nil, errorf(ErrAbsent, "node %s: %w", n, err)
			} else if err != nil {
				return nil, n.Malformed(calls[i].Method, err)
			}
		case a.Err == nil || !calls[i].fails(a.Err):
		case calls[i].Required:
			return nil, n.RPCError(a.Err, calls[i].Method)
		case a.Err.transient() && flaw == nil:
			flaw = n.RPCError(a.Err, calls[i].Method)
		}
	}
	return answers, flaw
}

// request sends the calls in one request and returns the answers and the length of the response.
// It reports whether the node may take fewer calls at a time.
func (c *Client) request(ctx context.Context, n *Node, calls []Call) (answers []Answer, size int, fewer bool,
	err *Error) {
	if len(calls) == 1 {
		one := calls[0]
		body, err := c.post(ctx, n, encodeSingle(one))
		if err != nil {
			return nil, 0, false, err
		}
		a, parseErr := parseSingle(body)
		if parseErr != nil {
			return nil, 0, false, n.Malformed(one.Method, parseErr)
		}
		if a.Err != nil && one.Required && one.fails(a.Err) {
			return nil, 0, false, n.RPCError(a.Err, one.Method) // the other answers would be useless
		}
		return []Answer{a}, len(body), false, nil
	}
	body, err := c.post(ctx, n, encodeBatch(calls))
	if err != nil {
		return nil, 0, refusesBatches(err.Status) || err.Throttled() && len(calls) > leastBatch, err
	}
	answers, parseErr := parseBatch(body, len(calls))
	if refusal, ok := parseErr.(*errNoBatch); ok {
		err = n.RPCError(refusal.err, "a batch")
		return nil, 0, !err.again || err.Throttled() && len(calls) > leastBatch, err
	}
	if parseErr != nil {
		return nil, 0, false, errorf(ErrMalformed, "node %s: answer malformed: %s", n, n.malformed(parseErr))
	}
	return answers, len(body), false, nil
}

// refusesBatches reports whether servers are known to answer an unexpected JSON array with this
// status.
func refusesBatches(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusNotImplemented:
		return true
	}
	return false
}
