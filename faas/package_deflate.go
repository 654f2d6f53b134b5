package faas

import (
	"bytes"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/flate"
)

const (
	// compressionLevel is the lowest level beyond which the zip of a Go executable hardly shrinks
	// further; see BenchmarkBuildPackage.
	compressionLevel = 6
	// blockSize is how much of a file is compressed in one go, and windowSize how far back deflate
	// looks. The bytes of a package depend on them, as on the level: with other values, every
	// package changes.
	blockSize  = 1 << 20
	windowSize = 32 << 10
	// maxBlocks bounds the memory, about 4 MB for each.
	maxBlocks = 8
)

// deflater compresses the files of a package one after the other, each on all processors. It cuts
// a file into blocks of a fixed size, and compresses each separately, with the end of the
// previous block as dictionary. The compressed blocks together are a single deflate stream, so
// the output does not depend on the number of processors.
type deflater struct {
	w       io.Writer
	current *deflateBlock   // being filled
	pending []*deflateBlock // being compressed, in the order of the file
	free    []*deflateBlock // for another use
	limit   int             // of pending
}

// deflateBlock is one block, with everything needed to compress it.
type deflateBlock struct {
	in, dict []byte
	out      bytes.Buffer
	fw       *flate.Writer
	done     chan error
}

func newDeflater() *deflater { return &deflater{limit: min(runtime.GOMAXPROCS(0), maxBlocks)} }

// start begins a file, whose compressed form goes to w. Close ends it.
func (d *deflater) start(w io.Writer) {
	d.w = w
	d.current = d.block()
}

// block returns a block with nothing in it.
func (d *deflater) block() *deflateBlock {
	n := len(d.free)
	if n == 0 {
		return &deflateBlock{done: make(chan error, 1)}
	}
	b := d.free[n-1]
	d.free = d.free[:n-1]
	b.in, b.dict = b.in[:0], b.dict[:0]
	return b
}

func (d *deflater) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		b := d.current
		if len(b.in) > 0 {
			b.in = slices.Grow(b.in, blockSize-len(b.in)) // no small file, then: all at once
		}
		take := min(len(p), blockSize-len(b.in))
		b.in = append(b.in, p[:take]...)
		p = p[take:]
		if len(b.in) == blockSize {
			if err := d.next(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// next starts to compress the current block as soon as fewer than limit blocks are being
// compressed, and makes another one current.
func (d *deflater) next() error {
	if len(d.pending) == d.limit {
		if err := d.finishOldest(); err != nil {
			return err
		}
	}
	b := d.current
	d.current = d.block()
	d.current.dict = append(d.current.dict, b.in[len(b.in)-windowSize:]...)
	d.pending = append(d.pending, b)
	go b.compress(false)
	return nil
}

// finishOldest waits for the first pending block and writes its output.
func (d *deflater) finishOldest() error {
	b := d.pending[0]
	d.pending = d.pending[1:]
	d.free = append(d.free, b)
	if err := <-b.done; err != nil {
		return err
	}
	_, err := d.w.Write(b.out.Bytes())
	return err
}

// Close compresses the rest and ends the file.
func (d *deflater) Close() error {
	d.current.compress(true)
	d.pending = append(d.pending, d.current)
	d.current = nil
	for len(d.pending) > 0 {
		if err := d.finishOldest(); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for the blocks that are being compressed, whose output is no longer needed.
func (d *deflater) wait() {
	for _, b := range d.pending {
		<-b.done
	}
	d.pending = nil
}

// compress compresses in into out, and sends the outcome on done. Only the last block ends the
// stream; the others end at a byte boundary.
func (b *deflateBlock) compress(last bool) {
	b.done <- func() error {
		b.out.Reset()
		if b.fw == nil {
			var err error
			if b.fw, err = flate.NewWriter(&b.out, compressionLevel); err != nil {
				return err
			}
		}
		b.fw.ResetDict(&b.out, b.dict)
		if _, err := b.fw.Write(b.in); err != nil {
			return err
		}
		if last {
			return b.fw.Close()
		}
		return b.fw.Flush()
	}()
}
