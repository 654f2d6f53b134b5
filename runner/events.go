package runner

import (
	"math/big"
	"time"
)

// Outcome is how a call ended for this runner.
type Outcome string

const (
	Done           Outcome = "done"            // this operator's result is on chain
	DoneByOthers   Outcome = "done by others"  // others completed the call first
	JobFailed      Outcome = "job failed"      // the job returned an error, or its answer is not acceptable
	Interrupted    Outcome = "interrupted"     // it may have run; nobody knows its answer, and it must not be repeated
	NotForUs       Outcome = "not for us"      // other operators were quoted
	ServiceOver    Outcome = "service over"    // the service ended, or the operator left it
	NeedsAggregate Outcome = "needs aggregate" // an aggregated result is needed, and there is no aggregator
	Reorganized    Outcome = "reorganized"     // the chain dropped the call
)

// EventKind is what happened.
type EventKind string

const (
	EventStarted      EventKind = "started"       // the runner watches
	EventJob          EventKind = "job"           // a call was found
	EventRunning      EventKind = "running"       // an invocation begins
	EventAnswered     EventKind = "answered"      // the job answered
	EventSubmitted    EventKind = "submitted"     // a transaction was sent
	EventFinished     EventKind = "finished"      // Outcome says how
	EventWaiting      EventKind = "waiting"       // something outside keeps a call or all from going on; Reason says what
	EventReorg        EventKind = "reorg"         // blocks were replaced
	EventNodeTrouble  EventKind = "node trouble"  // a node failed or is behind
	EventNodeBack     EventKind = "node back"     // can be used again
	EventBalanceLow   EventKind = "balance low"   // the gas may run out; Reason says what is needed
	EventBalanceBack  EventKind = "balance back"  // there is enough again
	EventForeignNonce EventKind = "foreign nonce" // another program uses the key
	EventPaused       EventKind = "paused"        // the contract is
	EventResumed      EventKind = "resumed"       // the contract is not paused any more
	EventServiceOver  EventKind = "service over"  // for this operator; Reason says why
	EventHeartbeat    EventKind = "heartbeat"     // was mined, or failed if Err is set
	EventTransaction  EventKind = "transaction"   // of the queue: bumped, sent again, mined, taken back
)

// Event tells what the runner does. Events are values; the text is safe to print.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Service uint64
	Call    uint64 // if HasCall
	HasCall bool
	Job     uint32
	Block   uint64
	Outcome Outcome
	Reason  string
	Tx      string // 0x...
	Elapsed time.Duration
	GasUsed uint64
	Cost    *big.Int // wei
	Err     error
}

// Status is the state of a runner.
type Status struct {
	Service, Blueprint uint64
	Operator           string
	ChainID            uint64
	Contract           string
	Ready              bool // it has caught up once
	Healthy            bool
	Reason             string // why it is not healthy
	Head, Read         uint64 // blocks
	Behind             uint64 // blocks
	Queued, Parked     int
	Running            int
	Submitting         int
	Waiting            map[string]int // calls that wait, by reason
	Outcomes           map[Outcome]uint64
	Jobs               map[uint32]JobStatus
	Balance            *big.Int // wei; nil: unknown
	MinBalance         *big.Int // below it, Healthy is false; nil: unknown
	Rewards            *big.Int // wei of the native asset that may be claimed; nil: unknown
	GasUsed            uint64
	Spent              *big.Int
	Nodes              []NodeStatus
	Paused             bool
	Over               string // why the service is over for this operator
	LastAnswer         time.Time
	Started            time.Time
}

// JobStatus counts one job's calls.
type JobStatus struct {
	Queued, Running int
	Outcomes        map[Outcome]uint64
}

// NodeStatus is the state of one node.
type NodeStatus struct {
	Node    string
	Head    uint64
	Usable  bool
	Errors  uint64
	Problem string
}
