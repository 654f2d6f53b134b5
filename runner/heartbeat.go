package runner

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// What a heartbeat says of the operator. The registry reads 200 and above as a call for slashing.
const (
	beatHealthy  = 0
	beatDegraded = 1
)

// beats is what a heart needs of *chain.Chain.
type beats interface {
	HeartbeatConfig(ctx context.Context, registry chain.Address, service uint64) (chain.HeartbeatConfig, error)
}

// heart sends heartbeats.
type heart struct {
	registry chain.Address
	service  uint64
	// blueprint is the service's.
	blueprint uint64
	operator  chain.Address
	chain     beats
	send      func(context.Context, txmgr.Request) (*chain.Receipt, error)
	status    func() Status
	metrics   func() map[string]uint64 // nil: the runner's
	emit      func(Event)
	jitter    func(time.Duration) time.Duration // nil: random

	beaten atomic.Bool // a heartbeat may be on its way, and none was followed by offline
}

// defaultInterval is the registry's, for services that set none.
const defaultInterval = 300 * time.Second

// interval returns how often to beat. A registry that asks for a heartbeat every second, or for one
// a year, is not believed.
func interval(c chain.HeartbeatConfig) time.Duration {
	if c.Interval == 0 {
		return defaultInterval
	}
	return time.Duration(min(max(c.Interval, 60), 86400)) * time.Second
}

// run beats until ctx ends or the service is over. What goes wrong is told, and tried again at the
// next interval.
func (h *heart) run(ctx context.Context) {
	jitter := h.jitter
	if jitter == nil {
		jitter = func(most time.Duration) time.Duration { return rand.N(most) }
	}
	// A runner that has just started is behind the chain, which is no reason to call it degraded.
	const patience = time.Minute
	for start := time.Now(); !h.status().Ready && time.Since(start) < patience; {
		if !httputil.Sleep(ctx, time.Second/4) {
			return
		}
	}
	for {
		every := defaultInterval / 5 // if the registry cannot be asked
		cfg, err := h.chain.HeartbeatConfig(ctx, h.registry, h.service)
		if err == nil {
			every = interval(cfg)
			err = h.beat(ctx, cfg)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.emit(Event{Kind: EventHeartbeat, Err: fmt.Errorf("heartbeat: %w", err)})
		}
		// Earlier than asked for, so that a slow block is no missed heartbeat.
		if !httputil.Sleep(ctx, every-jitter(every/10)) {
			return
		}
	}
}

// beat sends one heartbeat. One that cannot be mined within its interval is given up.
func (h *heart) beat(ctx context.Context, cfg chain.HeartbeatConfig) error {
	s := h.status()
	if s.Over != "" || s.Paused {
		return nil // the registry would refuse it, or nobody can work
	}
	status, metrics := uint8(beatHealthy), []byte(nil)
	if !s.Healthy {
		status = beatDegraded
	}
	if cfg.CustomMetrics {
		metrics = encodeMetrics(h.values(s))
	}
	until := time.Now().Add(interval(cfg))
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	r, err := h.send(ctx, txmgr.Request{
		Label: "heartbeat", To: h.registry, Data: chain.HeartbeatDirect(h.service, h.blueprint, status, metrics),
		Still: func(context.Context) error {
			if time.Now().After(until) {
				return txmgr.ErrObsolete
			}
			return nil
		},
		Sent: func(chain.Word) error {
			h.beaten.Store(true)
			return nil
		},
	})
	if err != nil {
		return err
	}
	e := Event{Kind: EventHeartbeat, Block: r.Block, Tx: r.Tx.String(), GasUsed: r.GasUsed}
	if !r.Succeeded {
		e.Err = fmt.Errorf("heartbeat: transaction %s was mined and reverted", r.Tx)
	}
	h.emit(e)
	return nil
}

// values returns the metrics to tell.
func (h *heart) values(s Status) map[string]uint64 {
	if h.metrics != nil {
		return h.metrics()
	}
	return map[string]uint64{"jobs_done": s.Outcomes[Done], "jobs_failed": s.Outcomes[JobFailed],
		"behind_blocks": s.Behind}
}

// offline reports the operator offline before a planned stop, if it ever beat. run must have
// returned.
func (h *heart) offline(ctx context.Context) error {
	if h.status().Over != "" || !h.beaten.Swap(false) {
		return nil
	}
	_, err := h.send(ctx, txmgr.Request{Label: "go offline", To: h.registry, Data: chain.GoOffline(h.service)})
	if err != nil {
		return fmt.Errorf("reporting the operator offline: %w", err)
	}
	return nil
}

func appendWord(dst []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, make([]byte, 24)...), n)
}

// encodeMetrics encodes (string,uint256)[], by name.
func encodeMetrics(values map[string]uint64) []byte {
	names := slices.Sorted(maps.Keys(values))
	var heads, tails []byte
	for _, name := range names {
		heads = appendWord(heads, uint64(32*len(names)+len(tails)))
		tails = appendWord(appendWord(appendWord(tails, 64), values[name]), uint64(len(name)))
		tails = append(append(tails, name...), make([]byte, (32-len(name)%32)%32)...)
	}
	out := appendWord(appendWord(nil, 32), uint64(len(names)))
	return append(append(out, heads...), tails...)
}
