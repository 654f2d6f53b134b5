package faastest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Op names a method of an executor.
type Op string

// The methods that do I/O.
const (
	OpObserve  Op = "observe"
	OpConverge Op = "converge"
	OpRestore  Op = "restore"
	OpRemove   Op = "remove"
	OpList     Op = "list"
	OpInvoke   Op = "invoke"
	OpWarm     Op = "warm"
	OpHealth   Op = "health"
	OpLogs     Op = "logs"
	OpDiagnose Op = "diagnose"
)

// Reads reports whether the method returns what exists.
func (o Op) Reads() bool { return o == OpObserve || o == OpList }

// Writes reports whether the method changes something at the provider.
func (o Op) Writes() bool { return o == OpConverge || o == OpRestore || o == OpRemove }

// Call is one call of an executor's method, as a [Script] sees it.
type Call struct {
	Op   Op
	Unit string // the unit's ID; empty for calls that concern a job or the whole service
	Job  int64  // the job invoked, warmed or checked, else faas.NoJob
	N    int    // this is the n-th call of Op on this unit or job, counted from 1
}

// FaultKind is a way in which a call fails.
type FaultKind string

// The faults. The first five strike before the call has any effect, the others afterwards.
const (
	Throttled   FaultKind = "throttled"   // refused with ErrThrottled
	Conflict    FaultKind = "conflict"    // refused with ErrConflict, as if someone else were changing the unit
	Denied      FaultKind = "denied"      // refused with ErrPermissionDenied
	Unavailable FaultKind = "unavailable" // ErrUnavailable, and nothing has changed
	Hang        FaultKind = "hang"        // no answer until the context is done, and nothing has changed

	TimedOut   FaultKind = "timed out"   // the call does all it should, and the caller gets ErrTimeout
	LostAnswer FaultKind = "lost answer" // the call does all it should, and the caller gets ErrUnavailable
	// Halfway stops a Converge of the in-memory provider in the middle: the unit exists and is
	// failed. For other calls and providers it is LostAnswer.
	Halfway FaultKind = "halfway"

	// Missing makes a read find nothing. Stale makes it return what it returned before the last
	// change, or find nothing if it was never called before. Other calls pass.
	Missing FaultKind = "missing"
	Stale   FaultKind = "stale"
	// Late makes a call that changes something return an ErrUnavailable that is Unsettled, and take
	// effect Fault.Delay later. An HTTP request is served at once, and answered Fault.Delay later.
	Late FaultKind = "late"
)

func (k FaultKind) code() faas.Code {
	switch k {
	case Throttled:
		return faas.ErrThrottled
	case Conflict:
		return faas.ErrConflict
	case Denied:
		return faas.ErrPermissionDenied
	case Hang, TimedOut:
		return faas.ErrTimeout
	default:
		return faas.ErrUnavailable
	}
}

// before reports whether the fault strikes before the call does anything.
func (k FaultKind) before() bool {
	return k == Throttled || k == Conflict || k == Denied || k == Unavailable || k == Hang
}

// Fault says how one call fails.
type Fault struct {
	Kind       FaultKind
	RetryAfter time.Duration // with Throttled: what the provider asks to wait
	Delay      time.Duration // with Late: how late
}

// Script returns the fault of a call, or nil for none. Many goroutines call it.
type Script func(Call) *Fault

// Rule is one line of a [Faults] script. Zero fields match every call.
type Rule struct {
	Op    Op
	Unit  string
	Skip  int // let so many matching calls pass first
	Times int // strike at most so often; 0: every time
	Fault Fault
}

// Faults returns a script that strikes by the first rule that matches and is not used up.
func Faults(rules ...Rule) Script {
	var mu sync.Mutex
	seen := make([]int, len(rules))
	return func(c Call) *Fault {
		mu.Lock()
		defer mu.Unlock()
		for i, r := range rules {
			if r.Op != "" && r.Op != c.Op || r.Unit != "" && r.Unit != c.Unit {
				continue
			}
			seen[i]++
			if seen[i] > r.Skip && (r.Times == 0 || seen[i] <= r.Skip+r.Times) {
				return &r.Fault
			}
		}
		return nil
	}
}

// script runs a Script and counts the calls for it. The zero value lets everything pass.
type script struct {
	decide Script
	mu     sync.Mutex
	calls  map[Call]int
}

func (s *script) fault(c Call) *Fault {
	if s.decide == nil {
		return nil
	}
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[Call]int{}
	}
	s.calls[c]++
	n := s.calls[c]
	s.mu.Unlock()
	c.N = n
	return s.decide(c)
}

// strike carries out the part of a fault that comes before the call. If it returns nil, the call
// must be made.
func (f *Fault) strike(ctx context.Context, c Call, provider string) error {
	if f == nil || !f.Kind.before() {
		return nil
	}
	if f.Kind == Hang {
		<-ctx.Done()
	}
	return f.error(c, provider)
}

// after replaces the outcome of a call that was made.
func (f *Fault) after(c Call, provider string, err error) error {
	if f == nil || f.Kind.before() || f.Kind.of(Missing, Stale, Late) || err != nil {
		return err
	}
	return f.error(c, provider)
}

// of reports whether the fault is one of the kinds.
func (k FaultKind) of(kinds ...FaultKind) bool { return slices.Contains(kinds, k) }

func (f *Fault) error(c Call, provider string) error {
	return &faas.Error{
		Op: string(c.Op), Provider: provider, JobID: c.Job, Code: f.Kind.code(), RetryAfter: f.RetryAfter,
		NotRun: (c.Op == OpInvoke || c.Op == OpConverge) && f.Kind.before(), Unsettled: f.Kind == Late,
		Err: fmt.Errorf("injected fault: %s", f.Kind),
	}
}
