package platform

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// behind writes what it reads, and reports the errors of both sides.
func TestBehindWritesAllThatWasRead(t *testing.T) {
	gone, full := errors.New("the client is gone"), errors.New("the disk is full")
	text := strings.Repeat("0123456789abcdef", 3*blockSize/16+1)
	tests := []struct {
		name    string
		from    io.Reader
		to      error // of the writer
		written string
		read    error
	}{
		{"nothing", strings.NewReader(""), nil, "", nil},
		{"less than a block", strings.NewReader("abc"), nil, "abc", nil},
		{"many blocks", strings.NewReader(text), nil, text, nil},
		{"in small pieces", iotest.OneByteReader(strings.NewReader(text[:1000])), nil, text[:1000], nil},
		{"a client that goes away", io.MultiReader(strings.NewReader(text), iotest.ErrReader(gone)), nil, text, gone},
		{"a body that breaks off", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF)), nil,
			"abc", io.ErrUnexpectedEOF},
		{"a full disk", strings.NewReader(strings.Repeat(text, 10)), full, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			b := newBehind(writerFunc(func(p []byte) (int, error) {
				if tt.to != nil {
					return 0, tt.to
				}
				return got.Write(p)
			}))
			n, err := b.ReadFrom(tt.from)
			if werr := b.Close(); werr != tt.to {
				t.Errorf("Close: %v, want %v", werr, tt.to)
			}
			if err != tt.read {
				t.Errorf("ReadFrom: %v, want %v", err, tt.read)
			}
			if got.String() != tt.written || tt.to == nil && n != int64(len(tt.written)) {
				t.Errorf("%d bytes were written and %d told, want %d", got.Len(), n, len(tt.written))
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
