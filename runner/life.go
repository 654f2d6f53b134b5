package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// The errors with which [Runner.Run] ends when there is nothing left to do.
var (
	// ErrServiceOver means that the service was terminated, or that its time is over.
	ErrServiceOver = errors.New("the service is over")
	// ErrOperatorLeft means that the operator is not one of the service's.
	ErrOperatorLeft = errors.New("the operator is not in the service")
)

// services is what life needs of a *chain.Chain.
type services interface {
	Head(ctx context.Context) (chain.Block, error)
	Service(ctx context.Context, service uint64) (chain.Service, error)
	IsServiceOperator(ctx context.Context, service uint64, operator chain.Address) (bool, error)
	Paused(ctx context.Context) (bool, error)
}

// The reasons for which calls are held.
const (
	pausedReason  = "the contract is paused"
	pendingReason = "the service is not active yet"
)

// What getService says of a service.
const (
	servicePending    = 0
	serviceTerminated = 2
)

// life follows what decides whether a service's calls are to be run at all: whether it is active,
// has the operator, and is not paused. The zero value of the last fields is ready.
type life struct {
	chain         services
	service       uint64
	operator      chain.Address
	poll          time.Duration
	confirmations uint64
	tell          func(Event)
	hold, release func(reason string)

	once   sync.Once
	wanted chan struct{} // a look, soon
	active chan struct{} // closed when the service was first seen active

	// Of run's goroutine alone.
	held map[string]bool
}

func (l *life) init() {
	l.once.Do(func() {
		l.wanted, l.active, l.held = make(chan struct{}, 1), make(chan struct{}), map[string]bool{}
	})
}

// look asks for a look at the service now: something says that it changed.
func (l *life) look() {
	l.init()
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// await returns when the service was first seen active, with the operator in it.
func (l *life) await(ctx context.Context) error {
	l.init()
	select {
	case <-l.active:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run follows the service until it is over or ctx ends. The error is [ErrServiceOver],
// [ErrOperatorLeft] or that of ctx. A node that does not answer changes nothing.
func (l *life) run(ctx context.Context) error {
	l.init()
	// A node may be behind, and a reorg may take an ending back. So it is believed when it was seen at
	// each look for so long.
	sure := time.Duration(l.confirmations+2) * l.poll
	seldom := 15 * l.poll
	timer := time.NewTimer(0)
	defer timer.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wanted:
		case <-timer.C:
		}
		over, err := l.see(ctx)
		pause := seldom
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			pause = 2 * l.poll
		case over == nil:
			since = time.Time{}
			if len(l.held) > 0 {
				pause = 2 * l.poll
			}
		case since.IsZero():
			since, pause = time.Now(), l.poll
		case time.Since(since) >= sure:
			l.tell(Event{Kind: EventServiceOver, Reason: over.Error(), Err: over})
			return over
		default:
			pause = l.poll
		}
		timer.Reset(pause)
	}
}

// see looks at the service. over says why it is over.
func (l *life) see(ctx context.Context) (over, err error) {
	s, err := l.chain.Service(ctx, l.service)
	if err != nil {
		return nil, err
	}
	if s.CreatedAt == 0 || s.Status == servicePending {
		l.keep(pendingReason, true)
		return nil, nil
	}
	if over, err = l.over(ctx, s); over != nil || err != nil {
		return over, err
	}
	paused, err := l.chain.Paused(ctx)
	if err != nil {
		return nil, err
	}
	l.keep(pendingReason, false)
	l.keep(pausedReason, paused)
	select {
	case <-l.active:
	default:
		close(l.active)
	}
	return nil, nil
}

func (l *life) over(ctx context.Context, s chain.Service) (over, err error) {
	if s.Status == serviceTerminated || s.Terminated != 0 {
		return fmt.Errorf("%w: service %d was terminated", ErrServiceOver, l.service), nil
	}
	if s.TTL != 0 {
		head, err := l.chain.Head(ctx)
		if err != nil {
			return nil, err
		}
		if head.Time > s.CreatedAt && head.Time-s.CreatedAt > s.TTL {
			return fmt.Errorf("%w: the %v of service %d have passed", ErrServiceOver, seconds(s.TTL), l.service), nil
		}
	}
	member, err := l.chain.IsServiceOperator(ctx, l.service, l.operator)
	if err == nil && !member {
		over = fmt.Errorf("%w: %s is no operator of service %d", ErrOperatorLeft, l.operator, l.service)
	}
	return over, err
}

// seconds is a time of the contract, as far as a Duration can say it.
func seconds(n uint64) time.Duration { return time.Duration(min(n, 1<<33)) * time.Second }

// keep holds the calls, or lets them go.
func (l *life) keep(reason string, hold bool) {
	if l.held[reason] == hold {
		return
	}
	kind := EventWaiting
	switch {
	case hold && reason == pausedReason:
		kind = EventPaused
	case !hold:
		kind = EventResumed
	}
	if hold {
		l.held[reason] = true
		l.hold(reason)
	} else {
		delete(l.held, reason)
		l.release(reason)
	}
	l.tell(Event{Kind: kind, Reason: reason})
}
