package faastest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Sky is the weather between a program and a platform, decided at random from a seed: delayed
// reads, answers that are lost after the change was made, refusals, and late answers. It also
// ends the program: after that moment every call fails. A Sky is safe for concurrent use.
type Sky struct {
	mu     sync.Mutex
	rng    *rand.Rand
	bad    bool
	spells map[string]spell // by what is read
	until  int              // so many moments before the program ends; negative: it does not
	over   func()           // is called at that moment
	missed map[string]bool  // what was read once, if the first read of everything is to find nothing
	past   memories
	told   []string // what went wrong
}

// spell is a time during which a unit or URL is read in one way.
type spell struct {
	kind FaultKind
	left int // reads
}

// NewSky returns good weather.
func NewSky(seed uint64) *Sky {
	return &Sky{rng: rand.New(rand.NewPCG(seed, 3)), spells: map[string]spell{}, until: -1}
}

// Set makes the weather bad, or good with every read correct.
func (s *Sky) Set(bad bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad, s.until, s.over = bad, -1, nil
	clear(s.spells)
	s.told = nil
}

// EndAfter ends the program after that many moments: from then on every call and request fails.
// ended, which may be nil, is called once at that moment, before the first of them fails. Set
// starts a new program.
func (s *Sky) EndAfter(moments int, ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.over = moments, ended
}

// missOnce makes the first read of everything find nothing.
func (s *Sky) missOnce() { s.missed = map[string]bool{} }

// Ended reports whether the program has ended.
func (s *Sky) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until == 0
}

// Told lists the faults since Set.
func (s *Sky) Told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.told...)
}

var errEnded = errors.New("injected fault: this program has ended")

// moment lets one moment pass, and returns an error once the program has ended.
func (s *Sky) moment() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.until == 0:
		return errEnded
	case s.until > 0:
		if s.until--; s.until == 0 {
			if s.over != nil {
				s.over()
			}
			return errEnded
		}
	}
	return nil
}

// fault chooses the fault of a read or a write. kinds are those that strike writes.
func (s *Sky) fault(key string, read bool, writes ...FaultKind) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missed != nil && read && !s.missed[key] {
		s.missed[key] = true
		return &Fault{Kind: Missing}
	}
	if !s.bad {
		return nil
	}
	var kind FaultKind
	if sp := s.spells[key]; read && sp.left > 0 {
		sp.left--
		s.spells[key], kind = sp, sp.kind
	} else {
		if s.rng.IntN(8) != 0 {
			return nil
		}
		kinds := writes
		if read {
			kinds = []FaultKind{Missing, Missing, Stale, Stale, Throttled, Unavailable, LostAnswer}
		}
		kind = kinds[s.rng.IntN(len(kinds))]
		if kind.of(Missing, Stale) {
			s.spells[key] = spell{kind, s.rng.IntN(3)}
		}
	}
	s.told = append(s.told, fmt.Sprintf("%s: %s", key, kind))
	return &Fault{Kind: kind, Delay: time.Duration(s.rng.IntN(100)) * time.Millisecond}
}

// Executor returns exec in this weather, without exec's optional interfaces.
func (s *Sky) Executor(exec faas.Executor) faas.Executor {
	return &mortal{newFaulty(exec, func(c Call) *Fault {
		if !c.Op.Reads() && !c.Op.Writes() {
			return nil
		}
		return s.fault(string(c.Op)+" "+c.Unit, c.Op.Reads(), Throttled, Conflict, Denied, Unavailable, TimedOut, LostAnswer,
			LostAnswer, Halfway, Late)
	}, &s.past), s}
}

// Settle waits until every late change of executors has taken effect.
func (s *Sky) Settle() { s.past.late.Wait() }

// mortal is an executor that ends with its program.
type mortal struct {
	faas.Executor
	sky *Sky
}

func (m *mortal) do(op Op, call func() error) error {
	err := m.sky.moment()
	if err == nil {
		err = call()
		if end := m.sky.moment(); end != nil {
			err = end
		}
	}
	if errors.Is(err, errEnded) {
		return faas.Errorf(faas.ErrUnavailable, string(op), faultyProvider, "%w", err)
	}
	return err
}

func (m *mortal) Observe(ctx context.Context, id string) (s faas.State, err error) {
	err = m.do(OpObserve, func() error { s, err = m.Executor.Observe(ctx, id); return err })
	return s, err
}

func (m *mortal) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (s faas.State, err error) {
	err = m.do(OpConverge, func() error { s, err = m.Executor.Converge(ctx, u, prior, report); return err })
	return s, err
}

func (m *mortal) Restore(ctx context.Context, prior faas.State) error {
	return m.do(OpRestore, func() error { return m.Executor.Restore(ctx, prior) })
}

func (m *mortal) Remove(ctx context.Context, id string) error {
	return m.do(OpRemove, func() error { return m.Executor.Remove(ctx, id) })
}

func (m *mortal) List(ctx context.Context) (states []faas.State, err error) {
	err = m.do(OpList, func() error { states, err = m.Executor.List(ctx); return err })
	return states, err
}

// Transport returns base in this weather. A nil base is http.DefaultTransport.
func (s *Sky) Transport(base http.RoundTripper) http.RoundTripper {
	faulty := FaultyTransport(base, func(r *http.Request) *Fault {
		return s.fault(r.Method+" "+r.URL.Path, r.Method == http.MethodGet || r.Method == http.MethodHead, Throttled,
			Unavailable, LostAnswer, LostAnswer, Late)
	})
	return &mortalTransport{faulty.(*faultyTransport), s}
}

type mortalTransport struct {
	*faultyTransport
	sky *Sky
}

func (m *mortalTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := m.sky.moment(); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := m.faultyTransport.RoundTrip(req)
	if end := m.sky.moment(); end != nil {
		if err == nil {
			resp.Body.Close()
		}
		return nil, end
	}
	return resp, err
}
