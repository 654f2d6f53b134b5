package serverless

import (
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// Phase is the part of the work that an event belongs to.
type Phase string

// The phases.
const (
	PhasePolicy       Phase = "policy"       // reading the policy
	PhaseMetadata     Phase = "metadata"     // reading the blueprint's definition and profiles
	PhaseAnalysis     Phase = "analysis"     // deciding which job runs where
	PhaseLock         Phase = "lock"         // waiting for another operation on the service
	PhasePackage      Phase = "package"      // inspecting and packaging the binary
	PhaseOrchestrator Phase = "orchestrator" // starting or stopping the runner
	PhaseObserve      Phase = "observe"      // asking the provider what exists
	PhaseFunction     Phase = "function"     // creating, updating, removing or restoring a unit of functions
	PhaseFallback     Phase = "fallback"     // running the jobs traditionally after serverless failed
)

// EventKind is what an event tells.
type EventKind string

// The kinds. Exactly one ended event of the same phase, action and unit follows every started
// event.
const (
	EventStarted  EventKind = "started"
	EventProgress EventKind = "progress"
	EventEnded    EventKind = "ended"
)

// Event is one moment of an operation. It holds no secret.
type Event struct {
	Time  time.Time
	Kind  EventKind
	Phase Phase
	// Action is "create", "update", "remove" or "restore" in PhaseFunction, and "start" or "stop" in
	// PhaseOrchestrator and PhaseFallback.
	Action     string
	Unit       string        // the provider's name for the unit, in PhaseObserve and PhaseFunction
	JobIDs     []uint32      // the jobs concerned
	Step       string        // of a progress event: "upload", "wait", ...; "pause" if RetryIn is set
	Bytes      int64         // of a progress event: uploaded so far
	TotalBytes int64         // of a progress event: to upload
	Attempt    int           // of an ended event: how often the call was made
	RetryIn    time.Duration // of a progress event: the pause before the next attempt
	Duration   time.Duration // of an ended event
	Err        error         // of an ended event: why it failed; of a pause: its reason
}

// emitter passes the events of one operation to the caller's function, in order and one at a time.
// It does so on a goroutine of its own, so that the function may call any method of the service,
// even one that waits for the operation: the operation does not wait for the function before flush.
type emitter struct {
	to func(Event) // nil: events are dropped

	mu         sync.Mutex
	queue      []Event
	delivering chan struct{} // closed once the queue is empty; nil while it is empty
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

// flush returns once every event was delivered. An operation calls it last, after it has released
// everything that another operation could wait for.
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

// act is phase for one of several actions in a phase.
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
