package runner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// The contract's refusals of submitResult. It checks in this order.
const (
	enforcedPause          = 0xd93c0665
	serviceNotFound        = 0xc8a28bb6
	jobCallNotFound        = 0x96c6ebfc
	serviceNotActive       = 0x4c5fe2d8
	serviceExpired         = 0x7c3e621b
	aggregationRequired    = 0x77164cdc
	operatorNotInService   = 0x783482e9
	operatorNotActive      = 0xe356d5aa
	jobAlreadyCompleted    = 0x0a55512f
	resultAlreadySubmitted = 0xb7e7fcee
	notQuotedOperator      = 0xa32a5d1c
	schemaValidationFailed = 0x9038fe73
)

// action is what a refusal asks for.
type action uint8

const (
	await     action = iota // the call by itself: what keeps it back may pass
	awaitAll                // and so do all others
	end                     // with the verdict's outcome
	completed               // by this operator, or by others
	aggregate               // the result needs several operators
	misshapen               // an answer does not have the form of the schema
)

// verdict is what a refusal means.
type verdict struct {
	action  action
	outcome Outcome
	reason  string
}

var verdicts = map[uint32]verdict{
	enforcedPause:          {action: awaitAll, reason: "the contract is paused"},
	operatorNotActive:      {action: awaitAll, reason: "the operator is not active: it has too little stake, or leaves"},
	serviceNotFound:        {action: await, reason: "the contract does not know the service"},
	jobCallNotFound:        {action: await, reason: "the contract does not know the call"},
	serviceNotActive:       {action: end, outcome: ServiceOver, reason: "the service is not active any more"},
	serviceExpired:         {action: end, outcome: ServiceOver, reason: "the service's time is over"},
	operatorNotInService:   {action: end, outcome: ServiceOver, reason: "the operator is not in the service any more"},
	aggregationRequired:    {action: aggregate},
	jobAlreadyCompleted:    {action: completed},
	resultAlreadySubmitted: {action: end, outcome: Done},
	notQuotedOperator:      {action: end, outcome: NotForUs, reason: "other operators were quoted"},
	schemaValidationFailed: {action: misshapen},
}

func verdictOf(r *chain.Revert) verdict {
	if v, ok := verdicts[r.Selector]; ok {
		return v
	}
	return verdict{action: await, reason: fmt.Sprintf("the contract refuses for a reason that this runner does not know "+
		"(0x%08x)", r.Selector)}
}

// pass acts on the answer to a dry run, and reports whether the call may go on: be run, if it is not
// answered, else be submitted, or given to the aggregator.
func (s *scheduler) pass(it *item, err error) bool {
	g := &s.gate
	if it.answered {
		g = &s.out.gate
	}
	var refused *chain.Revert
	if err != nil && !errors.As(err, &refused) {
		s.trouble(it, g, err)
		return false
	}
	var v verdict
	if refused != nil {
		v = verdictOf(refused)
	}
	if v.action == aggregate && s.options.aggregator != nil { // asked before whether the call is completed
		call, err := s.chain.JobCall(it.ctx, s.service, it.id.Call)
		if err != nil {
			s.trouble(it, g, err)
			return false
		}
		if call.Completed {
			v.action = completed
		}
	}
	switch {
	case refused == nil, v.action == misshapen && !it.answered, v.action == aggregate && s.options.aggregator != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		*g = gate{}
		return true
	case v.action == misshapen:
		s.reject(it, errors.New("the contract refuses the answer: it does not have the form of the result's schema"))
	case v.action == aggregate:
		s.fell(it, NeedsAggregate, errors.New("the job's results need the signatures of several operators, and this "+
			"runner has no aggregator"))
	case v.action == awaitAll:
		s.putBack(it, func(now time.Time) string { return g.shut(now, 0, v.reason) })
	case v.action == await:
		s.postpone(it, v.reason, nil)
	default:
		s.over(it, g, v)
	}
	return false
}

// over ends a call that the contract takes no result for any more.
func (s *scheduler) over(it *item, g *gate, v verdict) {
	e := ending{outcome: v.outcome, reason: v.reason}
	head, err := s.chain.Head(it.ctx)
	if err == nil && v.action == completed {
		e.outcome = DoneByOthers
		if it.answered { // and so may have been submitted
			var mine bool
			if mine, err = s.mine(it.ctx, it, head.Number); mine {
				e.outcome = Done
			}
		}
	}
	if err != nil {
		s.trouble(it, g, err)
		return
	}
	e.block = head.Number
	_ = s.finish(it, e)
}

// mine reports whether this operator's result is on chain.
func (s *scheduler) mine(ctx context.Context, it *item, head uint64) (bool, error) {
	number := func(n uint64) (w chain.Word) {
		binary.BigEndian.PutUint64(w[len(w)-8:], n)
		return w
	}
	var me chain.Word
	copy(me[len(me)-len(s.operator):], s.operator[:])
	logs, err := s.chain.Logs(ctx, chain.LogQuery{Topics: [][]chain.Word{{chain.TopicJobResultSubmitted},
		{number(s.service)}, {number(it.id.Call)}, {me}}}, it.number, head, chain.Word{})
	return len(logs) > 0, err
}
