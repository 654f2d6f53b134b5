package bls

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// Aggregator collects signatures at an aggregation service. It is a [runner.Aggregator], and safe
// for concurrent use.
type Aggregator struct {
	key     Key
	client  *client
	poll    time.Duration
	timeout time.Duration
	turn    time.Duration
}

// Option changes how an [Aggregator] works.
type Option func(*options)

type options struct {
	http          *http.Client
	poll, timeout time.Duration
	turn          time.Duration
}

// WithHTTPClient makes the aggregator use a client of yours. Without it, a request may take 30
// seconds.
func WithHTTPClient(c *http.Client) Option { return func(o *options) { o.http = c } }

// WithPoll sets how often the aggregation service is asked; the default is 2 seconds.
func WithPoll(d time.Duration) Option { return func(o *options) { o.poll = d } }

// WithTimeout sets how long signatures for a result are collected before [Aggregator.Aggregate]
// gives up; the default is 10 minutes. The runner tries again later.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithTurn sets how long each signer waits for those before him to submit the sum; the default is
// 15 seconds. The first is another one for each call, and submits at once.
func WithTurn(d time.Duration) Option { return func(o *options) { o.turn = d } }

// New makes an aggregator that signs with a key and meets the others at the aggregation service at
// this URL.
func New(key Key, service string, opts ...Option) (*Aggregator, error) {
	o := options{
		http: &http.Client{Timeout: 30 * time.Second}, poll: 2 * time.Second, timeout: 10 * time.Minute,
		turn: 15 * time.Second,
	}
	for _, opt := range opts {
		opt(&o)
	}
	if key.secret == nil {
		return nil, errors.New("bls: there is no key")
	}
	if o.poll <= 0 || o.timeout <= 0 || o.turn < 0 {
		return nil, fmt.Errorf("bls: poll %v, timeout %v and turn %v must be above zero", o.poll, o.timeout, o.turn)
	}
	c, err := newClient(service, o.http)
	if err != nil {
		return nil, err
	}
	return &Aggregator{key: key, client: c, poll: o.poll, timeout: o.timeout, turn: o.turn}, nil
}

// maxPoll is the longest pause while the aggregation service fails.
const maxPoll = 30 * time.Second

// The contract's errors that more signatures mend.
const thresholdNotMet = 0x15cb246a

var (
	errTimeout = errors.New("the time to collect signatures is over")
	errUnread  = errors.New("no node tells the registered BLS key")
)

// Aggregate signs the output, collects the signatures of others, and submits the sum if it is this
// operator's turn. It returns nil once the call is completed on chain.
func (a *Aggregator) Aggregate(ctx context.Context, c runner.AggregateCall) error {
	err := a.aggregate(ctx, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("bls: the result of call %d of service %d: %w", c.Call, c.Service, err)
}

func (a *Aggregator) aggregate(ctx context.Context, c runner.AggregateCall) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, errTimeout)
	defer cancel()
	r, err := a.begin(ctx, c)
	if err != nil {
		return err
	}
	pause := a.poll
	for {
		if done, err := c.Completed(ctx); err == nil && done {
			return nil
		}
		done, err := r.step(ctx)
		if done {
			return err
		}
		if err == nil {
			r.trouble, pause = nil, a.poll
		} else if ctx.Err() == nil {
			r.trouble, pause = err, min(2*pause, max(maxPoll, a.poll))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errTimeout) {
				return ctx.Err()
			}
			return fmt.Errorf("%w after %v: %w", errTimeout, a.timeout, cmp.Or(r.trouble, r.bad, r.refused, r.found))
		}
	}
}

// round is the collection of signatures for one result.
type round struct {
	*Aggregator
	call      runner.AggregateCall
	index     int // of this operator
	message   []byte
	threshold threshold
	keys      map[int]PublicKey // that the operators registered, as far as they were read
	joined    bool              // the service has this operator's signature
	again     time.Time         // when to try to join again
	wait      time.Duration     // and then
	tried     bitmap            // a sum of these was refused
	seen      time.Time         // when the threshold was first seen reached

	// Why nothing is on chain yet, the weightiest first.
	trouble error // somebody did not answer
	bad     error // the sum of the tried
	refused error // the service does not take this operator's signature
	found   error // how far it is
}

func (a *Aggregator) begin(ctx context.Context, c runner.AggregateCall) (*round, error) {
	r := &round{Aggregator: a, call: c, index: slices.Index(c.Operators, c.Operator), keys: map[int]PublicKey{},
		found: errors.New("nothing is known of the others")}
	switch {
	case r.index < 0:
		return nil, fmt.Errorf("the operator 0x%x is none of the service's %d", c.Operator, len(c.Operators))
	case len(c.Operators) > 256:
		return nil, fmt.Errorf("the service has %d operators, and a bitmap has room for 256", len(c.Operators))
	}
	registered, err := r.registered(ctx, r.index)
	if err != nil {
		return nil, err
	}
	if registered != a.key.public {
		return nil, fmt.Errorf("the operator 0x%x registered the BLS key %v for the service, and the runner has %v",
			c.Operator, registered, a.key.public)
	}
	if r.threshold, err = r.wanted(ctx); err != nil {
		return nil, err
	}
	r.message = resultMessage(c.ChainID, c.Contract, c.Service, c.Call, c.Operators, c.Output)
	return r, nil
}

// registered returns the key that an operator registered when he approved the service.
func (r *round) registered(ctx context.Context, i int) (PublicKey, error) {
	if key, ok := r.keys[i]; ok {
		return key, nil
	}
	operator := r.call.Operators[i]
	words, err := r.call.Read(ctx, call(getOperatorBlsPubkey).number(r.call.Service).address(operator))
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w of 0x%x: %w", errUnread, operator, err)
	}
	key, err := ParsePublicKey(words)
	if err != nil {
		return PublicKey{}, fmt.Errorf("the operator 0x%x approved the service without a BLS key that can be used: %w",
			operator, err)
	}
	r.keys[i] = key
	return key, nil
}

// wanted returns the threshold that the contract will demand, as far as it can be told.
func (r *round) wanted(ctx context.Context) (threshold, error) {
	n, bps := len(r.call.Operators), int(r.call.ThresholdBPS)
	if !r.call.ByStake {
		return threshold{Type: byCount, Signers: uint32(min(n, max(1, (n*bps+9999)/10000)))}, nil
	}
	t := threshold{Type: byWeight, BPS: uint32(min(bps, 10000))}
	for i, operator := range r.call.Operators {
		words, err := r.call.Read(ctx, call(getServiceOperator).number(r.call.Service).address(operator))
		if err == nil && len(words) != 4*32 {
			err = fmt.Errorf("%d bytes are no operator of a service", len(words))
		}
		if err != nil {
			return t, fmt.Errorf("the weight of 0x%x cannot be read: %w", operator, err)
		}
		exposure := binary.BigEndian.Uint16(words[30:]) // the first word is of 16 bits
		if active := words[4*32-1] == 1; !active {
			exposure = 0
		}
		t.Weights = append(t.Weights, weight{uint32(i), uint64(exposure)})
	}
	return t, nil
}

// step asks the service once. If done is true, err is the result of all.
func (r *round) step(ctx context.Context) (done bool, err error) {
	if !r.joined && !time.Now().Before(r.again) {
		if r.refused = r.join(ctx); r.refused != nil { // the others may be enough without this operator
			r.wait = min(max(2*r.wait, r.poll), maxPoll)
			r.again = time.Now().Add(r.wait)
		}
	}
	var sum aggregateAnswer
	status, err := r.client.post(ctx, "aggregate", r.id(), &sum)
	switch {
	case err != nil:
		return false, err
	case status != http.StatusOK:
		return false, r.look(ctx)
	case sum.Signers == r.tried && r.tried != bitmap{}:
		return false, nil
	}
	key, sig, err := r.check(ctx, &sum)
	if errors.Is(err, errUnread) {
		return false, err
	}
	if r.bad = err; err != nil {
		r.tried = sum.Signers
		return false, nil
	}
	if r.seen.IsZero() {
		r.seen = time.Now()
	}
	if time.Since(r.seen) < time.Duration(r.rank(sum.Signers))*r.turn {
		r.found = errors.New("the signatures are enough, and it is another operator's turn to submit them")
		return false, nil
	}
	err = r.call.Submit(ctx, submission(r.call.Service, r.call.Call, r.call.Output, sum.Signers, sig, key))
	if err == nil {
		// The others see the chain, too: this only saves them requests.
		_, _ = r.client.post(ctx, "mark-submitted", r.id(), &initAnswer{})
		return true, nil
	}
	if done, unknown := r.call.Completed(ctx); unknown == nil && done {
		return true, nil
	}
	if e, ok := errors.AsType[*chain.Revert](err); ok && e.Selector == thresholdNotMet {
		r.tried, r.bad = sum.Signers, err
		return false, nil
	}
	return true, err
}

func (r *round) id() taskID { return taskID{r.call.Service, r.call.Call} }

// join makes the task, if nobody has, and hands in this operator's signature.
func (r *round) join(ctx context.Context) error {
	var made initAnswer
	if _, err := r.client.post(ctx, "init", initRequest{
		taskID: r.id(), Operators: uint32(len(r.call.Operators)), Threshold: r.threshold,
		Output: r.call.Output, Message: r.message, Scheme: scheme,
	}, &made); err != nil {
		return err
	}
	sig, key := r.key.Sign(r.message).Bytes(), r.key.public.Bytes()
	var taken submitAnswer
	if _, err := r.client.post(ctx, "submit", submitRequest{
		taskID: r.id(), Operator: uint32(r.index), Output: r.call.Output, Signature: sig[:], Key: key[:],
	}, &taken); err != nil {
		return err
	}
	if taken.Accepted {
		r.joined = true
		return nil
	}
	// It refuses a second signature, too: this operator's program may have been started again.
	var have statusAnswer
	if _, err := r.client.post(ctx, "status", r.id(), &have); err != nil {
		return err
	}
	if have.Exists && (have.Signers.has(r.index) || have.Submitted) {
		r.joined = true
		return nil
	}
	reason := taken.Error
	if !made.Success && made.Error != "" {
		reason += " (" + made.Error + ")"
	}
	return fmt.Errorf("the aggregation service refuses this operator's signature: %s", sanitize.Line(reason, 200))
}

// look finds out how far the collection is.
func (r *round) look(ctx context.Context) error {
	var have statusAnswer
	status, err := r.client.post(ctx, "status", r.id(), &have)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK || !have.Exists:
		r.joined = false // the service has forgotten the task
		r.found = errors.New("the aggregation service has no such task")
	case have.Submitted:
		r.found = errors.New("the aggregation service says that a result was submitted, and the chain has none")
	default:
		r.found = fmt.Errorf("%d signatures are collected, and %d are needed", have.Collected, have.Required)
	}
	return nil
}

// check returns the sum of the signers' registered keys and of their signatures, if the contract
// would accept them.
func (r *round) check(ctx context.Context, sum *aggregateAnswer) (PublicKey, Signature, error) {
	fail := func(err error) (PublicKey, Signature, error) { return PublicKey{}, Signature{}, err }
	if !slices.Equal(sum.Output, r.call.Output) {
		return fail(errors.New("others signed another output than this operator's"))
	}
	var keys []PublicKey
	for _, i := range sum.Signers.members() {
		if i >= len(r.call.Operators) {
			return fail(fmt.Errorf("the sum names operator %d of %d", i, len(r.call.Operators)))
		}
		key, err := r.registered(ctx, i)
		if err != nil {
			return fail(err)
		}
		keys = append(keys, key)
	}
	key, err := AddKeys(keys...)
	if err != nil {
		return fail(err)
	}
	sig, err := ParseSignature(sum.Signature)
	if err != nil {
		return fail(err)
	}
	if !Verify(key, r.message, sig) {
		return fail(errors.New("the sum of the signatures does not fit the keys that the operators registered: " +
			"a signature is of another key, or of another list of operators"))
	}
	return key, sig, nil
}

// rank is this operator's place in the order in which the signers submit.
func (r *round) rank(signers bitmap) int {
	members := signers.members()
	at := slices.Index(members, r.index)
	if at < 0 {
		return len(members)
	}
	n := uint64(len(members))
	return int((uint64(at) + n - r.call.Call%n) % n)
}
