package oracle

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// operation is a runner of account 1 in a world, which may be stopped and started again.
type operation struct {
	*world
	signer runner.Signer
	dir    string

	mu       sync.Mutex
	outcomes map[uint64][]runner.Outcome // by call
	kinds    map[runner.EventKind]int
	runs     map[string]int // of handlers, by inputs
	changed  chan struct{}
	stop     func() error
	ended    chan error

	slow chan struct{} // a slow job waits for it
}

// The jobs of the handlers.
const (
	jobPlain = 0
	jobSlow  = 3
)

func newOperation(w *world) *operation {
	o := &operation{world: w, dir: w.TempDir(), outcomes: map[uint64][]runner.Outcome{}, kinds: map[runner.EventKind]int{},
		runs: map[string]int{}, changed: make(chan struct{}, 1), slow: make(chan struct{})}
	path := filepath.Join(w.TempDir(), "key")
	must(w.T, os.WriteFile(path, []byte(hex.EncodeToString(devchain.Key(1))), 0o600))
	signer, _, err := runner.OpenKeystore(path, "")
	must(w.T, err)
	o.signer = signer
	return o
}

func (o *operation) note(change func()) {
	o.mu.Lock()
	change()
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// until waits for a condition, which holds o.mu.
func (o *operation) until(what string, condition func() bool) {
	o.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		o.mu.Lock()
		fulfilled := condition()
		o.mu.Unlock()
		if fulfilled {
			return
		}
		select {
		case <-o.changed:
		case err := <-o.ended:
			o.ended <- err
			o.Fatalf("%s: the runner ended while the test waited for this: %s: %v", o.name, what, err)
		case <-timeout.C:
			o.mu.Lock()
			defer o.mu.Unlock()
			o.Fatalf("%s: still not: %s; outcomes %v, events %v, runs %v", o.name, what, o.outcomes, o.kinds, o.runs)
		}
	}
}

func (o *operation) outcome(call uint64, want runner.Outcome) {
	o.Helper()
	o.until(fmt.Sprintf("call %d is %s", call, want), func() bool { return slices.Contains(o.outcomes[call], want) })
}

func (o *operation) happens(kind runner.EventKind, before int) {
	o.Helper()
	o.until(string(kind), func() bool { return o.kinds[kind] > before })
}

func (o *operation) count(kind runner.EventKind) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kinds[kind]
}

func (o *operation) start() {
	o.Helper()
	echo := func(_ context.Context, args []byte) ([]byte, error) {
		o.note(func() { o.runs[string(args)]++ })
		return append([]byte("re: "), args...), nil
	}
	slow := func(ctx context.Context, args []byte) ([]byte, error) {
		o.note(func() { o.runs[string(args)]++ })
		select {
		case <-o.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return args, nil
	}
	handlers := job.Handlers{jobPlain: echo, jobOfTwo: echo, jobSlow: slow, 4: echo}
	r, err := runner.New(runner.Config{RPC: o.url, Contract: o.contract.Hex(), DataDir: o.dir, Signer: o.signer},
		runner.WithHandlers(handlers), runner.WithPoll(20*time.Millisecond), runner.WithEvents(func(e runner.Event) {
			if e.Kind == runner.EventNodeTrouble {
				o.Logf("%s: %s %v", o.name, e.Reason, e.Err)
			}
			o.note(func() {
				if o.kinds[e.Kind]++; e.Kind == runner.EventFinished {
					o.outcomes[e.Call] = append(o.outcomes[e.Call], e.Outcome)
				}
			})
		}))
	must(o.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	o.ended = ended
	go func() { ended <- r.Run(ctx) }()
	o.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	o.Cleanup(func() { _ = o.stop() })
}

func (o *operation) submit(job uint8, inputs string) {
	o.Helper()
	o.call(0, "submitJob(uint64,uint8,bytes)", uint64(0), job, []byte(inputs))
}

func (o *operation) answer(call uint64) {
	o.Helper()
	o.call(2, "submitResult(uint64,uint64,bytes)", uint64(0), call, []byte("the other's"))
}

// results returns the results of account 1 by call.
func (o *operation) results() map[uint64][]string {
	o.Helper()
	me := common.BytesToHash(o.me().Bytes())
	logs, err := o.client.FilterLogs(o.Context(), ethereum.FilterQuery{Addresses: []common.Address{o.contract},
		FromBlock: common.Big0, Topics: [][]common.Hash{{crypto.Keccak256Hash([]byte(
			"JobResultSubmitted(uint64,uint64,address,bytes)"))}, nil, nil, {me}}})
	must(o.T, err)
	out := map[uint64][]string{}
	for _, l := range logs {
		call, size := l.Topics[2].Big().Uint64(), common.BytesToHash(l.Data[32:64]).Big().Uint64()
		out[call] = append(out[call], string(l.Data[64:64+size]))
	}
	return out
}

func (o *operation) me() common.Address { return common.Address(o.signer.Address()) }

// TestLifeOfAService runs a runner through what happens to a service, on every chain.
func TestLifeOfAService(t *testing.T) {
	eachWorld(t, func(w *world) {
		w.setJob(jobOfTwo, 2, false)
		o := newOperation(w)
		o.submit(jobPlain, "before the runner")
		o.start()
		o.outcome(0, runner.Done)
		o.submit(jobPlain, "plain")
		o.outcome(1, runner.Done)

		o.submit(jobOfTwo, "two") // one result each
		o.outcome(2, runner.Done)
		o.answer(2)

		o.submit(jobSlow, "slow") // the other operator is faster
		o.until("the slow job runs", func() bool { return o.runs["slow"] == 1 })
		o.submit(jobPlain, "meanwhile")
		o.outcome(4, runner.Done)
		o.answer(3)
		close(o.slow)
		o.outcome(3, runner.DoneByOthers)

		o.quoted(0, 4, []byte("for both"), 1, 2)
		o.quoted(0, 4, []byte("for the other"), 2)
		o.outcome(5, runner.Done)
		o.outcome(6, runner.NotForUs)
		o.answer(6)

		o.pause(true)
		o.happens(runner.EventPaused, 0)
		o.pause(false)
		o.happens(runner.EventResumed, 0)
		o.submit(jobPlain, "after the pause")
		o.outcome(7, runner.Done)

		if err := o.stop(); err != nil {
			o.Fatalf("stopped: %v", err)
		}
		for i := range 3 {
			o.submit(jobPlain, fmt.Sprint("while away ", i))
		}
		o.start()
		for call := range uint64(3) {
			o.outcome(8+call, runner.Done)
		}
		if o.reorg != nil {
			o.afterReorg()
		}
		o.finish()
	})
}

// afterReorg takes a call and its answer back. The next call has the same number.
func (o *operation) afterReorg() {
	o.submit(jobPlain, "taken back")
	o.outcome(11, runner.Done)
	reorgs := o.count(runner.EventReorg)
	o.reorg(2)
	o.submit(jobPlain, "another with its number")
	o.happens(runner.EventReorg, reorgs)
	o.until("the other job runs", func() bool { return o.runs["another with its number"] == 1 })
	for {
		if got := o.results()[11]; len(got) == 1 && got[0] == "re: another with its number" {
			return
		}
		select {
		case <-o.changed:
		case <-time.After(50 * time.Millisecond): // the result is seen on the chain, not told
		}
		if o.Context().Err() != nil {
			o.Fatal("the call after the reorganization has no result")
		}
	}
}

// finish ends the service, and looks whether everything is in order.
func (o *operation) finish() {
	o.terminate(0)
	select {
	case err := <-o.ended:
		if o.ended <- err; !errors.Is(err, runner.ErrServiceOver) {
			o.Errorf("%s: the runner ended with %v", o.name, err)
		}
	case <-time.After(time.Minute):
		o.Fatalf("%s: the runner did not end with its service", o.name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for inputs, n := range o.runs {
		if n != 1 {
			o.Errorf("%s: %q ran %d times", o.name, inputs, n)
		}
	}
	calls := []uint64{0, 1, 2, 4, 5, 7, 8, 9, 10}
	for call, results := range o.results() {
		if len(results) != 1 {
			o.Errorf("%s: call %d has results %q", o.name, call, results)
		}
		calls = slices.DeleteFunc(calls, func(c uint64) bool { return c == call })
	}
	if len(calls) > 0 {
		o.Errorf("%s: calls %v have no result", o.name, calls)
	}
	o.nonces()
}

// nonces looks for gaps and for transactions that were paid for nothing.
func (o *operation) nonces() {
	ctx := o.Context()
	latest, err := o.client.NonceAt(ctx, o.me(), nil)
	must(o.T, err)
	pending, err := o.client.PendingNonceAt(ctx, o.me())
	must(o.T, err)
	if latest != pending {
		o.Errorf("%s: nonce %d, pending %d", o.name, latest, pending)
	}
	head, err := o.client.BlockNumber(ctx)
	must(o.T, err)
	var blocks []map[string]any
	for number := range head + 1 {
		var block map[string]any
		must(o.T, o.client.Client().CallContext(ctx, &block, "eth_getBlockByNumber", fmt.Sprintf("0x%x", number), true))
		blocks = append(blocks, block)
	}
	for _, block := range blocks {
		for _, tx := range block["transactions"].([]any) {
			fields := tx.(map[string]any)
			if common.HexToAddress(fields["from"].(string)) != o.me() {
				continue
			}
			receipt, err := o.client.TransactionReceipt(ctx, common.HexToHash(fields["hash"].(string)))
			must(o.T, err)
			if receipt.Status != types.ReceiptStatusSuccessful {
				o.Errorf("%s: transaction %v was paid for nothing", o.name, receipt.TxHash)
			}
		}
	}
}
