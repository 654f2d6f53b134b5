package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// Config says what a runner runs for. [ConfigFromEnv] reads it from the environment that the
// ecosystem's manager gives.
type Config struct {
	// RPC is the URL of a node, or several separated by commas, in order of preference: http or https.
	RPC string
	// Contract is the address of the Tangle contract. Empty means the published one of the chain.
	Contract string
	// ChainID is refused to differ; 0 means the chain of the first node.
	ChainID                uint64
	ServiceID, BlueprintID uint64
	// DataDir holds the journal. Only one runner with the same key may use it for a service.
	DataDir string
	Signer  Signer
	// StatusRegistry is the address of the OperatorStatusRegistry. Empty or zero means the one that
	// the contract names.
	StatusRegistry string
}

// Runner runs one service's jobs for one operator.
type Runner struct {
	config   Config
	nodes    []string       // URLs
	contract *chain.Address // nil: the chain's
	registry chain.Address  // zero: the contract's
	operator chain.Address
	options  *options
	schedule *scheduler

	mu      sync.Mutex
	started time.Time
	over    string
	problem string // why there are no parts yet
	parts   *parts // nil until a node has answered
}

// parts are what a runner has once a node has answered.
type parts struct {
	chain   *chain.Chain
	journal *journal.Journal
	queue   *txmgr.Manager
	watcher *watcher
	life    *life
	purse   *purse
}

// New checks the configuration and the options. The error is an ErrInvalidArgument.
func New(cfg Config, opts ...Option) (*Runner, error) {
	r := &Runner{config: cfg, options: newOptions(opts)}
	bad := func(format string, args ...any) (*Runner, error) {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "new runner", "", format, args...)
	}
	for url := range strings.SplitSeq(cfg.RPC, ",") {
		if url = strings.TrimSpace(url); url != "" {
			r.nodes = append(r.nodes, url)
		}
	}
	var err error
	o := r.options
	switch {
	case len(r.nodes) == 0:
		return bad("Config.RPC names no node")
	case cfg.DataDir == "":
		return bad("Config.DataDir is empty")
	case cfg.Signer == nil:
		return bad("Config.Signer is nil")
	case o.concurrency < 1:
		return bad("WithConcurrency(%d): at least one call must be able to run", o.concurrency)
	case o.grace < 0, o.poll < 0:
		return bad("WithGrace and WithPoll take no negative durations")
	case o.maxFee != nil && o.maxFee.Sign() <= 0, o.maxTip != nil && o.maxTip.Sign() < 0:
		return bad("WithFees: the fee must be above zero, and the tip not below")
	}
	for id, jo := range o.jobs {
		if jo.Timeout < 0 || jo.Concurrency < 0 || jo.Repeat > Once {
			return bad("WithJob(%d): a negative timeout or concurrency, or an unknown policy", id)
		}
	}
	for id := range o.handlers {
		if o.handlers[id] == nil {
			return bad("the handler of job %d is nil", id)
		}
	}
	if cfg.Contract != "" {
		contract, err := tangle.ParseAddress(cfg.Contract)
		if err != nil {
			return bad("Config.Contract: %w", err)
		}
		r.contract = &contract
	}
	if cfg.StatusRegistry != "" {
		if r.registry, err = tangle.ParseAddress(cfg.StatusRegistry); err != nil {
			return bad("Config.StatusRegistry: %w", err)
		}
	}
	r.operator = cfg.Signer.Address()
	r.schedule = newScheduler(o)
	r.schedule.service, r.schedule.operator = cfg.ServiceID, r.operator
	return r, nil
}

// Run runs until ctx ends, and then returns nil. It ends with an error if the service is over or
// the operator has left it (ErrServiceOver, ErrOperatorLeft), if another runner uses the journal,
// if the nodes are of another chain or know no contract, and if the disk fails. It waits for nodes
// that do not answer. Run can be called once.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	again := !r.started.IsZero()
	r.started = time.Now()
	r.mu.Unlock()
	if again {
		return faas.Errorf(faas.ErrInvalidArgument, "run", "", "Run was called before")
	}
	observers := r.options.observers
	publish := func() error { return nil }
	var background sync.WaitGroup
	defer background.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if r.options.healthAddr != "" {
		e, err := listen(ctx, r.options.healthAddr, r.config.DataDir, r.config.ServiceID, r.Status,
			actions{retry: r.Retry, claim: r.claim}, r.options.logger)
		if err != nil {
			return err
		}
		observers, publish = append(slices.Clone(observers), e.observe), e.publish
		serving, end := context.WithCancel(context.WithoutCancel(ctx)) // to the end of the stop
		defer end()
		background.Go(func() {
			if err := e.serve(serving); err != nil {
				r.options.logger.Error("the health endpoint failed", "error", err)
			}
		})
	}
	events := newBus(r.config.ServiceID, r.options.logger, observers)
	defer events.close()
	err := r.run(ctx, publish, events.tell)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("service %d: %w", r.config.ServiceID, err)
	}
	return nil
}

func (r *Runner) run(ctx context.Context, publish func() error, tell func(Event)) error {
	p := &parts{}
	if err := r.patiently(ctx, tell, func() (err error) {
		p.chain, err = chain.Open(ctx, chain.Config{URLs: r.nodes, Contract: r.contract, ChainID: r.config.ChainID,
			HTTP: r.options.http, MaxLogRange: r.options.maxLogRange, Logger: r.options.logger})
		return err
	}); err != nil {
		return err
	}
	defer p.chain.Close()
	var err error
	p.journal, err = journal.Open(r.config.DataDir, journal.Key{ChainID: p.chain.ID(), Contract: p.chain.Contract(),
		Service: r.config.ServiceID, Operator: r.operator})
	if err != nil {
		return err
	}
	defer p.journal.Close()
	if err := publish(); err != nil {
		return err
	}
	var b *blueprint
	if err := r.patiently(ctx, tell, func() (err error) {
		b, err = r.prepare(ctx, p.chain)
		return err
	}); err != nil {
		return err
	}
	depth := confirmationsOf(r.options, p.chain.ID())
	p.queue, err = txmgr.New(txmgr.Config{
		Chain: p.chain, Store: p.journal, Signer: r.config.Signer, Depth: depth,
		MaxFee: r.options.maxFee, MaxTip: r.options.maxTip, Poll: pollOf(r.options, p.chain.ID()),
		Observe: func(e txmgr.Event) {
			if errors.Is(e.Err, chain.ErrNoFunds) {
				p.purse.nudge()
			}
			tell(transactionEvent(e))
		},
	})
	if err != nil {
		return err
	}
	s := r.schedule
	s.chain, s.ledger, s.sender, s.tell = p.chain, p.journal, p.queue, tell
	s.check = b.check
	poll := pollOf(r.options, p.chain.ID())
	p.life = &life{chain: p.chain, service: r.config.ServiceID, operator: r.operator, poll: poll, confirmations: depth,
		tell: tell, hold: s.hold, release: s.release}
	p.watcher = &watcher{chain: p.chain, journal: p.journal, sink: s, service: r.config.ServiceID, confirmations: depth,
		poll: poll, tell: tell, life: p.life}
	s.anchor, s.look = p.watcher, p.life.look
	p.purse = &purse{chain: p.chain, operator: r.operator, min: r.options.minBalance, threshold: r.options.claim,
		send: p.queue.Send, emit: tell, nudged: make(chan struct{}, 1)}
	r.mu.Lock()
	r.parts = p
	r.mu.Unlock()
	tell(Event{Kind: EventStarted, Reason: fmt.Sprintf("operator %s on chain %d", r.operator, p.chain.ID())})
	return r.work(ctx, p, b, tell)
}

// work runs the parts until one of them ends, and stops them in order.
func (r *Runner) work(ctx context.Context, p *parts, b *blueprint, tell func(Event)) error {
	s := r.schedule
	if err := s.takeUp(); err != nil {
		return err
	}
	p.queue.Settled(s.resumed())
	ended := make(chan error, 4)
	var queue, readers sync.WaitGroup
	defer queue.Wait()
	sending, endQueue := context.WithCancel(context.WithoutCancel(ctx)) // to the end of the stop
	defer endQueue()
	queue.Go(func() { ended <- p.queue.Run(sending) })
	reading, endReaders := context.WithCancel(ctx)
	defer readers.Wait()
	defer endReaders()
	readers.Go(func() { ended <- p.life.run(reading) })
	readers.Go(func() { p.purse.run(reading) })
	readers.Go(func() { r.watchNodes(reading, p.chain, tell) })
	defer s.stop()
	readers.Go(func() {
		if p.life.await(reading) != nil {
			return
		}
		s.start()
		ended <- p.watcher.run(reading)
	})
	if r.options.heartbeat {
		h, err := r.heart(ctx, p, b, tell)
		if err != nil {
			return err
		}
		beating, endBeats := context.WithCancel(ctx)
		var beats sync.WaitGroup
		beats.Go(func() { h.run(beating) })
		defer func() {
			endBeats()
			beats.Wait()
			const patience = 30 * time.Second
			leaving, end := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer end()
			if err := h.offline(leaving); err != nil {
				r.options.logger.Warn("the status registry was not told that the operator goes offline", "error", err)
			}
		}()
	}
	var err error
	select {
	case err = <-ended:
	case err = <-s.failed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if errors.Is(err, ErrServiceOver) || errors.Is(err, ErrOperatorLeft) {
		r.mu.Lock()
		r.over = err.Error()
		r.mu.Unlock()
	}
	return err
}

func (r *Runner) heart(ctx context.Context, p *parts, b *blueprint, tell func(Event)) (*heart, error) {
	registry := r.registry
	if registry.IsZero() {
		if err := r.patiently(ctx, tell, func() (err error) {
			registry, err = p.chain.StatusRegistry(ctx)
			return err
		}); err != nil {
			return nil, fmt.Errorf("the status registry of the contract: %w", err)
		}
	}
	return &heart{registry: registry, service: r.config.ServiceID, blueprint: b.id, operator: r.operator,
		chain: p.chain, send: p.queue.Send, status: r.Status, metrics: r.options.metrics, emit: tell}, nil
}

// patiently repeats what fails because no node answers.
func (r *Runner) patiently(ctx context.Context, tell func(Event), f func() error) error {
	for g := (gate{}); ; {
		err := f()
		var refused *chain.Revert
		final := errors.As(err, &refused)
		for _, kind := range []error{tangle.ErrConfig, rpc.ErrConfig, tangle.ErrUnknownNetwork, tangle.ErrNoContract} {
			final = final || errors.Is(err, kind)
		}
		if err == nil || ctx.Err() != nil || final {
			return cmp.Or(ctx.Err(), err)
		}
		if g.shut(time.Now(), 0, err.Error()) != "" {
			tell(Event{Kind: EventNodeTrouble, Reason: "no node answers", Err: err})
		}
		r.mu.Lock()
		r.problem = err.Error()
		r.mu.Unlock()
		timer := time.NewTimer(time.Until(g.until))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func transactionEvent(e txmgr.Event) Event {
	label := cmp.Or(e.Label, "a transfer that fills a gap")
	told := Event{Kind: EventTransaction, Reason: fmt.Sprintf("%s, with nonce %d: %s", label, e.Nonce, e.Kind),
		Err: e.Err, GasUsed: e.GasUsed, Cost: e.Cost}
	if !e.Tx.IsZero() {
		told.Tx = e.Tx.String()
	}
	switch e.Kind {
	case txmgr.Replaced:
		told.Kind = EventForeignNonce
	case txmgr.Waiting:
		told.Kind, told.Reason = EventWaiting, "transactions wait"
	case txmgr.Resumed:
		told.Reason = "transactions wait no more"
	}
	return told
}

// watchNodes tells when a node fails and when it is back.
func (r *Runner) watchNodes(ctx context.Context, c *chain.Chain, tell func(Event)) {
	const every = 2 * time.Second
	bad := map[string]bool{}
	for ticker := time.NewTicker(every); ; {
		for _, n := range c.Nodes() {
			switch {
			case !n.Usable && !bad[n.Node]:
				tell(Event{Kind: EventNodeTrouble, Reason: n.Node + ": " + n.Problem})
			case n.Usable && bad[n.Node]:
				tell(Event{Kind: EventNodeBack, Reason: n.Node})
			}
			bad[n.Node] = !n.Usable
		}
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
		}
	}
}

// Status is a snapshot.
func (r *Runner) Status() Status {
	r.mu.Lock()
	p := r.parts
	st := Status{Service: r.config.ServiceID, Blueprint: r.config.BlueprintID, Operator: r.operator.String(),
		ChainID: r.config.ChainID, Contract: r.config.Contract, Started: r.started, Over: r.over}
	problem := r.problem
	r.mu.Unlock()
	r.schedule.status(&st)
	if p == nil {
		if problem != "" {
			st.Nodes = []NodeStatus{{Node: "all", Problem: problem}}
		}
	} else {
		st.ChainID, st.Contract = p.chain.ID(), p.chain.Contract().String()
		for _, n := range p.chain.Nodes() {
			st.Nodes = append(st.Nodes, NodeStatus(n))
		}
		progress := p.watcher.progress()
		st.Head, st.Read, st.Behind, st.Ready = progress.Head, progress.Read, progress.Behind, progress.Ready
		if progress.Time != 0 {
			st.HeadTime = time.Unix(int64(min(progress.Time, 1<<40)), 0)
		}
		spent := p.queue.Status()
		st.GasUsed, st.Spent = spent.GasUsed, spent.Spent
		st.Paused = r.schedule.held(pausedReason)
		p.purse.fill(&st)
	}
	judge(&st)
	return st
}

// Retry runs a call again that ended as [JobFailed], [Interrupted], [NeedsAggregate] or
// [ServiceOver]. The error is an ErrNotFound if there is no such call, and an ErrUnavailable before
// a node has answered.
func (r *Runner) Retry(call uint64) error {
	if _, err := r.connected("retry"); err != nil {
		return err
	}
	return r.schedule.retry(call)
}

// connected returns the parts, or an error before a node has answered.
func (r *Runner) connected(op string) (*parts, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts == nil {
		return nil, faas.Errorf(faas.ErrUnavailable, op, "", "no node has answered yet")
	}
	return r.parts, nil
}

func (r *Runner) claim(ctx context.Context) error {
	p, err := r.connected("claim")
	if err != nil {
		return err
	}
	return p.purse.claim(ctx)
}

// handlers are those of this process, for callers other than the chain, within the same bounds.
func (r *Runner) handlers() job.Handlers {
	bounded := job.Handlers{}
	for id, h := range r.options.handlers {
		bounded[id] = r.schedule.bound(id, h)
	}
	return bounded
}
