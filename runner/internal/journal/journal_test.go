package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

var testKey = Key{ChainID: 31337, Contract: tangle.Address{1}, Service: 7, Operator: tangle.Address{2}}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, testKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func reopen(t *testing.T, j *Journal) *Journal {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, filepath.Dir(j.path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func id(call uint64) ID {
	return ID{Call: call, Block: tangle.Word{byte(call), byte(call >> 8), 9}, Log: 3}
}

func TestARestartKnowsAll(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	r := Record{ID: id(1), Number: 5, Job: 2, Phase: Started, Runs: 1, At: time.Unix(1e9, 5).UTC()}
	must(t, j.Put(r))
	r.Phase, r.Output = Answered, []byte("an output\n= with \x00 all")
	must(t, j.Put(r))
	r.Phase, r.Output, r.Tx, r.Reason, r.Outcome, r.ResultBlock = Sent, nil, tangle.Word{4}, "waits\nfor [gas]", "none", 8
	must(t, j.Put(r))
	must(t, j.Put(Record{ID: id(2), Number: 6, Phase: Answered}))
	must(t, j.Put(Record{ID: id(3), Number: 6, Phase: Started}))
	must(t, j.Forget(id(3)))
	must(t, j.SetCursor(Cursor{4, tangle.Word{4}}))
	must(t, j.SetCursor(Cursor{5, tangle.Word{5}}))
	tx := Tx{Nonce: 9, Raw: [][]byte{{1, 2}, {3}}, Hashes: []tangle.Word{{1}, {2}}, Label: "result of call 1"}
	must(t, j.PutTx(Tx{Nonce: 9, Label: "old"}))
	must(t, j.PutTx(tx))
	must(t, j.PutTx(Tx{Nonce: 8}))
	must(t, j.DropTx(8))
	for range 2 {
		got, ok := j.Get(id(1))
		if diff := cmp.Diff(r, got); !ok || diff != "" {
			t.Errorf("the record differs (-put +got):\n%s", diff)
		}
		out, err := j.Output(id(1))
		if err != nil || string(out) != "an output\n= with \x00 all" {
			t.Errorf("output %q, %v", out, err)
		}
		if out, err := j.Output(id(2)); err != nil || len(out) != 0 {
			t.Errorf("the answer that is nothing: %q, %v", out, err)
		}
		if _, ok := j.Get(id(3)); ok || len(j.Calls(3)) > 0 {
			t.Error("a forgotten call is there")
		}
		if _, err := j.Output(id(3)); err == nil {
			t.Error("a forgotten call has an output")
		}
		if got, want := j.Cursors(), []Cursor{{5, tangle.Word{5}}, {4, tangle.Word{4}}}; !slices.Equal(got, want) {
			t.Errorf("cursors %v", got)
		}
		if diff := cmp.Diff([]Tx{tx}, j.Txs()); diff != "" {
			t.Errorf("transactions (-put +got):\n%s", diff)
		}
		j = reopen(t, j)
	}
}

func TestPutReplacesInWhateverPhase(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	must(t, j.Put(Record{ID: id(1), Phase: Answered, Output: []byte("x")}))
	must(t, j.Put(Record{ID: id(1), Phase: Finished, Outcome: "done"}))
	must(t, j.Put(Record{ID: id(1), Phase: Answered}))
	if out, err := j.Output(id(1)); err != nil || string(out) != "x" {
		t.Errorf("a call that is open again has the output %q, %v", out, err)
	}
	must(t, j.Put(Record{ID: id(1), Phase: Started}))
	if out, err := j.Output(id(1)); err == nil {
		t.Errorf("a call that is run again has the output %q", out)
	}
	if err := j.Put(Record{ID: id(1)}); err == nil {
		t.Error("a record without a phase is taken")
	}
	if err := j.Put(Record{ID: id(1), Phase: Answered, Output: make([]byte, MaxOutput+1)}); err == nil {
		t.Error("an output above the limit is taken")
	}
	must(t, j.Put(Record{ID: id(1), Phase: Answered, Output: make([]byte, MaxOutput)}))
	if out, err := reopen(t, j).Output(id(1)); err != nil || len(out) != MaxOutput {
		t.Errorf("the largest output: %d bytes, %v", len(out), err)
	}
}

func TestOneNumberMayBeTwoCalls(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	a, b := ID{Call: 4, Block: tangle.Word{1}}, ID{Call: 4, Block: tangle.Word{2}}
	must(t, j.Put(Record{ID: a, Number: 9, Phase: Answered, Output: []byte("a")}))
	must(t, j.Put(Record{ID: b, Number: 8, Phase: Started}))
	if got := j.Calls(4); len(got) != 2 || got[0].ID != b {
		t.Errorf("calls %v", got)
	}
	if got := slices.Collect(j.Unfinished()); len(got) != 2 || got[0].ID != b {
		t.Errorf("not by place in the chain: %v", got)
	}
	must(t, j.Forget(a))
	if got := j.Calls(4); len(got) != 1 || got[0].ID != b {
		t.Errorf("calls %v", got)
	}
}

// TestAnythingThenARestart compares a journal with a map, through changes, restarts and
// compactions.
func TestAnythingThenARestart(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		j := open(t, t.TempDir())
		type call struct {
			Record
			out []byte
			has bool
		}
		want, txs, cursor := map[ID]call{}, map[uint64]Tx{}, Cursor{}
		for range 300 {
			switch i := id(rnd.Uint64N(20)); rnd.IntN(8) {
			case 0, 1, 2:
				c := want[i]
				c.Record = Record{ID: i, Number: 10000, Phase: Phase(rnd.IntN(4) + 1), Runs: rnd.IntN(9),
					At: time.Unix(rnd.Int64N(1e9), 0).UTC()}
				r := c.Record
				switch {
				case rnd.IntN(3) == 0:
					r.Output = bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(3000))
					c.out, c.has = r.Output, true
				case r.Phase == Started:
					c.out, c.has = nil, false
				case r.Phase == Answered && !c.has:
					c.out, c.has = nil, true
				}
				must(t, j.Put(r))
				want[i] = c
			case 3:
				must(t, j.Forget(i))
				delete(want, i)
			case 4:
				cursor = Cursor{rnd.Uint64N(1000), tangle.Word{byte(rnd.IntN(200))}}
				must(t, j.SetCursor(cursor))
			case 5:
				n := rnd.Uint64N(5)
				txs[n] = Tx{Nonce: n, Raw: [][]byte{{byte(rnd.IntN(9))}}, Hashes: []tangle.Word{{byte(n)}}}
				must(t, j.PutTx(txs[n]))
			case 6:
				n := rnd.Uint64N(5)
				delete(txs, n)
				must(t, j.DropTx(n))
			case 7:
				if rnd.IntN(4) == 0 {
					j = reopen(t, j)
				} else {
					j.disk.Lock()
					must(t, j.compact())
					j.disk.Unlock()
				}
			}
		}
		for range 2 {
			records := map[ID]Record{}
			for r := range j.Records() {
				records[r.ID] = r
			}
			for i, c := range want {
				if diff := cmp.Diff(c.Record, records[i]); diff != "" {
					t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
				}
				if out, err := j.Output(i); err == nil != c.has || !bytes.Equal(out, c.out) {
					t.Fatalf("seed %d: output of %d bytes for %d, %v", seed, len(out), len(c.out), err)
				}
			}
			if c, _ := j.Cursor(); len(records) != len(want) || c != cursor {
				t.Fatalf("seed %d: %d records for %d, cursor %v for %v", seed, len(records), len(want), c, cursor)
			}
			if diff := cmp.Diff(slices.SortedFunc(maps.Values(txs), func(a, b Tx) int { return int(a.Nonce) - int(b.Nonce) }),
				j.Txs()); len(txs) > 0 && diff != "" {
				t.Fatalf("seed %d: transactions (-want +got):\n%s", seed, diff)
			}
			if got := measured(j); got != j.state.live {
				t.Fatalf("seed %d: %d bytes count, and the journal believes %d", seed, got, j.state.live)
			}
			j = reopen(t, j)
		}
	}
}

// measured adds up what the state's lines take.
func measured(j *Journal) (n int64) {
	for _, k := range j.state.calls {
		n += k.bytes()
	}
	for _, t := range j.state.txs {
		n += t.size
	}
	return n
}

func TestATornEndIsDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	must(t, j.Put(Record{ID: id(1), Phase: Started}))
	whole := j.size
	must(t, j.Put(Record{ID: id(2), Phase: Answered, Output: []byte("output")}))
	must(t, j.Close())
	data, err := os.ReadFile(j.path)
	must(t, err)
	for cut := whole; cut < int64(len(data)); cut++ {
		for _, tail := range []string{"", "\x00\x00", "\n\nrubbish\n", strings.Repeat("rubbish ", 200)} {
			if cut == int64(len(data))-1 && tail != "" && tail[0] == '\n' {
				continue // whole again
			}
			torn := append(bytes.Clone(data[:cut]), tail...)
			must(t, os.WriteFile(j.path, torn, 0o600))
			snapshots, err := Read(dir)
			if err != nil || len(snapshots) != 1 || len(snapshots[0].Records) != 1 {
				t.Fatalf("cut at %d: read %v, %v", cut, snapshots, err)
			}
			again, err := Open(dir, testKey)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if _, ok := again.Get(id(1)); !ok || len(again.state.calls) != 1 {
				t.Errorf("cut at %d: the first call is lost", cut)
			}
			if info, err := os.Stat(again.path); err != nil || info.Size() != whole {
				t.Errorf("cut at %d: the file is %v, not %d bytes; %v", cut, info.Size(), whole, err)
			}
			must(t, again.Put(Record{ID: id(3), Phase: Started}))
			must(t, again.Close())
			if s, err := Read(dir); err != nil || len(s[0].Records) != 2 {
				t.Fatalf("cut at %d, then a put: %v, %v", cut, s, err)
			}
		}
	}
}

func TestADamagedFileIsNamedAndKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	must(t, j.Put(Record{ID: id(1), Phase: Answered, Output: []byte("x")}))
	last := j.size
	must(t, j.Put(Record{ID: id(2), Phase: Started}))
	must(t, j.Close())
	data, err := os.ReadFile(j.path)
	must(t, err)
	check := func(what string, broken []byte) {
		t.Helper()
		must(t, os.WriteFile(j.path, broken, 0o600))
		_, err := Open(dir, testKey)
		if err == nil || !strings.Contains(err.Error(), j.path) {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := Read(dir); err == nil {
			t.Errorf("%s: a reader does not see it", what)
		}
		if now, err := os.ReadFile(j.path); err != nil || !bytes.Equal(now, broken) {
			t.Errorf("%s: the file was changed: %v", what, err)
		}
	}
	for at := range last - 1 { // without the line's end, the last two lines are one that is torn
		broken := bytes.Clone(data)
		broken[at] ^= 1
		check(fmt.Sprintf("byte %d", at), broken)
	}
	lines := bytes.SplitAfter(data, []byte{'\n'})
	check("a line is lost", slices.Concat(lines[0], lines[2]))
	check("a line is twice", slices.Concat(lines[0], lines[1], lines[1]))
	check("it is empty", nil)
	check("no header", []byte("rubbish"))
	check("another format", seal(0, []byte(`{"format":2}`)))
	check("an entry of another version", append(bytes.Clone(lines[0]), seal(1, []byte(`[{"news":{}}]`))...))
	other := testKey
	other.Service++
	must(t, os.WriteFile(j.path, seal(0, headerOf(other)), 0o600))
	if _, err := Open(dir, testKey); err == nil || !strings.Contains(err.Error(), j.path) {
		t.Errorf("another key: %v", err)
	}
}

func TestASecondRunnerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	if _, err := Open(dir, testKey); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	other := testKey
	other.Service++
	k, err := Open(dir, other)
	must(t, err)
	must(t, k.Put(Record{ID: id(5), Phase: Started}))
	s, err := Read(dir)
	if err != nil || len(s) != 2 || s[0].Key != testKey || s[1].Key != other || len(s[1].Records) != 1 {
		t.Errorf("a reader sees %v, %v", s, err)
	}
	must(t, k.Close())
	reopen(t, j)
	if runtime.GOOS != "windows" {
		info, err := os.Stat(j.path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
	}
}

func TestAClosedJournalTakesNothing(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	must(t, j.Put(Record{ID: id(1), Phase: Answered}))
	must(t, j.Close())
	must(t, j.Close())
	if err := j.Put(Record{ID: id(1), Phase: Started}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := j.Output(id(1)); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := j.SetCursor(Cursor{}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// faulty is a file that fails as a test says, and knows what would survive a loss of power.
type faulty struct {
	file
	write, sync, truncate error
	syncs                 atomic.Int32
	hold                  func() // called in Sync
	written, durable      atomic.Int64
}

func (f *faulty) WriteAt(b []byte, at int64) (int, error) {
	if f.write != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], at)
		return n, f.write
	}
	f.written.Store(at + int64(len(b)))
	return f.file.WriteAt(b, at)
}

func (f *faulty) Sync() error {
	f.syncs.Add(1)
	if f.hold != nil {
		f.hold()
	}
	if f.sync != nil {
		return f.sync
	}
	f.durable.Store(f.written.Load())
	return f.file.Sync()
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.file.Truncate(size)
}

func TestPutsShareASync(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	f := &faulty{file: j.file}
	j.file = f
	const others = 50
	var once sync.Once
	var wg sync.WaitGroup
	f.hold = func() {
		once.Do(func() {
			for n := range uint64(others) {
				wg.Go(func() {
					if err := j.Put(Record{ID: id(n + 1), Phase: Started}); err != nil {
						t.Error(err)
					}
				})
			}
			for {
				j.mu.Lock()
				waiting := j.batch != nil && len(j.batch.items) == others
				j.mu.Unlock()
				if waiting {
					return
				}
				runtime.Gosched()
			}
		})
	}
	must(t, j.Put(Record{ID: id(0), Phase: Started}))
	if f.durable.Load() == 0 {
		t.Error("a put returned before its line was on disk")
	}
	wg.Wait()
	if n := f.syncs.Load(); n != 2 {
		t.Errorf("%d syncs", n)
	}
	if n := len(slices.Collect(reopen(t, j).Records())); n != others+1 {
		t.Errorf("%d records", n)
	}
}

func TestAPutThatFailsDidNotHappen(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, tt := range []struct {
		name                  string
		write, sync, truncate error
		after                 bool // the journal can be used afterwards
	}{
		{"write", full, nil, nil, true},
		{"sync", nil, full, nil, false},
		{"write, and it stays", full, nil, errors.New("i/o error"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := open(t, t.TempDir())
			must(t, j.Put(Record{ID: id(1), Phase: Started}))
			whole := j.file
			f := &faulty{file: whole, write: tt.write, sync: tt.sync, truncate: tt.truncate}
			j.file = f
			r := Record{ID: id(1), Phase: Answered, Output: []byte("x")}
			if err := j.Put(r); !errors.Is(err, full) {
				t.Fatal(err)
			}
			if got, _ := j.Get(id(1)); got.Phase != Started {
				t.Errorf("phase %d", got.Phase)
			}
			f.write, f.sync, f.truncate = nil, nil, nil
			if err := j.Put(r); err == nil != tt.after {
				t.Errorf("afterwards: %v", err)
			}
			want := Started
			if tt.after {
				want = Answered
			}
			j.file = whole
			if got, _ := reopen(t, j).Get(id(1)); got.Phase != want && tt.sync == nil {
				t.Errorf("after a restart: phase %d", got.Phase)
			}
		})
	}
}

func TestFinishedRecordsStayForAWhile(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	now := time.Now()
	const n = 3000
	var wg sync.WaitGroup
	for i := range uint64(n) {
		r := Record{ID: id(i), Number: i, Phase: Finished, Outcome: "done", At: now, Output: []byte("o")}
		switch {
		case i == 7:
			r.Phase = Sent
		case i == 8:
			r.Outcome = "job failed"
		case i == 9:
			r.Outcome, r.At = "interrupted", now.Add(-failedFor-time.Hour)
		case i == 10:
			r.ResultBlock = n
		}
		if i <= 10 {
			must(t, j.Put(r))
		} else {
			wg.Go(func() {
				if err := j.Put(r); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	must(t, j.SetCursor(Cursor{Block: 100}))
	if got := len(slices.Collect(j.Records())); got != n {
		t.Errorf("%d records: some that may come again are gone", got)
	}
	must(t, j.SetCursor(Cursor{Block: n}))
	j = reopen(t, j)
	for i, want := range map[uint64]bool{7: true, 8: true, 9: false, n - 1: true, n - window + 1: true} {
		if _, ok := j.Get(id(i)); ok != want {
			t.Errorf("call %d is there: %v", i, ok)
		}
	}
	if got := len(slices.Collect(j.Records())); got < keepFinished || got > keepFinished+window+2 {
		t.Errorf("%d records", got)
	}
	for i, want := range map[uint64]bool{7: true, 8: false, n - 1: true, n - depth + 1: true} {
		if _, err := j.Output(id(i)); err == nil != want {
			t.Errorf("output of call %d: %v", i, err)
		}
	}
}

func TestAFileShrinks(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	output := make([]byte, MaxOutput/2)
	var largest int64
	for i := range uint64(40) {
		must(t, j.Put(Record{ID: id(i), Phase: Answered, Output: output}))
		if i > 0 {
			must(t, j.Forget(id(i)))
		}
		must(t, j.SetCursor(Cursor{Block: i}))
		largest = max(largest, j.size)
	}
	if limit := int64(2*len(output)*4/3 + slack + 2*len(output)); largest > limit {
		t.Errorf("the file grew to %d bytes", largest)
	}
	if out, err := j.Output(id(0)); err != nil || !bytes.Equal(out, output) {
		t.Errorf("the output that counts: %d bytes, %v", len(out), err)
	}
	if c, _ := reopen(t, j).Cursor(); c.Block != 39 {
		t.Errorf("cursor %v", c)
	}
}

func TestACompactionThatFailsKeepsTheFile(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	must(t, j.Put(Record{ID: id(1), Phase: Answered, Output: make([]byte, MaxOutput)}))
	for i := range uint64(4) {
		must(t, j.Put(Record{ID: id(2 + i), Phase: Answered, Output: make([]byte, MaxOutput)}))
		must(t, j.Forget(id(2+i)))
	}
	k := j.state.calls[id(1)]
	k.out.sum++ // the disk gives something else back
	if err := j.SetCursor(Cursor{Block: 1}); err == nil || !strings.Contains(err.Error(), "shrunk") {
		t.Fatal(err)
	}
	k.out.sum--
	if c, _ := j.Cursor(); c.Block != 1 {
		t.Errorf("cursor %v", c)
	}
	must(t, j.SetCursor(Cursor{Block: 2})) // not tried again at once
	must(t, j.Put(Record{ID: id(9), Phase: Started}))
	j = reopen(t, j)
	if _, ok := j.Get(id(9)); !ok {
		t.Error("what was put afterwards is lost")
	}
	if out, err := j.Output(id(1)); err != nil || len(out) != MaxOutput {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestOutputsAreNotInMemory(t *testing.T) {
	j := open(t, t.TempDir())
	output := make([]byte, 100_000)
	for i := range uint64(50) {
		must(t, j.Put(Record{ID: id(i), Phase: Answered, Output: output}))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	j = reopen(t, j)
	if after := heap(); after > before+2<<20 {
		t.Errorf("%d bytes for %d of outputs", after-before, 50*len(output))
	}
	if out, err := j.Output(id(49)); err != nil || len(out) != len(output) {
		t.Error(err)
	}
}

func TestTheTrailOfCursors(t *testing.T) {
	t.Parallel()
	s := newState(testKey)
	set := func(b uint64) { s.apply(item{entry: entry{Cursor: &cursorEntry{Block: b}}}, blob{}) }
	for b := range uint64(20_000) {
		set(b)
	}
	if n := len(s.trail); n < 10 || n > trailLength || s.trail[0].Block != 0 {
		t.Errorf("%d cursors from %d", n, s.trail[0].Block)
	}
	for i := range len(s.trail) - 2 {
		a, b := s.trail[i].Block, s.trail[i+1].Block
		if b <= a || b-a > 19_999-a {
			t.Errorf("from %d to %d", a, b)
		}
	}
	if at := s.trail[len(s.trail)-4].Block; at < 19_990 {
		t.Errorf("the fourth is %d", at)
	}
	set(19_000)
	if last := s.trail[len(s.trail)-1].Block; last != 19_000 || s.trail[len(s.trail)-2].Block >= last {
		t.Errorf("after a reorg: %v", s.trail)
	}
}

func TestAReaderWhileARunnerWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range uint64(300) {
			if err := j.Put(Record{ID: id(i % 50), Phase: Answered, Output: make([]byte, i*20)}); err != nil {
				t.Error(err)
			}
			if i%20 == 0 {
				j.disk.Lock()
				if err := j.compact(); err != nil && runtime.GOOS != "windows" { // where a reader holds it up
					t.Error(err)
				}
				j.disk.Unlock()
			}
		}
	}()
	least := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		s, err := Read(dir)
		if err != nil || len(s) != 1 || len(s[0].Records) < least {
			t.Fatalf("%v, %v, and there were %d", s, err, least)
		}
		least = len(s[0].Records)
	}
	if least != 50 {
		t.Errorf("%d records at the end", least)
	}
	if s, err := Read(filepath.Join(dir, "none")); err == nil {
		t.Errorf("a directory that does not exist: %v", s)
	}
}

func FuzzLoad(f *testing.F) {
	j, err := Open(f.TempDir(), testKey)
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []Record{{ID: id(1), Phase: Started}, {ID: id(1), Phase: Answered, Output: []byte("x")},
		{ID: id(2), Phase: Finished, Outcome: "done", Tx: tangle.Word{1}}} {
		if err := j.Put(r); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(j.SetCursor(Cursor{Block: 3}), j.PutTx(Tx{Raw: [][]byte{{1}}, Hashes: []tangle.Word{{}}}),
		j.DropTx(2), j.Forget(id(2)), j.Close()); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(j.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, body := range []string{`[]`, `[null]`, `= []`, `=AA [{"call":{"phase":1,"output":true}}]`, `[{"drop":1},{}]`,
		`==`, `{`, ``} {
		f.Add(slices.Concat(seal(0, headerOf(testKey)), seal(1, []byte(body))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Give lines their sums, or no change would get past them.
		var sealed []byte
		for n, text := range bytes.Split(bytes.TrimSuffix(data, []byte{'\n'}), []byte{'\n'}) {
			if _, body, ok := bytes.Cut(text[min(9, len(text)):], []byte{' '}); ok {
				sealed = append(sealed, seal(uint64(n), body)...)
			}
		}
		for _, file := range [][]byte{data, sealed} {
			var st state
			var whole end
			var err error
			used := alloctest.Roughly(func() { st, whole, err = load(bytes.NewReader(file), "file") })
			if limit := uint64(100*len(file) + alloctest.Slack + 1<<18); used > limit {
				t.Fatalf("%d bytes for a file of %d", used, len(file))
			}
			if err != nil {
				continue
			}
			// What was understood can be written and understood again.
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, st.key.file()), file, 0o600))
			j, err := Open(dir, st.key)
			must(t, err)
			if j.size != whole.size {
				t.Fatalf("%d and %d", j.size, whole.size)
			}
			before := slices.Collect(j.Records())
			must(t, j.compact())
			must(t, j.Close())
			j, err = Open(dir, st.key)
			must(t, err)
			if diff := cmp.Diff(before, slices.Collect(j.Records())); diff != "" {
				t.Fatalf("a compaction changed it:\n%s", diff)
			}
			must(t, j.Close())
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			j, err := Open(b.TempDir(), testKey)
			if err != nil {
				b.Fatal(err)
			}
			var next atomic.Uint64
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := j.Put(Record{ID: id(next.Add(1) % 1000), Phase: Started}); err != nil {
						b.Error(err)
					}
				}
			})
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
