package runner

import (
	"context"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// work is one call of a job, as it stands on the chain. The watcher finds it, the scheduler runs
// it, the submitter brings the answer on chain.
type work struct {
	id     journal.ID
	number uint64 // of the block
	job    uint32
	caller chain.Address
	quoted []chain.Address // of a call by quote
	inputs []byte
	time   uint64 // of the block; Unix seconds
}

// sink is where the watcher hands over what it found. The scheduler implements it.
type sink interface {
	// offer takes a call. It blocks while there is no room, so that the watcher reads no further. A
	// call that the journal says is finished, or that was offered before, is ignored.
	offer(ctx context.Context, w work) error
	// orphaned says that the chain dropped a call: its run is cancelled, its record forgotten, and
	// nothing of it is submitted.
	orphaned(id journal.ID)
	// reopened says that a fork at this height took back results: calls that were finished by one in
	// this block or above are looked at again.
	reopened(height uint64)
	// oldest returns the lowest block with a call that was offered and has neither finished nor a
	// record in the journal; ok is false if there is none. The cursor stays below it.
	oldest() (block uint64, ok bool)
}

// anchor tells whether a call still stands where it was found. The watcher implements it; the
// submitter asks before it submits.
type anchor interface {
	//
	// stands is false only if the chain certainly dropped the call.
	stands(ctx context.Context, id journal.ID, number uint64) (bool, error)
	// inputsOf reads the inputs again: of a call whose inputs were not kept in memory, or that an
	// earlier process began.
	inputsOf(ctx context.Context, r journal.ID, number uint64) (work, error)
}
