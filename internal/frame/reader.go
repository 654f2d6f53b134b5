package frame

import (
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge is wrapped by errors about a body above the limit, which is the Reader's own, or
// MaxBody for a Writer. The stream stays usable.
var ErrTooLarge = errors.New("frame body too large")

const (
	readBuffer = 64 << 10 // the size of a Linux pipe
	// growStep bounds what a header alone can make a Reader allocate.
	growStep = 1 << 20
)

// Reader reads frames from a stream. It reads ahead, so that frames that arrive together cost one
// read. It is not safe for concurrent use.
type Reader struct {
	r          io.Reader
	buf        []byte
	start, end int
	body       int // bytes of the current body that are not read yet
	maxBody    uint32
}

// NewReader returns a Reader that refuses bodies above maxBody bytes. 0 means MaxBody.
func NewReader(r io.Reader, maxBody uint32) *Reader {
	if maxBody == 0 || maxBody > MaxBody {
		maxBody = MaxBody
	}
	return &Reader{r: r, buf: make([]byte, readBuffer), maxBody: maxBody}
}

// Next skips the unread rest of the last body, and reads the header of the next frame. At the end
// of the stream it returns io.EOF, and inside a frame io.ErrUnexpectedEOF. An error that wraps
// ErrTooLarge comes with the header, and the next call skips that body. After any other error the
// Reader cannot be used further.
func (r *Reader) Next() (Header, error) {
	if err := r.Skip(); err != nil {
		return Header{}, err
	}
	if r.end-r.start < HeaderSize {
		if err := r.fill(HeaderSize); err != nil {
			return Header{}, err
		}
	}
	h, err := ParseHeader(r.buf[r.start:r.end])
	if err != nil {
		return Header{}, err
	}
	r.start += HeaderSize
	r.body = int(h.Length)
	if h.Length > r.maxBody {
		return h, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, h.Length, r.maxBody)
	}
	return h, nil
}

// Body appends the body of the frame that Next announced to dst, and returns the extended slice.
// The Reader keeps no reference to it.
func (r *Reader) Body(dst []byte) ([]byte, error) {
	if n := min(r.body, r.end-r.start); n > 0 {
		dst = append(dst, r.buf[r.start:r.start+n]...)
		r.start += n
		r.body -= n
	}
	for r.body > 0 {
		n := min(r.body, max(growStep, len(dst)))
		if cap(dst)-len(dst) < n {
			grown := make([]byte, len(dst), len(dst)+n)
			copy(grown, dst)
			dst = grown
		}
		m, err := io.ReadFull(r.r, dst[len(dst):len(dst)+n])
		dst = dst[:len(dst)+m]
		r.body -= m
		if err != nil {
			return dst, unexpected(err)
		}
	}
	return dst, nil
}

// Part is Body for at most the first n bytes. The next call of Next skips the others.
func (r *Reader) Part(dst []byte, n int) ([]byte, error) {
	rest := max(r.body-n, 0)
	r.body -= rest
	dst, err := r.Body(dst)
	r.body += rest
	return dst, err
}

// Buffered returns how many bytes were read ahead. 0 means that the stream is between two frames,
// if the last body has been read.
func (r *Reader) Buffered() int { return r.end - r.start }

// Fill reads once from src, which reads the Reader's own stream in another way, into the empty
// buffer. It serves a stream that must not be waited for: Ready says what came, and an error of
// src, even one that says that there is no data yet, changes nothing. Call Fill between two frames,
// when nothing is buffered and no part of a body is unread.
func (r *Reader) Fill(src io.Reader) error {
	r.start, r.end = 0, 0
	n, err := src.Read(r.buf)
	r.end = n
	if n > 0 {
		return nil
	}
	return err
}

// Ready reports whether the whole next frame is buffered, so that Next and Body do not wait for the
// stream.
func (r *Reader) Ready() bool {
	at := r.start + r.body
	if r.end-at < HeaderSize {
		return false
	}
	h, err := ParseHeader(r.buf[at:r.end])
	return err != nil || r.end-at-HeaderSize >= int(h.Length)
}

// Skip skips the unread rest of the current body.
func (r *Reader) Skip() error {
	n := min(r.body, r.end-r.start)
	r.start += n
	r.body -= n
	if r.body == 0 {
		return nil
	}
	m, err := io.CopyN(io.Discard, r.r, int64(r.body))
	r.body -= int(m)
	return unexpected(err)
}

// fill reads until at least n bytes are buffered.
func (r *Reader) fill(n int) error {
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	m, err := io.ReadAtLeast(r.r, r.buf[r.end:], n-r.end)
	if r.end += m; err == io.EOF && r.end > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
