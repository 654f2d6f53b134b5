package chain

import (
	"context"
	"errors"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// JobCall is what getJobCall returns; CreatedAt is zero if there is no such call.
type JobCall struct {
	Job         uint8
	Caller      Address
	CreatedAt   uint64
	ResultCount uint32
	Completed   bool
	RFQ         bool
	Payment     *big.Int
}

// order is the order of the last three words of getJobCall. Both have the same selector and the
// same size, and deployments are upgraded in place.
type order int32

const (
	paymentLast  order = iota // completed, isRFQ, payment: generation D (0.19)
	paymentFirst              // payment, completed, isRFQ: generations A to C
)

// rawCall is the answer of getJobCall with the last three words as they are.
type rawCall struct {
	JobCall
	last [3]Word
}

func (r *rawCall) decode(d *tangle.Decoder) {
	if !d.Head(0, 7, "jobCall") {
		return
	}
	*r = rawCall{JobCall: JobCall{
		Job:         uint8(d.Uint(0, 8, "jobIndex")),
		Caller:      d.Address(wordSize, "caller"),
		CreatedAt:   d.Uint(2*wordSize, 64, "createdAt"),
		ResultCount: uint32(d.Uint(3*wordSize, 32, "resultCount")),
	}}
	d.Bool(5*wordSize, "completed or isRFQ")           // in either order
	if first := d.Word(4 * wordSize); !isBool(first) { // so it is a payment
		d.Bool(6*wordSize, "isRFQ")
	}
	for i := range r.last {
		r.last[i] = d.Word((4 + i) * wordSize)
	}
}

func isBool(w Word) bool { return w == Word{} || w == WordOf(1) }

func (r *rawCall) as(o order) JobCall {
	call := r.JobCall
	completed, rfq, payment := r.last[0], r.last[1], r.last[2]
	if o == paymentFirst {
		payment, completed, rfq = r.last[0], r.last[1], r.last[2]
	}
	call.Completed, call.RFQ, call.Payment = !completed.IsZero(), !rfq.IsZero(), payment.Big()
	return call
}

// certain returns the order if the answer has a payment above 1, which can be no boolean, or if it
// means the same in both orders.
func (r *rawCall) certain(now order) (order, bool) {
	switch {
	case !isBool(r.last[0]):
		return paymentFirst, true
	case !isBool(r.last[2]):
		return paymentLast, true
	}
	return now, r.last[0] == r.last[1] && r.last[1] == r.last[2]
}

// doubtful reports whether an answer would be odd in the order that is assumed: a payment of the
// smallest unit, a call by quote that costs nothing, or a completed call without a result. Nothing
// that is right in one of the orders is both different and ordinary in the other, but for a call by
// quote that costs nothing and has a result.
func (r *rawCall) doubtful(o order) bool {
	call := r.as(o)
	return call.Payment.Cmp(big.NewInt(1)) == 0 || call.RFQ && call.Payment.Sign() == 0 ||
		call.Completed && call.ResultCount == 0
}

// JobCall handles both orders of words: the generation of the contract is found out from its
// answers, and again when an answer contradicts it.
func (c *Chain) JobCall(ctx context.Context, service, call uint64) (JobCall, error) {
	calls, err := c.JobCalls(ctx, service, []uint64{call})
	if err != nil {
		return JobCall{}, err
	}
	return calls[0], nil
}

// CreatedAt returns when a call was made, 0 if it was not, as a node says that has the block: one
// that is behind does not know. The error is ErrNoBlock if no node has the block, or if it is
// another one now.
func (c *Chain) CreatedAt(ctx context.Context, service, call uint64, block Block) (uint64, error) {
	var there Block
	var raw rawCall
	ask := Call{To: c.contract, Data: newCall(selJobCall, 2).uint(service).uint(call).encode()}
	_, _, err := c.rpc.Do(ctx, []rpc.Call{
		blockCall(block.Number, &there),
		{Method: "eth_call", Params: []any{ask.params(), "latest"}, Required: true, Check: func(result []byte) error {
			data, err := parseBytes(result)
			if err != nil {
				return err
			}
			d := tangle.NewDecoder(data)
			raw.decode(d)
			return d.Err()
		}},
	})
	if err == nil && there.Hash != block.Hash {
		err = ErrNoBlock
	}
	return raw.CreatedAt, noBlock(err)
}

// JobCalls is JobCall for several calls, in as few requests as possible.
func (c *Chain) JobCalls(ctx context.Context, service uint64, calls []uint64) ([]JobCall, error) {
	found := make([]JobCall, 0, len(calls))
	for from := 0; from < len(calls); from += chunk {
		some := calls[from:min(from+chunk, len(calls))]
		raw := make([]rawCall, len(some))
		views := make([]view, len(some))
		for i, call := range some {
			views[i] = view{to: c.contract, data: newCall(selJobCall, 2).uint(service).uint(call).encode(),
				decode: raw[i].decode}
		}
		errs, err := c.read(ctx, views...)
		if err != nil {
			return nil, err
		}
		for _, err := range errs {
			if err != nil {
				return nil, err
			}
		}
		orders, err := c.orders(ctx, service, some, raw)
		if err != nil {
			return nil, err
		}
		for i := range raw {
			found = append(found, raw[i].as(orders[i]))
		}
	}
	return found, nil
}

// orders finds the order of each answer: by the answer itself if that is certain; by the order that
// was found before if the answer is not doubtful in it; else by what the contract says of the call
// elsewhere.
func (c *Chain) orders(ctx context.Context, service uint64, calls []uint64, raw []rawCall) ([]order, error) {
	orders := make([]order, len(raw))
	now := order(c.order.Load())
	for i := range raw {
		if o, ok := raw[i].certain(now); ok {
			now = o
		}
	}
	var doubtful []int
	for i := range raw {
		var ok bool
		if orders[i], ok = raw[i].certain(now); !ok && raw[i].doubtful(now) {
			doubtful = append(doubtful, i)
		}
	}
	if len(doubtful) > 0 {
		quoted := make([][]Address, len(doubtful))
		views := make([]view, len(doubtful))
		for j, i := range doubtful {
			views[j] = view{to: c.contract, data: newCall(selQuoted, 2).uint(service).uint(calls[i]).encode(),
				decode: func(d *tangle.Decoder) {
					if d.Head(0, 1, "quotedOperators") {
						quoted[j] = addresses(d, 0, "quotedOperators")
					}
				}}
		}
		errs, err := c.read(ctx, views...)
		if err != nil {
			return nil, err
		}
		var open []int
		for j, i := range doubtful {
			last := raw[i].last
			switch {
			case errs[j] != nil || last[1] == last[2]: // it says nothing
				open = append(open, i)
			case last[1].IsZero() == (len(quoted[j]) == 0): // isRFQ is the word in the middle
				now, orders[i] = paymentLast, paymentLast
			default:
				now, orders[i] = paymentFirst, paymentFirst
			}
		}
		if len(open) > 0 {
			if err := c.orderByDryRun(ctx, service, calls, raw, open, orders); err != nil {
				return nil, err
			}
			now = orders[open[len(open)-1]]
		}
	}
	c.order.Store(int32(now))
	return orders, nil
}

// orderByDryRun sets the orders of calls about which nothing else is known: the contract refuses
// the result of a completed call with an error of its own. If another error comes before that one,
// the more ordinary meaning counts.
func (c *Chain) orderByDryRun(ctx context.Context, service uint64, calls []uint64, raw []rawCall, open []int,
	orders []order) error {
	operators, err := c.ServiceOperators(ctx, service)
	if err != nil {
		return err
	}
	runs := make([]Call, len(open))
	for j, i := range open {
		runs[j] = Call{To: c.contract, Data: SubmitResult(service, calls[i], nil)}
		if len(operators) > 0 {
			runs[j].From = operators[0]
		}
	}
	errs, err := c.DryRun(ctx, runs)
	if err != nil {
		return err
	}
	for j, i := range open {
		other := paymentFirst - orders[i]
		var revert *Revert
		known := errors.As(errs[j], &revert)
		completed := known && revert.Selector == RevertJobAlreadyCompleted
		// These come after the check whether the call is completed.
		known = errs[j] == nil || completed || known && (revert.Selector == RevertAlreadySubmitted ||
			revert.Selector == RevertNotQuotedOperator || revert.Selector == RevertSchemaValidation)
		if known && raw[i].as(orders[i]).Completed != completed ||
			!known && raw[i].doubtful(orders[i]) && !raw[i].doubtful(other) {
			orders[i] = other
		}
	}
	return nil
}
