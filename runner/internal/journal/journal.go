// Package journal keeps on disk what a runner did, so that a restart loses nothing and repeats
// nothing: the phase of every call that was begun, the transactions that may be in a pool, and how
// far the chain was read.
package journal

import (
	"errors"
	"iter"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// Key is whose journal it is. One directory may hold several.
type Key struct {
	ChainID  uint64
	Contract tangle.Address
	Service  uint64
	Operator tangle.Address
}

// ErrLocked means that another process has the journal open.
var ErrLocked = errors.New("another runner uses this journal")

// ID identifies a call as it stands on the chain: after a reorg, the same call number may be
// another job.
type ID struct {
	Call  uint64
	Block tangle.Word // the block's hash
	Log   uint32      // index in the block
}

// Phase is how far a call got. Phases only grow, except by Forget.
type Phase uint8

const (
	Started  Phase = iota + 1 // an invocation was begun, and may have run
	Answered                  // Output is the job's answer
	Sent                      // a transaction with the answer may be in a pool
	Finished                  // Outcome says how; nothing more is done
)

// Record is what is known of one call.
type Record struct {
	ID      ID
	Number  uint64 // of the block
	Job     uint8
	Phase   Phase
	Runs    int    // invocations begun
	Output  []byte // dropped once finished
	Outcome string // of runner.Outcome; set when finished
	Reason  string // why it failed or waits; text that is safe to print
	Tx      tangle.Word
	// ResultBlock is a block that has the result, or one after it; 0: unknown.
	ResultBlock uint64
	At          time.Time
}

// Tx is a transaction that may be in a pool.
type Tx struct {
	Nonce  uint64
	Raw    [][]byte // every signed version, oldest first
	Hashes []tangle.Word
	Label  string // what it is for, to be told
}

// Cursor says that every call in this block and those before it is finished or has a record.
type Cursor struct {
	Block uint64
	Hash  tangle.Word
}

// Journal is safe for concurrent use. Every change is on disk when the method returns; changes at
// the same time share one sync.
type Journal struct{}

// Open opens or creates the journal in the directory and locks it. A torn end, which a crash
// leaves, is dropped. A file that is damaged elsewhere is an error that names the file: nothing is
// guessed.
func Open(dir string, key Key) (*Journal, error) { panic("unwritten") }

func (j *Journal) Get(id ID) (Record, bool)     { panic("unwritten") }
func (j *Journal) Calls(call uint64) []Record   { panic("unwritten") } // all that stand under this number
func (j *Journal) Output(id ID) ([]byte, error) { panic("unwritten") } // an error if there is none
func (j *Journal) Put(r Record) error           { panic("unwritten") }
func (j *Journal) Forget(id ID) error           { panic("unwritten") } // the chain dropped it
func (j *Journal) Unfinished() iter.Seq[Record] { panic("unwritten") }
func (j *Journal) Records() iter.Seq[Record]    { panic("unwritten") } // newest first: finished ones are kept for a while
func (j *Journal) Cursor() (Cursor, bool)       { panic("unwritten") }
func (j *Journal) SetCursor(Cursor) error       { panic("unwritten") } // lets finished records far below it go
func (j *Journal) PutTx(Tx) error               { panic("unwritten") } // replaces the one with the nonce
func (j *Journal) DropTx(nonce uint64) error    { panic("unwritten") }
func (j *Journal) Txs() []Tx                    { panic("unwritten") } // by nonce
func (j *Journal) Close() error                 { panic("unwritten") }
