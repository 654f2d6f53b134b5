package platform

import (
	"io"
	"sync/atomic"
)

// behind writes on a goroutine of its own, so that the producer of the bytes, which inflates them
// or waits for a client, continues meanwhile. It must be closed.
type behind struct {
	full, empty chan []byte
	done        chan struct{}
	failed      atomic.Bool
	err         error // of the writing; to be read after done
}

// blockSize is how much is read and written at a time, and blocks is how many buffers of that size
// there are.
const (
	blockSize = 128 << 10
	blocks    = 4
)

func newBehind(w io.Writer) *behind {
	b := &behind{full: make(chan []byte, blocks), empty: make(chan []byte, blocks), done: make(chan struct{})}
	for range blocks {
		b.empty <- nil // made when it is needed: most files are small
	}
	go func() {
		defer close(b.done)
		for block := range b.full {
			if b.err == nil {
				_, b.err = w.Write(block)
				b.failed.Store(b.err != nil)
			}
			b.empty <- block
		}
	}()
	return b
}

// ReadFrom reads r to its end, or until reading or writing fails. Close returns the error of
// writing.
func (b *behind) ReadFrom(r io.Reader) (n int64, err error) {
	for err == nil && !b.failed.Load() {
		block := <-b.empty
		if block == nil {
			block = make([]byte, blockSize)
		}
		have, read := 0, 0
		for err == nil && have < blockSize {
			read, err = r.Read(block[have:blockSize])
			have += read
		}
		n += int64(have)
		b.full <- block[:have]
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// Close waits until everything is written, and returns the error if it could not be.
func (b *behind) Close() error {
	close(b.full)
	<-b.done
	return b.err
}
