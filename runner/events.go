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

// Status is the state of a runner. What is counted is counted since the process started.
type Status struct {
	Service   uint64 `json:"service"`
	Blueprint uint64 `json:"blueprint"`
	Operator  string `json:"operator"`
	ChainID   uint64 `json:"chain_id"`
	Contract  string `json:"contract"`

	Ready   bool   `json:"ready"` // it has caught up once
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not healthy
	Paused  bool   `json:"paused"`           // the contract is
	Over    string `json:"over,omitempty"`   // why the service is over for this operator

	Head     uint64       `json:"head"` // the latest block that a node knows
	HeadTime time.Time    `json:"head_time,omitzero"`
	Read     uint64       `json:"read"`   // the latest block that was read
	Behind   uint64       `json:"behind"` // blocks
	Nodes    []NodeStatus `json:"nodes"`

	Queued     int                  `json:"queued"`
	Parked     int                  `json:"parked"` // queued without their inputs in memory
	Running    int                  `json:"running"`
	Submitting int                  `json:"submitting"`
	Waiting    map[string]int       `json:"waiting,omitempty"` // calls that wait, by reason
	Outcomes   map[Outcome]uint64   `json:"outcomes,omitempty"`
	Jobs       map[uint32]JobStatus `json:"jobs,omitempty"`

	// Amounts are in wei of the chain's native asset, and nil if they are not known.
	Balance    *big.Int `json:"balance_wei,omitempty"`
	MinBalance *big.Int `json:"min_balance_wei,omitempty"` // below it, Healthy is false
	Rewards    *big.Int `json:"rewards_wei,omitempty"`     // that may be claimed
	Spent      *big.Int `json:"spent_wei,omitempty"`       // for gas
	GasUsed    uint64   `json:"gas_used"`

	LastAnswer time.Time `json:"last_answer,omitzero"`
	Started    time.Time `json:"started,omitzero"`
}

// JobStatus counts one job's calls.
type JobStatus struct {
	Queued   int                `json:"queued"`
	Running  int                `json:"running"`
	Outcomes map[Outcome]uint64 `json:"outcomes,omitempty"`
}

// NodeStatus is the state of one node.
type NodeStatus struct {
	Node    string `json:"node"` // scheme and host
	Head    uint64 `json:"head"`
	Usable  bool   `json:"usable"`
	Errors  uint64 `json:"errors"`
	Problem string `json:"problem,omitempty"` // why it is not usable, or its last error
}
