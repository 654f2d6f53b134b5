package serverless

import (
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// Phase says which part of the work an event belongs to.
type Phase string

// The phases, in the order in which a deployment goes through them.
const (
	PhasePolicy       Phase = "policy"       // the policy is read
	PhaseMetadata     Phase = "metadata"     // the blueprint's definition and profiles are read
	PhaseAnalysis     Phase = "analysis"     // it is decided which job runs where
	PhaseLock         Phase = "lock"         // another operation on the service is waited for
	PhasePackage      Phase = "package"      // the binary is inspected and packaged
	PhaseOrchestrator Phase = "orchestrator" // the runner is started or stopped
	PhaseObserve      Phase = "observe"      // the provider is asked what exists
	PhaseFunction     Phase = "function"     // a unit of functions is created, updated, removed or restored
	PhaseFallback     Phase = "fallback"     // serverless failed, and the jobs are run traditionally
)

// EventKind says what an event tells.
type EventKind string

// The kinds. Every started event is followed by exactly one ended event of the same phase, action and unit.
const (
	EventStarted  EventKind = "started"
	EventProgress EventKind = "progress"
	EventEnded    EventKind = "ended"
)

// Event is one moment of a deployment or removal. It holds no secret.
type Event struct {
	Time  time.Time
	Kind  EventKind
	Phase Phase
	// in PhaseFunction: "create", "update", "remove" or "restore"; in PhaseOrchestrator and PhaseFallback: "start" or "stop"
	Action     string
	Unit       string        // in PhaseObserve and PhaseFunction: the provider's name for the unit
	JobIDs     []uint32      // the jobs concerned
	Step       string        // of a progress event: "upload", "wait", ...; "pause" if RetryIn is set
	Bytes      int64         // of a progress event: uploaded so far
	TotalBytes int64         // of a progress event: to upload
	Attempt    int           // of an ended event: from 1, more if the call was made again
	RetryIn    time.Duration // of a progress event: the pause that begins, before the provider is asked again
	Duration   time.Duration // of an ended event
	Err        error         // of an ended event: why it failed; of a pause: why it is made
}

// emitter gives the events of one operation to the caller's function, in order and one at a time. A
// goroutine does that, so that the function may call any method of the service, also one that waits
// for the operation: the operation never waits for the function before flush.
type emitter struct {
	to func(Event) // nil: nobody listens

	mu         sync.Mutex
	queue      []Event
	delivering chan struct{} // closed when the queue is empty; nil while it is
}

func newEmitter(to func(Event)) *emitter { return &emitter{to: to} }

func (emit *emitter) send(e Event) {
	if emit.to == nil {
		return
	}
	e.Time = time.Now()
	emit.mu.Lock()
	defer emit.mu.Unlock()
	emit.queue = append(emit.queue, e)
	if emit.delivering == nil {
		emit.delivering = make(chan struct{})
		go emit.deliver()
	}
}

func (emit *emitter) deliver() {
	for {
		emit.mu.Lock()
		batch := emit.queue
		if emit.queue = nil; len(batch) == 0 {
			close(emit.delivering)
			emit.delivering = nil
			emit.mu.Unlock()
			return
		}
		emit.mu.Unlock()
		for _, e := range batch {
			emit.to(e)
		}
	}
}

// flush returns when every event was delivered. It is the last thing that an operation does, after it
// has let go of all that another operation could wait for.
func (emit *emitter) flush() {
	emit.mu.Lock()
	idle := emit.delivering
	emit.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// phase runs f between a started and an ended event.
func (emit *emitter) phase(p Phase, jobIDs []uint32, f func() error) error {
	return emit.act(p, "", jobIDs, f)
}

// act is phase for one of several things that are done in a phase.
func (emit *emitter) act(p Phase, action string, jobIDs []uint32, f func() error) error {
	start := time.Now()
	emit.send(Event{Kind: EventStarted, Phase: p, Action: action, JobIDs: jobIDs})
	err := f()
	emit.send(Event{Kind: EventEnded, Phase: p, Action: action, JobIDs: jobIDs, Attempt: 1, Duration: time.Since(start),
		Err: err})
	return err
}

// step passes on what the engine reports.
func (emit *emitter) step(s engine.Step) {
	e := Event{Kind: EventStarted, Phase: PhaseFunction, Action: s.Verb, Unit: s.UnitID, JobIDs: s.JobIDs,
		Attempt: s.Attempt}
	if s.Verb == "observe" || s.Verb == "list" {
		e.Phase, e.Action = PhaseObserve, ""
	}
	switch {
	case s.Done:
		e.Kind, e.Duration, e.Err = EventEnded, s.Duration, s.Err
	case s.RetryIn > 0:
		e.Kind, e.Step, e.RetryIn, e.Err = EventProgress, "pause", s.RetryIn, s.Err
	case s.Progress != nil:
		e.Kind, e.Step, e.Bytes, e.TotalBytes = EventProgress, s.Progress.Step, s.Progress.Bytes, s.Progress.TotalBytes
	}
	emit.send(e)
}
