package runner

import (
	"context"
	"errors"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
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
	chain.RevertPaused: {action: awaitAll, reason: pausedReason},
	chain.RevertOperatorNotActive: {action: awaitAll,
		reason: "the operator is not active: it has too little stake, or leaves"},
	chain.RevertServiceNotFound:  {action: await, reason: "the contract does not know the service"},
	chain.RevertJobCallNotFound:  {action: await, reason: "the contract does not know the call"},
	chain.RevertServiceNotActive: {action: end, outcome: ServiceOver, reason: "the service is not active any more"},
	chain.RevertServiceExpired:   {action: end, outcome: ServiceOver, reason: "the service's time is over"},
	chain.RevertOperatorNotInService: {action: end, outcome: ServiceOver,
		reason: "the operator is not in the service any more"},
	chain.RevertAggregationRequired: {action: aggregate},
	chain.RevertJobAlreadyCompleted: {action: completed},
	chain.RevertAlreadySubmitted:    {action: end, outcome: Done},
	chain.RevertNotQuotedOperator:   {action: end, outcome: NotForUs, reason: "other operators were quoted"},
	chain.RevertSchemaValidation:    {action: misshapen},
}

func verdictOf(r *chain.Revert) verdict {
	if v, ok := verdicts[r.Selector]; ok {
		return v
	}
	return verdict{action: await, reason: "the contract refuses: " + r.Error()}
}

// pass acts on the answer to a dry run, and reports whether the call may go on: be run, if it is
// not answered, else be submitted, or given to the aggregator.
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
		s.look()
		s.putBack(it, func(now time.Time) string { return g.shut(now, 0, v.reason) })
	case v.action == await:
		s.postpone(it, v.reason, nil)
	default:
		if v.outcome == ServiceOver {
			s.look()
		}
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
	var operator chain.Word
	copy(operator[len(operator)-len(s.operator):], s.operator[:])
	logs, err := s.chain.Logs(ctx, chain.LogQuery{Topics: [][]chain.Word{{chain.TopicJobResultSubmitted},
		{chain.WordOf(s.service)}, {chain.WordOf(it.id.Call)}, {operator}}}, it.number, head, chain.Word{})
	return len(logs) > 0, err
}
