package runner

import (
	"context"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// bank is what a purse looks at.
type bank struct {
	balance, rewards int64
	fees             chain.Fees
	down             bool
	looks            int
}

func (b *bank) answer(n int64) (*big.Int, error) {
	if b.down {
		return nil, errors.New("no node")
	}
	return big.NewInt(n), nil
}

func (b *bank) Contract() chain.Address { return chain.Address{9} }
func (b *bank) Balance(context.Context, chain.Address) (*big.Int, error) {
	b.looks++
	return b.answer(b.balance)
}
func (b *bank) PendingRewards(context.Context, chain.Address) (*big.Int, error) {
	return b.answer(b.rewards)
}
func (b *bank) Fees(context.Context) (chain.Fees, error) {
	_, err := b.answer(0)
	return b.fees, err
}

func newPurse(b *bank) (p *purse, events *[]Event, sent *[]txmgr.Request) {
	events, sent = &[]Event{}, &[]txmgr.Request{}
	p = &purse{
		chain: b, emit: func(e Event) { *events = append(*events, e) },
		send: func(_ context.Context, r txmgr.Request) (*chain.Receipt, error) {
			*sent = append(*sent, r)
			b.rewards = 0
			return &chain.Receipt{Succeeded: true}, nil
		},
	}
	return p, events, sent
}

func TestALowBalanceIsToldOnceAndWhenItIsBack(t *testing.T) {
	b := &bank{balance: 10}
	p, events, _ := newPurse(b)
	p.min = big.NewInt(5)
	for _, balance := range []int64{10, 5, 4, 3, 0, 5, 6, 1} {
		b.balance = balance
		p.look(t.Context())
	}
	var kinds []EventKind
	for _, e := range *events {
		kinds = append(kinds, e.Kind)
	}
	want := []EventKind{EventBalanceLow, EventBalanceBack, EventBalanceLow}
	if len(kinds) != 3 || kinds[0] != want[0] || kinds[1] != want[1] || kinds[2] != want[2] {
		t.Errorf("told %v, want %v", kinds, want)
	}
	b.down = true
	p.look(t.Context())
	var s Status
	p.fill(&s)
	if s.Balance.Int64() != 1 || s.MinBalance.Int64() != 5 || len(*events) != 3 {
		t.Errorf("after a failed look: %v of %v", s.Balance, s.MinBalance)
	}
}

func TestTheDefaultMinimumIsWhatTwentyResultsCost(t *testing.T) {
	b := &bank{fees: chain.Fees{BaseFee: big.NewInt(7), Tip: big.NewInt(3)}}
	p, _, _ := newPurse(b)
	p.look(t.Context())
	var s Status
	p.fill(&s)
	if want := int64(20 * 250_000 * 10); s.MinBalance.Int64() != want {
		t.Errorf("got %v, want %d", s.MinBalance, want)
	}
	b.fees = chain.Fees{Tip: big.NewInt(1)} // before EIP-1559
	p.look(t.Context())
	p.fill(&s)
	if want := int64(20 * 250_000); s.MinBalance.Int64() != want {
		t.Errorf("without a base fee: got %v, want %d", s.MinBalance, want)
	}
}

func TestATransactionThatFindsNoMoneyMakesTheBalanceBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bank{balance: 10}
		p, events, _ := newPurse(b)
		p.min, p.nudged = big.NewInt(5), make(chan struct{}, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx) }()
		synctest.Wait()
		b.balance = 1
		p.nudge()
		synctest.Wait()
		if len(*events) != 1 || (*events)[0].Kind != EventBalanceLow {
			t.Errorf("told %v", *events)
		}
		b.balance = 10
		p.nudge()
		synctest.Wait()
		if len(*events) != 2 || (*events)[1].Kind != EventBalanceBack {
			t.Errorf("told %v", *events)
		}
		cancel()
		<-done
	})
}

func TestMoneyIsLookedAtNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bank{rewards: 8}
		p, _, sent := newPurse(b)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		p.run(ctx)
		if b.looks != 11 || len(*sent) != 0 {
			t.Errorf("%d looks in ten minutes, %d transactions", b.looks, len(*sent))
		}
		var s Status
		if p.fill(&s); s.Rewards.Int64() != 8 {
			t.Errorf("rewards: %v", s.Rewards)
		}
	})
}

func TestRewardsAreClaimedAsAsked(t *testing.T) {
	b := &bank{rewards: 7}
	p, events, sent := newPurse(b)
	p.threshold = big.NewInt(8)
	p.lookForRewards(t.Context())
	if len(*sent) != 0 {
		t.Error("they are claimed below the threshold")
	}
	b.rewards = 8
	p.lookForRewards(t.Context())
	if len(*sent) != 1 || (*sent)[0].To != b.Contract() || binary.BigEndian.Uint32((*sent)[0].Data) != 0x372500ab {
		t.Fatalf("sent %+v", *sent)
	}
	var s Status
	if p.fill(&s); s.Rewards.Sign() != 0 {
		t.Errorf("after the claim: %v", s.Rewards)
	}
	p.threshold = new(big.Int) // zero rewards are not worth a transaction
	p.lookForRewards(t.Context())
	if err := p.claim(t.Context()); faas.CodeOf(err) != faas.ErrNotFound || len(*sent) != 1 {
		t.Errorf("without rewards: %v, sent %d", err, len(*sent))
	}
	b.rewards = 5
	p.send = func(context.Context, txmgr.Request) (*chain.Receipt, error) {
		if err := p.claim(t.Context()); faas.CodeOf(err) != faas.ErrConflict {
			t.Errorf("two claims at a time: %v", err)
		}
		return &chain.Receipt{}, nil
	}
	if err := p.claim(t.Context()); faas.CodeOf(err) != faas.ErrFunctionFailed {
		t.Errorf("reverted: %v", err)
	}
	p.lookForRewards(t.Context())
	if len(*events) != 1 || (*events)[0].Err == nil {
		t.Errorf("told %+v", *events)
	}
}
