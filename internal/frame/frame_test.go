package frame

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

type sent struct {
	Header Header
	Body   string // compared quickly, however long
}

func readAll(t *testing.T, r *Reader) []sent {
	t.Helper()
	var all []sent
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := r.Body(nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sent{h, string(body)})
	}
}

func TestFramesArriveAsSent(t *testing.T) {
	want := []sent{
		{Header{Kind: Hello, Value: 16}, ""},
		{Header{Kind: Call, ID: 1, Value: 7, DeadlineMS: 1500, Length: 3}, "abc"},
		{Header{Kind: Result, ID: 1 << 60, Length: copyLimit}, strings.Repeat("1", copyLimit)},
		{Header{Kind: Result, ID: 2, Length: 5 << 20}, strings.Repeat("2", 5<<20)},
		{Header{Kind: Failure, ID: 3, Value: uint32(JobPanic), Length: 4}, "boom"},
		{Header{Kind: Pong}, ""},
	}
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for _, s := range want {
		if err := w.Write(s.Header, []byte(s.Body)); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]io.Reader{
		"whole":        bytes.NewReader(stream.Bytes()),
		"halves":       iotest.HalfReader(bytes.NewReader(stream.Bytes())),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(stream.Bytes())),
	} {
		if diff := cmp.Diff(want, readAll(t, NewReader(r, 0))); diff != "" {
			t.Errorf("%s: (-sent +received)\n%s", name, diff)
		}
	}
}

func TestUnreadAndTooLargeBodiesAreSkipped(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for _, size := range []int{10, 200_000, 3} {
		if err := w.Write(Header{Kind: Call, ID: uint64(size)}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&stream, 100_000)
	if h, err := r.Next(); err != nil || h.ID != 10 {
		t.Fatalf("got %v, %v", h, err)
	}
	if h, err := r.Next(); !errors.Is(err, ErrTooLarge) || h.ID != 200_000 {
		t.Fatalf("got %v, %v, want the header with ErrTooLarge", h, err)
	}
	h, err := r.Next()
	if err != nil || h.ID != 3 {
		t.Fatalf("got %v, %v", h, err)
	}
	if body, err := r.Body([]byte("x")); err != nil || len(body) != 4 {
		t.Fatalf("got %d bytes, %v, want the body appended", len(body), err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("got %v, want io.EOF", err)
	}
}

func TestATruncatedStreamIsNotACleanEnd(t *testing.T) {
	var stream bytes.Buffer
	if err := NewWriter(&stream).Write(Header{Kind: Call}, []byte("body")); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < stream.Len(); n++ {
		r := NewReader(bytes.NewReader(stream.Bytes()[:n]), 0)
		_, err := r.Next()
		if err == nil {
			_, err = r.Body(nil)
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v, want io.ErrUnexpectedEOF", n, err)
		}
	}
}

func TestReadyTellsWhetherAWholeFrameIsBuffered(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for range 2 {
		if err := w.Write(Header{Kind: Call}, []byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	for cut, want := range map[int]bool{0: true, 1: false, 4: false, 5: false, 28: false} {
		r := NewReader(bytes.NewReader(stream.Bytes()[:stream.Len()-cut]), 0)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got := r.Ready(); got != want {
			t.Errorf("with %d bytes missing: %v, want %v", cut, got, want)
		}
	}
}

// Frames that Fill reads without waiting are the same as those that Next waits for, whatever part
// of a frame comes last.
func TestFillTakesWhatIsThere(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for id := range uint64(3) {
		if err := w.Write(Header{Kind: Result, ID: id}, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	whole := stream.Bytes()
	for cut := 1; cut <= len(whole); cut++ {
		r := NewReader(bytes.NewReader(whole[cut:]), 0)
		if err := r.Fill(bytes.NewReader(nil)); err != io.EOF || r.Buffered() != 0 {
			t.Fatalf("nothing there: %v, %d buffered", err, r.Buffered())
		}
		if err := r.Fill(bytes.NewReader(whole[:cut])); err != nil || r.Buffered() != cut {
			t.Fatalf("%d bytes there: %v, %d buffered", cut, err, r.Buffered())
		}
		if ready, want := r.Ready(), cut >= HeaderSize+5; ready != want {
			t.Errorf("%d bytes there: ready %v", cut, ready)
		}
		for id := range uint64(3) {
			h, err := r.Next()
			body, berr := r.Body(nil)
			if err != nil || berr != nil || h.ID != id || string(body) != "hello" {
				t.Fatalf("%d bytes there, frame %d: %v %q %v %v", cut, id, h, body, err, berr)
			}
		}
	}
}

func TestConcurrentFramesAreNeitherMixedNorLost(t *testing.T) {
	pr, pw := io.Pipe()
	w := NewWriter(pw)
	const senders, each = 50, 40
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				size := 10
				if i%10 == 0 {
					size = copyLimit + s + 1
				}
				id := uint64(s*each + i)
				if err := w.Write(Header{Kind: Result, ID: id}, bytes.Repeat([]byte{byte(id)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		pw.Close()
	}()
	seen := map[uint64]bool{}
	for _, s := range readAll(t, NewReader(pr, 0)) {
		if seen[s.Header.ID] {
			t.Errorf("frame %d came twice", s.Header.ID)
		}
		seen[s.Header.ID] = true
		if s.Body != strings.Repeat(string([]byte{byte(s.Header.ID)}), len(s.Body)) {
			t.Errorf("the body of frame %d is mixed with another", s.Header.ID)
		}
	}
	if len(seen) != senders*each {
		t.Errorf("%d frames arrived, want %d", len(seen), senders*each)
	}
}

// gate is a stream whose writes are counted, and wait until they are let through.
type gate struct {
	let    chan struct{}
	began  chan struct{}
	writes int
	bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	g.began <- struct{}{}
	<-g.let
	g.writes++
	return g.Buffer.Write(b)
}

func TestFramesThatComeDuringAWriteLeaveInOne(t *testing.T) {
	g := &gate{let: make(chan struct{}), began: make(chan struct{}, 10)}
	w := NewWriter(g)
	done := make(chan error)
	go func() { done <- w.Write(Header{Kind: Result}, nil) }()
	<-g.began
	for range 20 {
		if err := w.Write(Header{Kind: Result}, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	close(g.let)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if g.writes != 2 {
		t.Errorf("21 frames took %d writes, want 2", g.writes)
	}
}

func TestAWriteErrorReachesEveryLaterCall(t *testing.T) {
	broken := errors.New("broken pipe")
	pr, pw := io.Pipe()
	pr.CloseWithError(broken)
	w := NewWriter(pw)
	for i := range 3 {
		if err := w.Write(Header{Kind: Result}, make([]byte, i*copyLimit)); !errors.Is(err, broken) {
			t.Errorf("call %d: %v, want the stream's error", i, err)
		}
	}
}

// readFrames reads a stream to its end, or to its first error.
func readFrames(stream io.Reader, limit uint32) (frames int) {
	r := NewReader(stream, limit)
	for {
		_, err := r.Next()
		if err == nil {
			_, err = r.Body(nil)
		}
		if err != nil && !errors.Is(err, ErrTooLarge) {
			return frames
		}
		frames++
	}
}

// mostFor is the most that a reader may allocate for a stream of so many bytes: bodies that grow by
// doubling, a step for a header alone, and the reader's buffer.
func mostFor(stream int) uint64 { return 4*uint64(stream) + growStep + readBuffer + 4<<10 }

// counted counts what is read, and in how many calls.
type counted struct {
	r     io.Reader
	calls int
}

func (c *counted) Read(p []byte) (int, error) {
	c.calls++
	return c.r.Read(p)
}

func TestAStreamCostsNoMoreThanWhatArrives(t *testing.T) {
	repeat := func(h Header, body int, n int) []byte {
		h.Length = uint32(body)
		return bytes.Repeat(append(AppendHeader(nil, h), make([]byte, body)...), n)
	}
	for name, stream := range map[string][]byte{
		"a header that promises": AppendHeader(nil, Header{Kind: Result, Length: MaxBody}),
		"a header that promises, and a part": append(AppendHeader(nil, Header{Kind: Result, Length: MaxBody}),
			make([]byte, 3<<20)...),
		"one large body":         repeat(Header{Kind: Result}, 8<<20, 1),
		"many small bodies":      repeat(Header{Kind: Result}, 1, 100_000),
		"nothing but headers":    repeat(Header{Kind: Pong}, 0, 100_000),
		"bodies above the limit": repeat(Header{Kind: Result}, 2<<20, 3),
	} {
		limit := uint32(0)
		if name == "bodies above the limit" {
			limit = 1 << 20
		}
		var c *counted
		cost := uint64(math.MaxUint64)
		for range 3 { // the runtime allocates for itself at times, which counts, too
			c = &counted{r: bytes.NewReader(stream)}
			cost = min(cost, alloctest.Bytes(func() { readFrames(c, limit) }))
		}
		if cost > mostFor(len(stream)) {
			t.Errorf("%s: %d bytes were allocated for a stream of %d", name, cost, len(stream))
		}
		if most := len(stream)/(8<<10) + 10; c.calls > most { // io.Discard reads 8 KiB at a time
			t.Errorf("%s: %d reads of a stream of %d bytes, more than %d", name, c.calls, len(stream), most)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Kind: Call, Length: 2}), uint32(10))
	f.Add(append(AppendHeader(nil, Header{Kind: Ping}), AppendHeader(nil, Header{Kind: Result, Length: MaxBody})...),
		uint32(0))
	f.Fuzz(func(t *testing.T, stream []byte, limit uint32) {
		if cost := alloctest.Roughly(func() { readFrames(bytes.NewReader(stream), limit) }); cost > mostFor(len(stream))+
			alloctest.Slack {
			t.Fatalf("%d bytes were allocated for a stream of %d", cost, len(stream))
		}
		r := NewReader(bytes.NewReader(stream), limit)
		total := 0
		for {
			h, err := r.Next()
			total += HeaderSize
			if errors.Is(err, ErrTooLarge) {
				continue
			}
			if err != nil {
				return
			}
			body, err := r.Body(nil)
			if err != nil {
				return
			}
			if total += len(body); len(body) != int(h.Length) || total > len(stream) {
				t.Fatalf("a body of %d bytes for %v out of %d", len(body), h, len(stream))
			}
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	for _, size := range []int{8, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := NewWriter(io.Discard)
			body := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Write(Header{Kind: Result}, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
