package runner

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// watch runs a test in a bubble with a chain of some blocks.
func watch(t *testing.T, test func(t *testing.T, b *branch, s *basin)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBranch()
		test(t, b, newBasin(t, b))
	})
}

// begin runs a watcher until stop is called.
func begin(t *testing.T, w *watcher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the watcher ended with %v", err)
		}
	}
}

// settle is longer than anything a watcher waits for.
const settle = 3 * time.Minute

// TestEveryCallThatStandsIsOfferedOnce lets chains grow, fork and be served badly at random, with
// restarts in between.
func TestEveryCallThatStandsIsOfferedOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		watch(t, func(t *testing.T, b *branch, s *basin) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			confirmations := []uint64{0, 0, 1, 3}[seed%4]
			contrary := seed%5 == 4 // some nodes are on an old branch, of a few blocks
			b.perSecond = seed % 7
			s.room = 1 + rnd.IntN(20)
			luck := rand.New(rand.NewPCG(seed, 3)) // of nodes, which are asked under the chain's lock
			faults := someFaults(luck)
			faulty := func(method string, n uint64) fault {
				f := faults(method, n)
				f.old = contrary && luck.IntN(6) == 0
				return f
			}
			b.fault = faulty
			if seed%3 == 0 { // begin without a cursor, behind
				for range rnd.IntN(300) {
					b.mine(slices.Repeat([]string{"before"}, max(0, rnd.IntN(6)-3))...)
				}
			}
			w := s.watcher(confirmations)
			stop := begin(t, w)
			for range 60 {
				s.pass(time.Duration(rnd.IntN(1500)) * time.Millisecond)
				switch rnd.IntN(10) {
				case 0, 1, 2, 3:
					b.mine(slices.Repeat([]string{"x"}, rnd.IntN(4))...)
				case 4:
					for range rnd.IntN(40) {
						b.mine(slices.Repeat([]string{"y"}, max(0, rnd.IntN(4)-2))...)
					}
				case 5:
					depth := 1 + rnd.IntN(6)
					if rnd.IntN(8) == 0 && !contrary {
						depth = rnd.IntN(len(b.blocks) + 1)
					}
					var calls []int
					for range rnd.IntN(depth + 3) {
						calls = append(calls, max(0, rnd.IntN(4)-1))
					}
					b.reorg(depth, calls...)
				case 6, 7, 8:
					s.note(func() bool { return rnd.IntN(2) == 0 })
				case 9:
					stop()
					s.restart()
					w = s.watcher(confirmations)
					stop = begin(t, w)
				}
			}
			b.mu.Lock()
			b.fault = nil
			b.mu.Unlock()
			s.mu.Lock()
			s.room = 0
			s.mu.Unlock()
			s.note(func() bool { return true })
			// Of a call in a block above the head, nobody knows whether it was taken back.
			s.pass(settle)
			highest := max(uint64(len(b.blocks)), w.progress().Read)
			for _, c := range s.calls {
				highest = max(highest, c.number)
			}
			for uint64(len(b.blocks)) <= highest+confirmations {
				b.mine()
			}
			s.pass(settle)
			s.check(fmt.Sprint("seed ", seed))
			p := w.progress()
			if head := uint64(len(b.blocks) - 1); p.Head != head || p.Read != head-confirmations || p.Behind != 0 || !p.Ready {
				t.Errorf("seed %d: progress %+v at block %d", seed, p, head)
			}
			if len(w.lost) > 0 {
				t.Errorf("seed %d: lost %v", seed, w.lost)
			}
			s.note(func() bool { return true })
			s.pass(2 * cursorEvery)
			if c := s.trail[len(s.trail)-1]; c.Block != p.Read {
				t.Errorf("seed %d: the cursor is at %d of %d", seed, c.Block, p.Read)
			}
			stop()
			for _, id := range b.standing() {
				if !contrary && slices.Contains(s.gone, id) {
					t.Errorf("seed %d: call %d was taken back, and it stands", seed, id.Call)
				}
			}
		})
	}
}

// settled mines and waits until the watcher has caught up.
func settled(t *testing.T, w *watcher, b *branch) {
	t.Helper()
	w.sink.(*basin).pass(settle)
	if p := w.progress(); p.Behind != 0 || p.Read+w.confirmations != uint64(len(b.blocks)-1) {
		t.Fatalf("%+v at block %d", p, len(b.blocks)-1)
	}
}

func TestWorkIsWhatTheLogSays(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		defer begin(t, s.watcher(0))()
		s.pass(localPoll) // calls that are there at the start are found otherwise
		b.mine("one", "")
		// As the published ABI has it, and by quote.
		b.mine("", "")
		quoted := &b.blocks[2].logs[1]
		quoted.Topics[0] = chain.TopicJobSubmittedByQuote
		quoted.Data = slices.Concat(number(9), address(4), number(4*32+32), number(5), number(7*32), number(1), address(8),
			number(3), append([]byte("abc"), make([]byte, 29)...))
		published := &b.blocks[2].logs[0]
		published.Topics = append(published.Topics, chain.WordOf(6))
		published.Data = slices.Concat(address(4), number(64), number(2), append([]byte("hi"), make([]byte, 30)...))
		s.pass(settle)
		one, two := b.blocks[1], b.blocks[2]
		caller := chain.Address([]byte("a caller is 20 bytes"))
		for _, want := range []work{
			{id: journal.ID{Call: 0, Block: one.Hash, Log: 0}, number: 1, job: 0, caller: caller, inputs: []byte("one"),
				time: one.Time},
			{id: journal.ID{Call: 1, Block: one.Hash, Log: 2}, number: 1, job: 1, caller: caller, time: one.Time},
			{id: journal.ID{Call: 2, Block: two.Hash, Log: 0}, number: 2, job: 6, caller: chain.Address(address(4)[12:]),
				inputs: []byte("hi"), time: two.Time},
			{id: journal.ID{Call: 3, Block: two.Hash, Log: 2}, number: 2, job: 9, caller: chain.Address(address(4)[12:]),
				quoted: []chain.Address{chain.Address(address(8)[12:])}, inputs: []byte("abc"), time: two.Time},
		} {
			if diff := cmp.Diff(want, s.calls[want.id], cmp.AllowUnexported(work{})); diff != "" {
				t.Errorf("call %d (-want +got):\n%s", want.id.Call, diff)
			}
		}
	})
}

func number(n uint64) []byte { w := chain.WordOf(n); return w[:] }

func address(n byte) []byte { return append(make([]byte, 31), n) }

func TestAnEventOfTheServiceIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		topic   string
		service uint64
		looks   int
	}{
		{"3fd558a59bbce1d996d17eab7fde314bcd201ec3f17375a7f873b3162927e881", service, 1},
		{"177f493cbd61eeae5a0c02d976ea06b25f860b94279db11adec411729ecde57f", service, 1},
		{"8ce53e4b6002ff090e641ddecdaf7edd2813a98e19139fa7d1c79fccc3c4dead", service, 1},
		{"1b452fa17597c6f8d4de48220caf3ed727af7a64d556bbf3f963dc6319c7d1ac", service, 1},
		{"8ce53e4b6002ff090e641ddecdaf7edd2813a98e19139fa7d1c79fccc3c4dead", service + 1, 0},
	} {
		watch(t, func(t *testing.T, b *branch, s *basin) {
			defer begin(t, s.watcher(0))()
			s.pass(localPoll)
			topic, err := hex.DecodeString(tt.topic)
			if err != nil {
				t.Fatal(err)
			}
			b.event(chain.Word(topic), chain.WordOf(tt.service))
			s.pass(settle)
			if s.looks != tt.looks {
				t.Errorf("topic %s of service %d: %d looks", tt.topic[:8], tt.service, s.looks)
			}
		})
	}
}

func TestAHeadThatGoesBackIsNoReorg(t *testing.T) {
	t.Parallel()
	for _, confirmations := range []uint64{0, 3} {
		watch(t, func(t *testing.T, b *branch, s *basin) {
			for range 300 {
				b.mine("x")
			}
			w := s.watcher(confirmations)
			defer begin(t, w)()
			s.pass(settle)
			for _, lag := range []int{1, 5, 80, 200} { // also for long
				b.mu.Lock()
				b.fault = func(string, uint64) fault { return fault{lag: lag} }
				b.mu.Unlock()
				s.pass(settle)
			}
			b.mu.Lock()
			b.fault = nil
			b.mu.Unlock()
			b.mine("y")
			for range confirmations {
				b.mine()
			}
			settled(t, w, b)
			if len(s.gone) > 0 || len(s.told(EventReorg)) > 0 {
				t.Errorf("calls %v were taken back; told %v", s.gone, s.told(EventReorg))
			}
			s.check("after a lag")
		})
	}
}

func TestAReorgTakesCallsBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		confirmations uint64
		depth         int
		calls         []int
		gone          int
		told          int
	}{
		{"one block", 0, 1, []int{1, 1}, 1, 1},
		{"the same height", 0, 3, []int{0, 0, 1}, 3, 1},
		{"a shorter branch", 0, 5, []int{1, 1}, 5, 1},
		{"below the confirmations", 6, 5, []int{1, 1, 1, 1, 1, 1}, 0, 0},
		{"deeper than those", 3, 5, []int{1, 1, 1, 1, 1, 1}, 2, 1},
		{"deeper than what is remembered", 0, 290, slices.Repeat([]int{1}, 300), remembered + 1, 1},
		{"everything", 0, 400, slices.Repeat([]int{1}, 400), remembered + 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			watch(t, func(t *testing.T, b *branch, s *basin) {
				w := s.watcher(tt.confirmations)
				stop := begin(t, w)
				for range 300 {
					b.mine("x")
					s.pass(time.Second)
					s.note(func() bool { return true })
				}
				before := len(s.calls)
				b.reorg(tt.depth, tt.calls...)
				s.pass(settle)
				stop()
				if len(s.gone) != tt.gone || len(s.told(EventReorg)) != tt.told {
					t.Errorf("%d of %d calls were taken back; told %q", len(s.gone), before, s.told(EventReorg))
				}
				if tt.told > 0 && len(s.reopens) == 0 {
					t.Errorf("looked at results again after %v", s.reopens)
				}
				for _, id := range b.standing() {
					if s.offers[id] != 1 && s.chainHas(id) <= w.progress().Read {
						t.Errorf("call %d was offered %d times", id.Call, s.offers[id])
					}
				}
			})
		})
	}
}

func TestAShorterBranchIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		for range 100 {
			b.mine("x")
		}
		defer begin(t, s.watcher(0))()
		s.pass(time.Second) // the blocks were read in a window
		b.reorg(20, 1, 1)
		s.pass(2 * localPoll)
		if len(s.gone) != 20 {
			t.Errorf("%d calls were taken back", len(s.gone))
		}
	})
}

// chainHas returns the number of the block of a call that stands.
func (s *basin) chainHas(id journal.ID) uint64 {
	i := slices.IndexFunc(s.chain.blocks, func(b branchBlock) bool { return b.Hash == id.Block })
	return uint64(i)
}

func TestALostLogIsFound(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} { // another call comes after it
		watch(t, func(t *testing.T, b *branch, s *basin) {
			w := s.watcher(0)
			defer begin(t, w)()
			b.mine("first")
			s.pass(settle)
			b.mu.Lock()
			b.fault = func(string, uint64) fault { return fault{lose: true} }
			b.mu.Unlock()
			b.mine("lost", "lost too")
			s.pass(localPoll * 3 / 2)
			b.mu.Lock()
			b.fault = nil
			b.mu.Unlock()
			if after {
				b.mine("last")
			}
			settled(t, w, b)
			s.check("a lost log")
			if told := s.told(EventNodeTrouble); len(told) != 1 || !strings.Contains(told[0], "2 calls") {
				t.Errorf("told %q", told)
			}
		})
	}
}

func TestALogThatNoNodeHasIsGivenUp(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		w.poll = time.Minute
		defer begin(t, w)()
		s.pass(30 * time.Second)
		b.mine("lost")
		b.blocks[1].logs = nil
		s.pass(time.Hour)
		b.mine("next")
		s.pass(10 * time.Minute)
		if len(s.calls) != 1 || s.trail[len(s.trail)-1].Block != 0 {
			t.Errorf("%d calls, cursors %v", len(s.calls), s.trail)
		}
		before := b.requests
		s.pass(10 * time.Hour)
		if asked := b.requests - before; asked > 600+2*600/lostCheck+50 { // polls, and checks
			t.Errorf("%d requests in ten hours", asked)
		}
		s.note(func() bool { return true })
		s.pass(2 * givenUp)
		if told := s.told(EventNodeTrouble); len(told) != 2 || !strings.Contains(told[1], "given up") {
			t.Errorf("told %q", told)
		}
		if c := s.trail[len(s.trail)-1]; c.Block != 2 {
			t.Errorf("cursor %v", c)
		}
	})
}

func TestALogThatCannotBeReadIsLeftOut(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		defer begin(t, w)()
		s.pass(time.Second)
		b.mine("x", "y")
		b.blocks[1].logs[0].Data = []byte("no words")
		s.pass(settle)
		if told := s.told(EventNodeTrouble); !slices.Contains(told, "a log is left out") {
			t.Errorf("told %q", told)
		}
		if len(s.calls) != 1 || w.progress().Read != 1 {
			t.Errorf("%d calls, %+v", len(s.calls), w.progress())
		}
	})
}

func TestTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		stop := begin(t, w)
		down := func(d time.Duration) {
			b.mu.Lock()
			b.fault = func(string, uint64) fault { return fault{err: errNode} }
			b.mu.Unlock()
			before := b.requests
			s.pass(d)
			if asked := b.requests - before; d > time.Hour && asked > int(d/longestPause)+20 {
				t.Errorf("%d requests in %v", asked, d)
			}
			b.mu.Lock()
			b.fault = nil
			b.mu.Unlock()
			s.pass(settle)
		}
		s.pass(settle)
		down(localPoll) // nothing to speak of
		if told := s.told(EventNodeTrouble); len(told) > 0 {
			t.Errorf("told %q", told)
		}
		down(2 * time.Hour)
		if a, b := len(s.told(EventNodeTrouble)), len(s.told(EventNodeBack)); a != 1 || b != 1 {
			t.Errorf("told %d and %d times", a, b)
		}
		b.mine("x")
		settled(t, w, b)
		s.check("after the trouble")
		if w.progress().Errors == 0 {
			t.Error("no error was counted")
		}
		stop()
	})
}

func TestASinkThatIsFullHoldsTheWatcherUp(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		s.room = 2
		w := s.watcher(0)
		stop := begin(t, w)
		s.pass(settle)
		b.mine("a", "b", "c", "d")
		s.pass(settle)
		for range 20 {
			b.mine("e")
		}
		s.pass(settle)
		if p := w.progress(); p.Head != 21 || p.Read != 0 || p.Behind != 21 || len(s.calls) != 2 {
			t.Errorf("%+v with %d calls", p, len(s.calls))
		}
		if c := s.trail; len(c) > 0 && c[len(c)-1].Block > 0 {
			t.Errorf("cursors %v", c)
		}
		stop()
		s.restart()
		s.room = 0
		w = s.watcher(0)
		defer begin(t, w)()
		settled(t, w, b)
		s.check("after a restart")
	})
}

func TestTheHeadCostsFewRequests(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		for range 5000 {
			b.mine()
		}
		defer begin(t, s.watcher(0))()
		s.pass(settle)
		before := b.requests
		const polls = 400
		s.pass(localPoll / 2)
		for range polls {
			s.pass(localPoll)
			b.mine("x")
		}
		// The head and its logs, and now and then a check that no log is lost.
		if asked := b.requests - before; asked > polls*2+polls/lostCheck+10 {
			t.Errorf("%d requests in %d polls", asked, polls)
		}
		before = b.requests
		s.pass(polls * localPoll)
		if asked := b.requests - before; asked > polls+polls/lostCheck+10 {
			t.Errorf("%d requests in %d polls of an idle chain", asked, polls)
		}
	})
}

// TestOpenCallsAreFoundFromTheContract begins without a journal, far behind.
func TestOpenCallsAreFoundFromTheContract(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                 string
		blocks, every, calls int // every so many blocks has so many calls
		completed            float64
		requests             int
	}{
		{"none", 1000, 2000, 0, 0, 10},
		{"dense", 200, 2, 100, 0, 300},
		{"sparse", 100_000, 10, 1, 0, 400},
		{"most are completed", 100_000, 10, 1, 0.99, 600},
		{"all are completed", 100_000, 10, 1, 1, 120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			watch(t, func(t *testing.T, b *branch, s *basin) {
				rnd := rand.New(rand.NewPCG(1, 1))
				all := 0
				for i := range tt.blocks {
					n := 0
					if i%tt.every == 0 {
						n = tt.calls
					}
					for range n {
						b.completed[uint64(all)] = rnd.Float64() < tt.completed && i < tt.blocks-2*denseBlocks
						all++
					}
					b.mine(slices.Repeat([]string{"in"}, n)...)
				}
				w := s.watcher(0)
				defer begin(t, w)()
				s.pass(time.Second)
				if b.requests > tt.requests {
					t.Errorf("%d requests for %d calls", b.requests, all)
				}
				s.pass(settle)
				if !w.progress().Ready {
					t.Fatalf("%+v", w.progress())
				}
				for _, id := range b.standing() {
					if (s.offers[id] == 1) == b.completed[id.Call] {
						t.Fatalf("call %d, completed %v, was offered %d times", id.Call, b.completed[id.Call], s.offers[id])
					}
					if c := s.calls[id]; s.offers[id] == 1 && c.time != b.blocks[c.number].Time {
						t.Fatalf("call %d is of %d, not %d", id.Call, c.time, b.blocks[c.number].Time)
					}
				}
				s.note(func() bool { return true })
				s.pass(time.Minute)
				if c := s.trail; len(c) == 0 || c[len(c)-1].Block != uint64(len(b.blocks)-1) {
					t.Errorf("cursors %v", c)
				}
			})
		})
	}
}

func TestARestartReadsOnFromTheCursor(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		for range 500 {
			b.mine("before")
			for range 9 {
				b.mine()
			}
		}
		stop := begin(t, s.watcher(2))
		s.pass(settle)
		s.note(func() bool { return true })
		s.pass(settle)
		stop()
		s.restart()
		for range 6000 {
			b.mine()
		}
		b.mine("after")
		b.mine()
		b.mine()
		before := b.requests
		w := s.watcher(2)
		stop = begin(t, w)
		s.pass(time.Second)
		if asked := b.requests - before; asked > 60 {
			t.Errorf("%d requests", asked)
		}
		settled(t, w, b)
		s.check("after a restart")
		if len(s.calls) != 1 || !slices.Contains(s.reopens, 4999) {
			t.Errorf("%d calls, results looked at after %v", len(s.calls), s.reopens)
		}
		stop()
	})
}

func TestWindowsFitWhatIsInThem(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		defer begin(t, s.watcher(12))()
		s.pass(settle)
		b.mu.Lock()
		widths := map[uint64]bool{}
		b.tooLarge = 10
		b.mu.Unlock()
		for range 3000 {
			b.mine("x")
		}
		s.pass(settle)
		b.mu.Lock()
		defer b.mu.Unlock()
		if n := len(s.calls); n != 3000-12 {
			t.Errorf("%d calls, widths %v", n, widths)
		}
	})
}

func TestTheWatchersMemoryIsBounded(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		stop := begin(t, w)
		s.pass(settle)
		for i := range 2000 {
			b.mine("x")
			if i%200 == 0 {
				s.pass(5 * time.Second)
				s.note(func() bool { return true })
			}
		}
		settled(t, w, b)
		s.note(func() bool { return true })
		s.pass(settle)
		b.mine()
		s.pass(settle)
		stop()
		if len(w.points) > 2*remembered || len(w.offered) > 2*remembered || len(w.known) != len(w.offered) {
			t.Errorf("%d points, %d and %d calls", len(w.points), len(w.offered), len(w.known))
		}
	})
}

func TestAJournalThatFailsIsTold(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		defer begin(t, w)()
		s.fail = errors.New("disk full")
		for range 5 {
			b.mine("x")
			s.pass(settle)
			s.note(func() bool { return true })
		}
		if told := s.told(EventWaiting); len(told) != 1 {
			t.Errorf("told %q", told)
		}
		s.fail = nil
		b.mine("x")
		s.note(func() bool { return true })
		settled(t, w, b)
		if c := s.trail; len(c) == 0 || c[len(c)-1].Block < 5 {
			t.Errorf("cursors %v", c)
		}
	})
}

func TestStandsAndInputsOf(t *testing.T) {
	t.Parallel()
	watch(t, func(t *testing.T, b *branch, s *basin) {
		w := s.watcher(0)
		stop := begin(t, w)
		s.pass(settle)
		b.mine("first", "second")
		s.pass(settle)
		ids := b.standing()
		before := b.requests
		if ok, err := w.stands(t.Context(), ids[1], 1); !ok || err != nil {
			t.Error(ok, err)
		}
		if b.requests != before {
			t.Error("a node was asked for what was just seen")
		}
		stop()
		s.pass(settle)
		if ok, err := w.stands(t.Context(), ids[1], 1); !ok || err != nil || b.requests == before {
			t.Errorf("%v, %v after %d requests", ok, err, b.requests-before)
		}
		got, err := w.inputsOf(t.Context(), ids[1], 1)
		want := s.calls[ids[1]]
		want.time = 0
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(work{})); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		other := ids[1]
		other.Call = 0
		if got, err := w.inputsOf(t.Context(), other, 1); err == nil {
			t.Errorf("the wrong call has %+v", got)
		}
		b.mu.Lock()
		b.fault = func(string, uint64) fault { return fault{lose: true} }
		b.mu.Unlock()
		if _, err := w.inputsOf(t.Context(), ids[1], 1); err == nil || !strings.Contains(err.Error(), "left out") {
			t.Error(err)
		}
		b.mu.Lock()
		b.fault = nil
		b.mu.Unlock()
		b.reorg(1)
		if ok, err := w.stands(t.Context(), ids[1], 1); ok || !errors.Is(err, chain.ErrNoBlock) {
			t.Errorf("%v, %v of a block that is not there yet", ok, err)
		}
		b.mine()
		if ok, err := w.stands(t.Context(), ids[1], 1); ok || err != nil {
			t.Errorf("%v, %v of a block that was replaced", ok, err)
		}
		if _, err := w.inputsOf(t.Context(), ids[1], 1); !errors.Is(err, chain.ErrNoBlock) {
			t.Error(err)
		}
	})
}

func TestPollOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		chain uint64
		set   time.Duration
		want  time.Duration
	}{{31337, 0, localPoll}, {1337, 0, localPoll}, {84532, 0, defaultPoll}, {84532, time.Second, time.Second},
		{1337, time.Hour, time.Hour}} {
		if got := pollOf(&options{poll: tt.set}, tt.chain); got != tt.want {
			t.Errorf("chain %d, set to %v: %v", tt.chain, tt.set, got)
		}
	}
}
