package runner

import (
	"context"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

const (
	resultsInReserve = 20
	resultGas        = 250_000 // of a result that completes a call, generously
	balanceEvery     = time.Minute
	lowEvery         = 5 * time.Second // while there is too little
	rewardsEvery     = 10              // balances
)

// accounts is what a purse needs of *chain.Chain.
type accounts interface {
	Contract() chain.Address
	Balance(ctx context.Context, account chain.Address) (*big.Int, error)
	PendingRewards(ctx context.Context, account chain.Address) (*big.Int, error)
	Fees(ctx context.Context) (chain.Fees, error)
}

// purse watches the operator's money.
type purse struct {
	chain     accounts
	operator  chain.Address
	min       *big.Int // nil: by the current fee
	threshold *big.Int // of a claim; nil: never
	send      func(context.Context, txmgr.Request) (*chain.Receipt, error)
	emit      func(Event)

	claiming sync.Mutex
	nudged   chan struct{} // holds one nudge

	mu                       sync.Mutex
	balance, needed, rewards *big.Int
	low                      bool
}

// fill writes what is known into a status.
func (p *purse) fill(s *Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Balance, s.MinBalance, s.Rewards = p.balance, p.needed, p.rewards
}

// nudge makes the balance be read now: a transaction found it too small.
func (p *purse) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

// run watches until ctx ends. Nodes that do not answer are told of elsewhere.
func (p *purse) run(ctx context.Context) {
	for n := 0; ; n++ {
		pause := balanceEvery
		if p.look(ctx) {
			pause = lowEvery
		}
		if n%rewardsEvery == 0 {
			p.lookForRewards(ctx)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.nudged:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// look reads the balance, and tells when it becomes low and when it is not any more. It reports
// whether the balance is low.
func (p *purse) look(ctx context.Context) (low bool) {
	balance, err := p.chain.Balance(ctx, p.operator)
	if err != nil {
		return false
	}
	needed := p.min
	if needed == nil {
		if needed, err = p.reserve(ctx); err != nil {
			needed = nil
		}
	}
	p.mu.Lock()
	p.balance = balance
	if needed == nil {
		needed = p.needed // of the last time
	}
	p.needed = needed
	low = needed != nil && balance.Cmp(needed) < 0
	changed := low != p.low
	p.low = low
	p.mu.Unlock()
	switch {
	case changed && low:
		p.emit(Event{Kind: EventBalanceLow, Reason: fmt.Sprintf("%s has %s wei, and %s are needed to be safe: send it some",
			p.operator, balance, needed)})
	case changed:
		p.emit(Event{Kind: EventBalanceBack, Reason: fmt.Sprintf("%s has %s wei", p.operator, balance)})
	}
	return low
}

// reserve returns what the next results cost at the current fee.
func (p *purse) reserve(ctx context.Context) (*big.Int, error) {
	fees, err := p.chain.Fees(ctx)
	if err != nil {
		return nil, err
	}
	perGas := new(big.Int)
	if fees.BaseFee != nil {
		perGas.Add(perGas, fees.BaseFee)
	}
	if fees.Tip != nil {
		perGas.Add(perGas, fees.Tip)
	}
	return perGas.Mul(perGas, big.NewInt(resultsInReserve*resultGas)), nil
}

// lookForRewards reads the pending rewards, and claims them if they are worth it.
func (p *purse) lookForRewards(ctx context.Context) {
	rewards, err := p.chain.PendingRewards(ctx, p.operator)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.rewards = rewards
	p.mu.Unlock()
	if p.threshold != nil && rewards.Sign() > 0 && rewards.Cmp(p.threshold) >= 0 {
		if err := p.claim(ctx); err != nil && ctx.Err() == nil {
			p.emit(Event{Kind: EventTransaction, Reason: "the pending rewards were not claimed", Err: err})
		}
	}
}

// claim claims the pending rewards, and returns once that is mined.
func (p *purse) claim(ctx context.Context) error {
	if !p.claiming.TryLock() {
		return faas.Errorf(faas.ErrConflict, "claim rewards", "", "a claim is on its way already")
	}
	defer p.claiming.Unlock()
	rewards, err := p.chain.PendingRewards(ctx, p.operator)
	if err != nil {
		return fmt.Errorf("claiming rewards: %w", err)
	}
	if rewards.Sign() == 0 {
		return faas.Errorf(faas.ErrNotFound, "claim rewards", "", "%s has no pending rewards", p.operator)
	}
	r, err := p.send(ctx, txmgr.Request{Label: "claim rewards", To: p.chain.Contract(), Data: chain.ClaimRewards()})
	if err != nil {
		return fmt.Errorf("claiming rewards: %w", err)
	}
	if !r.Succeeded {
		return faas.Errorf(faas.ErrFunctionFailed, "claim rewards", "", "transaction %s was mined and reverted", r.Tx)
	}
	if rewards, err = p.chain.PendingRewards(ctx, p.operator); err == nil {
		p.mu.Lock()
		p.rewards = rewards
		p.mu.Unlock()
	}
	return nil
}
