package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

const (
	// maxResponse limits a response in bytes: the logs of a full block fit.
	maxResponse = 16 << 20
	// attempts is how often a node is asked the same.
	attempts = 5
	// grace is how long the other nodes are awaited after the first has answered.
	grace = time.Second
	// A node is stale if its head is this far behind, in blocks and in seconds of block time: blocks
	// of a fast chain are many in no time, and those of a quiet chain are far apart.
	staleBlocks = 5
	staleTime   = 30
	// future is how many seconds the time of a head may be ahead of this machine's, if other nodes
	// have heads that are not.
	future = 3600
	// probeEvery is how often nodes that are not asked otherwise are asked for their head.
	probeEvery = 10 * time.Second
)

// Chain is safe for concurrent use.
type Chain struct {
	rpc      *rpc.Client
	nodes    []*node
	id       uint64
	contract Address
	log      *slog.Logger
	idle     func() // closes connections
	window   window
	order    atomic.Int32 // of the words of getJobCall

	life  context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	closed bool
	probed time.Time // when all nodes were asked last, or are being asked
}

// node is a node and its head.
type node struct {
	*rpc.Node
	mu      sync.Mutex
	checked bool // its chain id was right
	head    Block
	told    string // what was logged of it last
}

// Open asks the nodes for the chain's id and looks for the contract. It fails if no node answers,
// or if there is no contract. If Config.ChainID is zero it also fails if the nodes are of
// different chains, and else if all are of another one. The error is an *rpc.Error or a
// *tangle.Error.
func Open(ctx context.Context, cfg Config) (*Chain, error) {
	c := &Chain{log: cfg.Logger, idle: func() {}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	client := cfg.HTTP
	if client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64 // a job's requests must not wait for handshakes
		client, c.idle = &http.Client{Transport: transport}, transport.CloseIdleConnections
	}
	var err error
	c.rpc, err = rpc.New(rpc.Config{
		URLs: cfg.URLs, HTTP: client, Timeout: cfg.Timeout, MaxResponse: maxResponse, Attempts: attempts})
	if err != nil {
		return nil, err
	}
	for _, n := range c.rpc.Nodes() {
		c.nodes = append(c.nodes, &node{Node: n})
	}
	c.window.init(cfg.MaxLogRange)
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.open(ctx, cfg); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Chain) open(ctx context.Context, cfg Config) error {
	c.id = cfg.ChainID
	heads := gather(ctx, c, c.nodes, func(ctx context.Context, n *node) (peer, error) {
		p := peer{}
		_, _, err := c.rpc.Do(ctx, p.calls(), n.Node)
		return p, err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed []error
	foreign, first := 0, -1
	for i, h := range heads {
		n := c.nodes[i]
		switch {
		case h.err != nil:
			failed = append(failed, h.err)
			n.Refuse(errors.New("its chain id is not known yet"))
			continue
		case c.id == 0:
			c.id, first = h.value.id, i
		case cfg.ChainID == 0 && h.value.id != c.id:
			return &tangle.Error{Kind: tangle.ErrConfig, Err: fmt.Errorf("node %s is of chain id %d, and node %s of %d: "+
				"name the chain id that is meant", c.nodes[first], c.id, n, h.value.id)}
		}
		c.meet(n, h.value)
		if h.value.id != c.id {
			foreign++
		}
	}
	switch len(heads) {
	case len(failed):
		return failed[0]
	case foreign:
		return &tangle.Error{Kind: tangle.ErrConfig, Err: fmt.Errorf("node %s is of chain id %d, not %d", c.nodes[0],
			heads[0].value.id, c.id)}
	}
	if cfg.Contract != nil {
		c.contract = *cfg.Contract
	} else if known, ok := tangle.KnownNetwork(c.id); ok {
		c.contract = known.Contract
	} else {
		return &tangle.Error{Kind: tangle.ErrUnknownNetwork,
			Err: fmt.Errorf("no contract is known on chain id %d: name its address", c.id)}
	}
	var code []byte
	_, _, err := c.rpc.Do(ctx, []rpc.Call{ask("eth_getCode", into(&code, parseBytes), c.contract.String(), "latest")})
	if err == nil && len(code) == 0 {
		err = &tangle.Error{Kind: tangle.ErrNoContract,
			Err: fmt.Errorf("no contract at address %s on chain id %d", c.contract, c.id)}
	}
	return err
}

// ID returns the chain's id.
func (c *Chain) ID() uint64 { return c.id }

// Contract returns the address of the Tangle contract.
func (c *Chain) Contract() Address { return c.contract }

// Close ends what goes on in the background. No other method may be called afterwards.
func (c *Chain) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.tasks.Wait()
	c.idle()
}

// Nodes says how the nodes are, in the order of the URLs.
func (c *Chain) Nodes() []NodeStatus {
	list := make([]NodeStatus, len(c.nodes))
	for i, n := range c.nodes {
		total, inRow, last := n.Health()
		refused := n.Refused()
		n.mu.Lock()
		list[i] = NodeStatus{Node: n.String(), Head: n.head.Number, Errors: total, Usable: refused == nil && inRow == 0}
		n.mu.Unlock()
		switch {
		case refused != nil:
			list[i].Problem = refused.Error()
		case last != nil:
			list[i].Problem = last.Error()
		}
	}
	return list
}

// Head returns the latest block that a usable node knows. A node that is far behind the others is
// not usable. The head may go back: after a reorg, and when only a node that is behind answers.
func (c *Chain) Head(ctx context.Context) (Block, error) {
	if len(c.nodes) > 1 {
		c.probe()
	}
	for range len(c.nodes) {
		p := peer{}
		_, from, err := c.rpc.Do(ctx, p.calls())
		if err != nil {
			break
		}
		if n := c.nodeOf(from); c.meet(n, p) {
			return p.head, nil
		}
	}
	// No node is usable. One that was refused may have become better, or be better than none.
	p := peer{}
	var failed []error
	for i, h := range c.probeAll(ctx) {
		switch n := c.nodes[i]; {
		case h.err != nil:
			failed = append(failed, h.err)
		case !c.meet(n, h.value):
			failed = append(failed, fmt.Errorf("node %s: %w", n, n.Refused()))
		case p.head.Number <= h.value.head.Number:
			p = h.value
		}
	}
	if ctx.Err() != nil {
		return Block{}, context.Cause(ctx)
	}
	if len(failed) < len(c.nodes) {
		return p.head, nil
	}
	if len(failed) == 1 {
		return Block{}, failed[0]
	}
	return Block{}, fmt.Errorf("none of %d nodes can be used: %w", len(failed), joined(failed))
}

// peer is what a node says of itself.
type peer struct {
	id   uint64
	head Block
}

func (p *peer) calls() []rpc.Call {
	return []rpc.Call{
		ask("eth_chainId", into(&p.id, parseNumber)),
		ask("eth_getBlockByNumber", into(&p.head, parseBlock), "latest", false),
	}
}

// meet takes note of what a node says of itself, and reports whether the node may be used.
func (c *Chain) meet(n *node, p peer) bool {
	if p.id != c.id {
		n.refuse(c.log, fmt.Errorf("is of chain id %d, not %d", p.id, c.id))
		n.mu.Lock()
		n.checked = false
		n.mu.Unlock()
		return false
	}
	n.mu.Lock()
	n.checked, n.head = true, p.head
	n.mu.Unlock()
	best, now := p.head, uint64(max(0, time.Now().Unix()))
	early := p.head.Time <= now+future
	for _, other := range c.nodes {
		if _, inRow, _ := other.Health(); other == n || inRow > 0 {
			continue
		}
		other.mu.Lock()
		head, checked := other.head, other.checked
		other.mu.Unlock()
		switch {
		case !checked:
		case !early && head.Time <= now+future:
			n.refuse(c.log, fmt.Errorf("its block %d is %d seconds in the future", p.head.Number, p.head.Time-now))
			return false
		case early && head.Time > now+future: // it is wrong
		case head.Number > best.Number:
			best = head
		}
	}
	if best.Number > p.head.Number+staleBlocks && best.Time > p.head.Time+staleTime {
		n.refuse(c.log, fmt.Errorf("is behind: its block %d is %d blocks and %d seconds older than another node's",
			p.head.Number, best.Number-p.head.Number, best.Time-p.head.Time))
		return false
	}
	n.refuse(c.log, nil)
	return true
}

// refuse refuses a node, or allows it again, and tells of a change.
func (n *node) refuse(log *slog.Logger, reason error) {
	n.mu.Lock()
	was := n.told
	switch {
	case reason == nil:
		n.told = ""
	case was == "": // the numbers in it change all the time
		n.told = reason.Error()
	}
	n.mu.Unlock()
	n.Refuse(reason)
	switch {
	case reason != nil && was == "":
		log.Warn("a node is not used", "node", n.String(), "reason", reason.Error())
	case reason == nil && was != "":
		log.Info("a node is used again", "node", n.String())
	}
}

// ask returns a call that must be answered, and whose result must be as check wants it.
func ask(method string, check func(result []byte) error, params ...any) rpc.Call {
	return rpc.Call{Method: method, Params: params, Required: true, Check: check}
}

// into returns a check that keeps what parse returns.
func into[T any](value *T, parse func([]byte) (T, error)) func([]byte) error {
	return func(result []byte) (err error) {
		*value, err = parse(result)
		return err
	}
}

func (c *Chain) nodeOf(n *rpc.Node) *node {
	for _, known := range c.nodes {
		if known.Node == n {
			return known
		}
	}
	panic("a node of another client")
}

// probe asks all nodes for their head in the background, if that is due.
func (c *Chain) probe() {
	c.mu.Lock()
	due := !c.closed && time.Since(c.probed) >= probeEvery
	if due {
		c.probed = time.Now()
		c.tasks.Add(1)
	}
	c.mu.Unlock()
	if !due {
		return
	}
	go func() {
		defer c.tasks.Done()
		for i, h := range c.probeAll(c.life) {
			if h.err == nil {
				c.meet(c.nodes[i], h.value)
			}
		}
	}()
}

func (c *Chain) probeAll(ctx context.Context) []outcome[peer] {
	return gather(ctx, c, c.nodes, func(ctx context.Context, n *node) (peer, error) {
		p := peer{}
		if _, err := c.rpc.Ask(ctx, n.Node, p.calls()); err != nil {
			return p, err
		}
		return p, nil
	})
}

// outcome is what came of asking one node.
type outcome[T any] struct {
	value T
	err   error
}

var errLate = errors.New("had not answered yet")

// gather asks several nodes at the same time. It returns their outcomes in the order of the nodes
// when all have answered, or a moment after the first good answer. Requests that are not answered
// yet go on in the background.
func gather[T any](ctx context.Context, c *Chain, nodes []*node,
	f func(context.Context, *node) (T, error)) []outcome[T] {
	return gatherUntil(ctx, c, nodes, f, grace)
}

func gatherUntil[T any](ctx context.Context, c *Chain, nodes []*node, f func(context.Context, *node) (T, error),
	patience time.Duration) []outcome[T] {
	type numbered struct {
		i int
		outcome[T]
	}
	all := make([]outcome[T], len(nodes))
	came := make(chan numbered, len(nodes))
	for i, n := range nodes {
		all[i].err = fmt.Errorf("node %s %w", n, errLate)
		if !c.spawn(func() {
			value, err := f(c.life, n)
			came <- numbered{i, outcome[T]{value, err}}
		}) {
			return all
		}
	}
	var late <-chan time.Time
	for range nodes {
		select {
		case <-ctx.Done():
			return all
		case <-late:
			return all
		case one := <-came:
			if all[one.i] = one.outcome; one.err == nil && late == nil {
				timer := time.NewTimer(patience)
				defer timer.Stop()
				late = timer.C
			}
		}
	}
	return all
}

// spawn runs a task in the background, unless the chain is closed.
func (c *Chain) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.tasks.Go(f)
	}
	return !c.closed
}

// usable returns the nodes that may be asked now, or all that are not refused if they all rest.
func (c *Chain) usable() ([]*node, error) {
	var awake, resting []*node
	var refusals joined
	for _, n := range c.nodes {
		if err := n.Refused(); err != nil {
			refusals = append(refusals, fmt.Errorf("node %s: %w", n, err))
		} else if n.Pause() > 0 {
			resting = append(resting, n)
		} else {
			awake = append(awake, n)
		}
	}
	switch {
	case awake != nil:
		return awake, nil
	case resting != nil:
		return resting, nil
	}
	return nil, &rpc.Error{Kind: rpc.ErrUnusable, Err: fmt.Errorf("no node is usable: %w", refusals)}
}

// joined is a list of errors in one line.
type joined []error

func (j joined) Error() string {
	text := ""
	for i, err := range j {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

func (j joined) Unwrap() []error { return j }
