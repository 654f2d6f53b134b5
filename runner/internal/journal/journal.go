// Package journal keeps on disk what a runner did, so that a restart loses nothing and repeats
// nothing: the phase of every call that was begun, the transactions that may be in a pool, and how
// far the chain was read.
package journal

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/files"
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

// MaxOutput is the size of the largest output that a journal takes, in bytes. It is more than a
// transaction holds.
const MaxOutput = 1 << 20

// ID identifies a call as it stands on the chain: after a reorg, the same call number may be
// another job.
type ID struct {
	Call  uint64
	Block tangle.Word // the block's hash
	Log   uint32      // index in the block
}

// Phase is how far a call got.
type Phase uint8

const (
	Started  Phase = iota + 1 // an invocation was begun, and may have run
	Answered                  // Output is the job's answer
	Sent                      // a transaction with the answer may be in a pool
	Finished                  // Outcome says how; nothing more is done
)

// Record is what is known of one call.
type Record struct {
	ID     ID
	Number uint64 // of the block
	Job    uint8
	Phase  Phase
	Runs   int // invocations begun
	// Output is only for Put: nil keeps what an earlier Put gave. Journal.Output reads it.
	Output      []byte
	Outcome     string // of runner.Outcome; set when finished
	Reason      string // why it failed or waits; text that is safe to print
	Tx          tangle.Word
	ResultBlock uint64    // number of the block with the result; 0: unknown
	At          time.Time // of the last change; zero means now
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
// the same time share one sync. A change that fails did not happen, and may be tried again.
type Journal struct {
	path string
	lock *files.Lock

	disk   sync.Mutex // held for a write; before mu
	file   file
	size   int64  // of what is whole in the file
	seq    uint64 // of the next line
	later  int64  // no compaction below this size: the last one failed
	broken error  // the file's end is unknown, or it is closed

	mu    sync.Mutex
	state state
	batch *batch // takes changes until its leader has the disk
}

// file is what a journal needs of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// batch is the changes of one line.
type batch struct {
	items []item
	size  int
	done  chan struct{}
	err   error
}

const (
	fullBatch = 1 << 20 // bytes; a larger one takes no further changes
	slack     = 1 << 20 // bytes of dead lines that are not worth a compaction
)

// Open opens or creates the journal in the directory and locks it. A torn end, which a crash
// leaves, is dropped. A file that is damaged elsewhere is an error that names the file: nothing is
// guessed.
func Open(dir string, key Key) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, key.file())
	lock, err := files.AcquireLock(context.Background(), path+".lock", 0)
	if errors.Is(err, files.ErrLockHeld) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	if err != nil {
		return nil, err
	}
	j := &Journal{path: path, lock: lock}
	if err := j.open(key); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return j, nil
}

func (j *Journal) open(key Key) error {
	if _, err := os.Lstat(j.path); errors.Is(err, os.ErrNotExist) {
		err := files.Write(j.path, seal(0, headerOf(key)), 0o600)
		if err != nil {
			return err
		}
	}
	f, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := j.load(f, key); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// load reads the file and drops its torn end.
func (j *Journal) load(f *os.File, key Key) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the journal %s is not a regular file: move it away", j.path)
	}
	st, end, err := load(f, j.path)
	if err != nil {
		return err
	}
	if st.key != key {
		return fmt.Errorf("the journal %s is of another chain, contract, service or operator: its name was changed", j.path)
	}
	j.file, j.state, j.size, j.seq = f, st, end.size, end.lines
	if end.size == info.Size() {
		return nil
	}
	if err := f.Truncate(end.size); err != nil {
		return err
	}
	return f.Sync()
}

// Close ends the journal. Changes after it fail.
func (j *Journal) Close() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	if errors.Is(j.broken, os.ErrClosed) {
		return nil
	}
	j.broken = fmt.Errorf("journal: %w", os.ErrClosed)
	return errors.Join(j.file.Close(), j.lock.Release())
}

// Get returns the record of a call.
func (j *Journal) Get(id ID) (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k, ok := j.state.calls[id]
	if !ok {
		return Record{}, false
	}
	return k.Record, true
}

// Calls returns all records that stand under this call number, newest first.
func (j *Journal) Calls(call uint64) []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*kept
	for _, id := range j.state.byCall[call] {
		all = append(all, j.state.calls[id])
	}
	return records(all, newest)
}

// Unfinished returns the records of calls that are not finished, by place in the chain.
func (j *Journal) Unfinished() iter.Seq[Record] {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*kept
	for _, k := range j.state.calls {
		if k.Phase != Finished {
			all = append(all, k)
		}
	}
	return slices.Values(records(all, func(a, b *kept) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID.Log, b.ID.Log), cmp.Compare(a.seq, b.seq))
	}))
}

// Records returns all records, newest first. Finished ones are kept for a while.
func (j *Journal) Records() iter.Seq[Record] {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Values(j.state.records())
}

// Output returns the output of a call. An error means that there is none, or that the disk failed.
func (j *Journal) Output(id ID) ([]byte, error) {
	j.disk.Lock() // so that no compaction moves it
	defer j.disk.Unlock()
	j.mu.Lock()
	k, ok := j.state.calls[id]
	var b blob
	if ok {
		b = k.out
	}
	j.mu.Unlock()
	if b.size == 0 {
		return nil, fmt.Errorf("the journal has no output of call %d", id.Call)
	}
	text, err := j.read(b)
	if err != nil {
		return nil, err
	}
	return base64.RawStdEncoding.AppendDecode(nil, text[1:])
}

// read returns the text of a blob. The caller holds disk.
func (j *Journal) read(b blob) ([]byte, error) {
	if j.broken != nil {
		return nil, j.broken
	}
	text := make([]byte, b.size)
	if _, err := j.file.ReadAt(text, b.at); err != nil {
		return nil, fmt.Errorf("the journal %s: %w", j.path, err)
	}
	if crc32.Checksum(text, castagnoli) != b.sum {
		return nil, damaged(j.path, b.at, "an output is not what was written")
	}
	return text, nil
}

// Put replaces the record of its ID, in whatever phase either is.
func (j *Journal) Put(r Record) error {
	if r.Phase < Started || r.Phase > Finished {
		return fmt.Errorf("journal: call %d has phase %d, which does not exist", r.ID.Call, r.Phase)
	}
	if len(r.Output) > MaxOutput {
		return fmt.Errorf("journal: the output of call %d has %d bytes, and at most %d are kept",
			r.ID.Call, len(r.Output), MaxOutput)
	}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	r.At = r.At.UTC().Round(0)
	if r.Phase == Answered && r.Output == nil && !j.hasOutput(r.ID) {
		r.Output = []byte{} // a job may answer nothing
	}
	return j.commit(entry{Call: callOf(r)}, r.Output)
}

func (j *Journal) hasOutput(id ID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k, ok := j.state.calls[id]
	return ok && k.out.size > 0
}

// Forget removes the record of a call that the chain dropped.
func (j *Journal) Forget(id ID) error { return j.commit(entry{Forget: idOf(id)}, nil) }

// Cursor returns the last cursor that was set.
func (j *Journal) Cursor() (Cursor, bool) {
	trail := j.Cursors()
	if len(trail) == 0 {
		return Cursor{}, false
	}
	return trail[0], true
}

// Cursors returns the last cursor and some of those before it, newest first: the distances double.
// After a reorg, one whose block is still there is where to read on.
func (j *Journal) Cursors() []Cursor {
	j.mu.Lock()
	defer j.mu.Unlock()
	trail := slices.Clone(j.state.trail)
	slices.Reverse(trail)
	return trail
}

// SetCursor sets the cursor. Those that are not below it are dropped: a reorg took them back. It
// lets finished records far below it go, and shrinks the file when that is worth it. An error of
// the shrinking alone says so; the cursor is set then.
func (j *Journal) SetCursor(c Cursor) error {
	if err := j.commit(entry{Cursor: &cursorEntry{Block: c.Block, Hash: hash(c.Hash)}}, nil); err != nil {
		return err
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	j.state.prune(time.Now())
	due := j.size > 2*j.state.live+slack && j.size > j.later
	j.mu.Unlock()
	if !due {
		return nil
	}
	if err := j.compact(); err != nil {
		return fmt.Errorf("the journal %s could not be shrunk: %w", j.path, err)
	}
	return nil
}

// PutTx replaces the transaction with its nonce.
func (j *Journal) PutTx(t Tx) error { return j.commit(entry{Tx: txOf(t)}, nil) }

// DropTx removes the transaction with the nonce.
func (j *Journal) DropTx(nonce uint64) error { return j.commit(entry{Drop: &nonce}, nil) }

// Txs returns the transactions by nonce.
func (j *Journal) Txs() []Tx {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]Tx, 0, len(j.state.txs))
	for _, t := range j.state.txs {
		all = append(all, t.Tx)
	}
	slices.SortFunc(all, func(a, b Tx) int { return cmp.Compare(a.Nonce, b.Nonce) })
	return all
}

// commit brings a change on disk, together with others that come at the same time, and then into
// memory.
func (j *Journal) commit(e entry, output []byte) error {
	it, err := itemOf(e, output)
	if err != nil {
		return err
	}
	j.mu.Lock()
	b := j.batch
	leads := b == nil || b.size > fullBatch
	if leads {
		b = &batch{done: make(chan struct{})}
		j.batch = b
	}
	b.items = append(b.items, it)
	b.size += len(it.text) + len(it.output)
	j.mu.Unlock()
	if !leads {
		<-b.done
		return b.err
	}
	defer close(b.done)
	j.disk.Lock() // meanwhile others join
	defer j.disk.Unlock()
	j.mu.Lock()
	if j.batch == b {
		j.batch = nil
	}
	j.mu.Unlock()
	b.err = j.write(b.items)
	return b.err
}

// write appends a line and syncs it. If that fails, the line is taken back. The caller holds disk.
func (j *Journal) write(items []item) error {
	if j.broken != nil {
		return j.broken
	}
	text, places := line(j.seq, items)
	_, err := j.file.WriteAt(text, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		err = fmt.Errorf("the journal %s: %w", j.path, err)
		if undo := errors.Join(j.file.Truncate(j.size), j.file.Sync()); undo != nil {
			// What is on disk is not known any more. The next Open drops what is torn.
			j.broken = err
		}
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, it := range items {
		j.state.apply(it, places[i].from(j.size))
	}
	j.size += int64(len(text))
	j.seq++
	return nil
}

// compact replaces the file by one of what counts. The caller holds disk, so nothing changes.
func (j *Journal) compact() error {
	if j.broken != nil {
		return j.broken
	}
	var fresh state
	var end end
	err := files.Replace(j.path, 0o600, func(tmp *os.File) (err error) {
		fresh, end, err = j.rewrite(tmp)
		return errors.Join(err, j.file.Close()) // Windows replaces no open file
	})
	f, openErr := os.OpenFile(j.path, os.O_RDWR, 0)
	if openErr != nil {
		j.broken = errors.Join(err, openErr)
		return j.broken
	}
	j.file = f
	if err != nil {
		j.later = j.size + j.size/2
		return err
	}
	j.size, j.seq, j.later = end.size, end.lines, 0
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state = fresh
	return nil
}

// rewrite writes the state as a new file, and returns it with the new places of the outputs.
func (j *Journal) rewrite(w io.Writer) (state, end, error) {
	fresh := newState(j.state.key)
	text := seal(0, headerOf(fresh.key))
	end := end{size: int64(len(text)), lines: 1}
	if _, err := w.Write(text); err != nil {
		return fresh, end, err
	}
	for e, out := range j.state.entries() {
		it, err := itemOf(e, nil)
		if err != nil {
			return fresh, end, err
		}
		if out.size > 0 {
			if it.output, err = j.read(out); err != nil {
				return fresh, end, err
			}
		}
		text, at := line(end.lines, []item{it})
		if _, err := w.Write(text); err != nil {
			return fresh, end, err
		}
		fresh.apply(it, at[0].from(end.size))
		end.size += int64(len(text))
		end.lines++
	}
	return fresh, end, nil
}

// Snapshot is a journal as Read finds it.
type Snapshot struct {
	Key     Key
	Cursor  Cursor // zero: none
	Records []Record
}

// Read returns what the journals in the directory say, also while a runner uses them. It locks
// nothing and changes nothing. Those that cannot be read are in the error; the others are returned.
func Read(dir string) ([]Snapshot, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Snapshot
	var errs []error
	for _, e := range list {
		if filepath.Ext(e.Name()) != suffix || !e.Type().IsRegular() {
			continue
		}
		s, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

func readFile(path string) (Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return Snapshot{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	st, _, err := load(f, path)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Key: st.key, Records: st.records()}
	if n := len(st.trail); n > 0 {
		s.Cursor = st.trail[n-1]
	}
	return s, nil
}
