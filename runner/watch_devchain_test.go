package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// TestAWatcherOnNodesThatFail watches a chain with reorgs through two nodes: one is behind and
// hides the logs of the last blocks, the other fails at random. It restarts from what is on disk.
func TestAWatcherOnNodesThatFail(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{Manual: true})
	t.Cleanup(c.Close)
	slow, random, good := c.Node(), c.GethNode(), c.Node()
	var urls []string
	for _, n := range []*devchain.Node{slow, random, good} {
		url, err := n.Listen()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Stop)
		urls = append(urls, url)
	}
	open := func(urls ...string) *chain.Chain {
		ch, err := chain.Open(t.Context(), chain.Config{URLs: urls, Contract: new(devchain.Contract), Timeout: time.Second,
			MaxLogRange: 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ch.Close)
		return ch
	}
	watched, truth := open(urls[:2]...), open(urls[2])
	// standing returns the calls that stand, by identity.
	standing := func() map[journal.ID]string {
		head, err := truth.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		logs, err := truth.Logs(t.Context(), chain.LogQuery{Topics: [][]chain.Word{topicsOfCalls}}, 0, head.Number, head.Hash)
		if err != nil {
			t.Fatal(err)
		}
		calls := map[journal.ID]string{}
		for _, l := range logs {
			s, err := chain.ParseSubmitted(l)
			if err != nil {
				t.Fatal(err)
			}
			if s.Service == 0 {
				calls[journal.ID{Call: s.Call, Block: l.BlockHash, Log: l.Index}] = string(s.Inputs)
			}
		}
		return calls
	}

	other := c.AddService(devchain.Service{})
	rnd := rand.New(rand.NewPCG(3, 3))
	dir := t.TempDir()
	s := newBasin(t, newBranch())
	var j *journal.Journal
	var w *watcher
	begin := func() (stop func()) {
		var err error
		if j, err = journal.Open(dir, journal.Key{}); err != nil {
			t.Fatal(err)
		}
		w = &watcher{chain: watched, journal: j, sink: s, poll: 10 * time.Millisecond, tell: s.tell, life: s}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.run(ctx) }()
		return func() {
			cancel()
			<-done
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	stop := begin()
	for i := range 60 {
		for range rnd.IntN(4) {
			var err error
			switch inputs := fmt.Appendf(nil, "inputs %d", i); rnd.IntN(4) {
			case 0:
				_, err = c.SubmitQuoted(0, 1, inputs, 5, devchain.Account(1))
			case 1:
				_, err = c.Submit(other, 0, inputs)
			default:
				_, err = c.Submit(0, 0, inputs)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c.Mine(1 + rnd.IntN(3))
		for head, _ := c.Head(); w.progress().Read+4 < head && t.Context().Err() == nil; head, _ = c.Head() {
			<-time.After(w.poll) // so that the reorgs take back what was read
		}
		switch rnd.IntN(8) {
		case 0:
			c.Reorg(1+rnd.IntN(6), func(devchain.Transaction) bool { return rnd.IntN(4) > 0 })
			c.Mine(1)
		case 1, 2:
			s.note(func() bool { return true })
		case 3:
			stop()
			s.restart()
			stop = begin()
		}
		slow.Set(func(f *devchain.Faults) { f.Lag, f.LogLag = uint64(rnd.IntN(4)), uint64(rnd.IntN(3)) })
		random.Set(func(f *devchain.Faults) { f.Random = 0.1 })
	}
	for _, n := range []*devchain.Node{slow, random} {
		n.Set(func(f *devchain.Faults) { *f = devchain.Faults{} })
	}
	c.Mine(1)
	want := standing()
	deadline := time.Now().Add(time.Minute)
	same := func() (missing, dead int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id, inputs := range want {
			if got, ok := s.calls[id]; !s.earlier[id] && (!ok || string(got.inputs) != inputs) {
				missing++
			}
		}
		for id := range s.calls {
			if _, ok := want[id]; !ok {
				dead++
			}
		}
		return missing, dead
	}
	missing, dead := same()
	for ; missing+dead > 0 && time.Now().Before(deadline); missing, dead = same() {
		<-time.After(w.poll)
	}
	stop()
	if missing+dead > 0 {
		t.Errorf("%d of %d calls are missing, and %d do not stand; told %+v", missing, len(want), dead, s.events)
	}
	if len(want) < 40 || len(s.told(EventReorg)) == 0 {
		t.Errorf("%d calls, and told of %q", len(want), s.told(EventReorg))
	}
}
