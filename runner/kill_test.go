package runner_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// runsEnv names the file to which a blueprint's handlers append what they run. It makes the test
// binary a blueprint. depthEnv is its number of confirmations.
const (
	runsEnv  = "RUNNER_TEST_RUNS"
	depthEnv = "RUNNER_TEST_DEPTH"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(runsEnv); path != "" {
		blueprint(path)
	}
	os.Exit(m.Run())
}

// The jobs of the blueprint.
const (
	repeatedJob = 0
	onceJob     = 1
)

// blueprint is a program as an author writes it, but that it keeps a list of its runs.
func blueprint(path string) {
	depth, err := strconv.ParseUint(os.Getenv(depthEnv), 10, 64)
	if err != nil {
		panic(err)
	}
	runs, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	h := func(ctx context.Context, args []byte) ([]byte, error) {
		c, _ := runner.CallOf(ctx)
		if _, err := fmt.Fprintf(runs, "%d %x\n", c.ID, c.BlockHash); err != nil { // in one write
			return nil, err
		}
		select {
		case <-time.After(rand.N(100 * time.Millisecond)):
			return answer(ctx, args)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	runner.Main(job.Handlers{repeatedJob: h, onceJob: h}, runner.WithPoll(50*time.Millisecond),
		runner.WithGrace(time.Second),
		runner.WithConfirmations(depth), runner.WithJob(onceJob, runner.JobOptions{Repeat: runner.Once}))
}

// process is a blueprint's runner as the ecosystem's manager starts it.
func process(t *testing.T, dir string, depth int, urls ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "run", "--test-mode")
	cmd.Env = append(os.Environ(), runsEnv+"="+filepath.Join(dir, "runs"), fmt.Sprint(depthEnv, "=", depth),
		"HTTP_RPC_URL="+strings.Join(urls, ","),
		"KEYSTORE_URI="+filepath.Join(dir, "key"), "DATA_DIR="+filepath.Join(dir, "data"), "BLUEPRINT_ID=0", "SERVICE_ID=0",
		"PROTOCOL=tangle", "TANGLE_CONTRACT="+devchain.Contract.String(), "BLUEPRINT_HEALTH_ADDR=off")
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// place identifies a call as a handler sees it.
type place struct {
	call  uint64
	block chain.Word
}

// TestKills kills a runner at random moments, with 200 calls in flight, while the chain reorganizes
// and its nodes fail. RUNNER_KILLS says how often; the default is a fraction of what is done before
// a release.
func TestKills(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{0, deepest} {
		t.Run(fmt.Sprint("with ", depth, " confirmations"), func(t *testing.T) {
			t.Parallel()
			testKills(t, depth)
		})
	}
}

// deepest is how many blocks the chain replaces at most.
const deepest = 6

func testKills(t *testing.T, depth int) {
	kills := 10
	if n, err := strconv.Atoi(os.Getenv("RUNNER_KILLS")); err == nil {
		kills = n
	}
	const inFlight = 200
	dir := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "key"), []byte(hex.EncodeToString(devchain.Key(operator))), 0o600),
		os.Mkdir(filepath.Join(dir, "data"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := devchain.New(devchain.Config{Every: 100 * time.Millisecond})
	t.Cleanup(c.Close)
	good, flaky := c.Node(), c.GethNode()
	good.Set(func(f *devchain.Faults) { f.Random, f.Seed = 0.01, 1 })
	flaky.Set(func(f *devchain.Faults) { f.Random, f.Seed = 0.2, 2 })
	urls := []string{listen(t, flaky), listen(t, good)}

	// Calls come all the time.
	ctx, cancel := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	defer calling.Wait()
	defer cancel()
	var chainMu sync.Mutex // a reorg between a call's nonce and its transaction would lose the call
	submitted := 0
	inputs := map[uint64][]string{} // of all calls that had a number
	calling.Go(func() {
		for ctx.Err() == nil {
			if all, done := c.Calls(0); all-done < inFlight {
				chainMu.Lock()
				id := uint8(repeatedJob)
				if submitted++; submitted%10 == 0 {
					id = onceJob
				}
				input := fmt.Sprintf("job %d, input %d", id, submitted)
				call, err := c.Submit(0, id, []byte(input))
				inputs[call] = append(inputs[call], input)
				chainMu.Unlock()
				if err == nil {
					continue
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})

	answered := map[place]int{} // how many runs there had been when the journal had the answer
	look := func() (records []journal.Record) {
		t.Helper()
		all, err := journal.Read(filepath.Join(dir, "data"))
		if err != nil {
			t.Fatalf("the journal after a kill: %v", err)
		}
		runs := readRuns(t, dir) // afterwards: the runner may be alive
		for _, s := range all {
			records = append(records, s.Records...)
		}
		for _, r := range records {
			p := place{r.ID.Call, r.ID.Block}
			_, seen := answered[p]
			if r.Phase >= journal.Answered && r.Outcome != string(runner.Interrupted) && !seen {
				answered[p] = runs[p]
			}
		}
		return records
	}
	reorgs := 0
	reorg := func() {
		chainMu.Lock()
		defer chainMu.Unlock()
		reorgs++
		lost := false // with one call, all that follow, since their nonces do
		c.Reorg(1+rand.IntN(deepest), func(tx devchain.Transaction) bool {
			if tx.From == devchain.Account(operator) {
				return rand.IntN(3) > 0
			}
			lost = lost || rand.IntN(20) == 0
			return !lost
		})
	}
	for range kills {
		child := process(t, dir, depth, urls...)
		moment := time.After(rand.N(1200 * time.Millisecond))
		for alive := true; alive; {
			select {
			case <-moment:
				alive = false
			case <-time.After(rand.N(400 * time.Millisecond)):
				reorg()
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		look()
		if rand.IntN(2) == 0 {
			reorg()
		}
	}
	cancel()
	calling.Wait()

	// The last one finishes the work.
	good.Set(func(f *devchain.Faults) { f.Random = 0 })
	child := process(t, dir, depth, urls...)
	interrupted := map[place]bool{}
	deadline := time.Now().Add(2 * time.Minute)
	for settled := 0; settled < 3; {
		time.Sleep(200 * time.Millisecond)
		open := 0
		clear(interrupted)
		for _, r := range look() {
			if r.Outcome == string(runner.Interrupted) {
				interrupted[place{r.ID.Call, r.ID.Block}] = true
			}
			if r.Phase != journal.Finished {
				open++
			}
		}
		all, done := c.Calls(0)
		latest, pending := c.Nonce(devchain.Account(operator))
		if settled++; open > 0 || int(all-done) > len(interrupted) || latest != pending {
			settled = 0
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d calls are not completed, %d interrupted; %d records are not finished; nonce %d, and %d with the "+
				"pool of %d", all-done, all, len(interrupted), open, latest, pending, pooled(c))
			break
		}
	}
	if err := child.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the last runner: %v", err)
	}

	records := map[place]journal.Record{}
	for _, r := range look() {
		records[place{r.ID.Call, r.ID.Block}] = r
	}
	results := c.AllResults(0)
	calls := readCalls(t, urls[1])
	given := 0
	for p, s := range calls {
		r, ok := records[p]
		got := results[p.call]
		switch {
		case interrupted[p]:
			given++
			if s.Job != onceJob || len(got) != 0 {
				t.Errorf("call %d of job %d is interrupted, with %d results", p.call, s.Job, len(got))
			}
		case len(got) != 1 || got[0].Operator != devchain.Account(operator):
			t.Errorf("call %d with %q has the results %+v; the journal has %+v", p.call, s.Inputs, got, r)
		case depth == 0 && slices.Contains(inputs[p.call], strings.TrimPrefix(string(got[0].Output), "re: ")):
			// What confirmations are for: the answer was in the pool when the call became another one.
		case string(got[0].Output) != "re: "+string(s.Inputs):
			t.Errorf("call %d with %q has the result %q; the journal has %+v", p.call, s.Inputs, got[0].Output, r)
		case ok && r.Outcome != string(runner.Done):
			t.Errorf("call %d is answered, and the journal says %+v", p.call, r)
		}
	}
	runs := readRuns(t, dir)
	for p, before := range answered {
		if runs[p] > before {
			t.Errorf("call %d ran %d times after the journal had its answer", p.call, runs[p]-before)
		}
	}
	failed, mined := 0, c.Mined(devchain.Account(operator))
	for _, tx := range mined {
		if !tx.Succeeded {
			failed++
		}
	}
	latest, _ := c.Nonce(devchain.Account(operator))
	if pool := pooled(c); int(latest) != len(mined) || pool != 0 {
		t.Errorf("nonce %d after %d transactions, and %d in the pool", latest, len(mined), pool)
	}
	t.Logf("%d kills, %d reorgs; %d calls, %d of them interrupted; %d runs; %d transactions, %d of them failed", kills,
		reorgs,
		len(calls), given, len(runs), len(mined), failed)
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Logf("the end of the log:\n%s", log[max(0, len(log)-4000):])
	}
}

// pooled returns how many of the operator's transactions wait.
func pooled(c *devchain.Chain) (n int) {
	for _, tx := range c.Pooled() {
		if tx.From == devchain.Account(operator) {
			n++
		}
	}
	return n
}

// readRuns returns how often each call was run.
func readRuns(t *testing.T, dir string) map[place]int {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the first may have been killed early
		t.Fatal(err)
	}
	runs := map[place]int{}
	for line := range strings.Lines(string(list)) {
		var p place
		var block []byte
		if _, err := fmt.Sscanf(line, "%d %x", &p.call, &block); err != nil {
			t.Fatalf("the list of runs has %q: %v", line, err)
		}
		p.block = chain.Word(block)
		runs[p]++
	}
	return runs
}

// readCalls returns the calls that stand on the chain.
func readCalls(t *testing.T, url string) map[place]chain.Submitted {
	t.Helper()
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{url}, Contract: &devchain.Contract})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head, err := c.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	logs, err := c.Logs(t.Context(), chain.LogQuery{Topics: [][]chain.Word{{chain.TopicJobSubmitted}}}, 0, head.Number,
		chain.Word{})
	if err != nil {
		t.Fatal(err)
	}
	calls := map[place]chain.Submitted{}
	for _, l := range logs {
		s, err := chain.ParseSubmitted(l)
		if err != nil {
			t.Fatal(err)
		}
		calls[place{s.Call, l.BlockHash}] = s
	}
	return calls
}
