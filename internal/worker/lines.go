package worker

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// maxPart is the longest part of a line that is handed on at once.
const maxPart = 4096

// lineReader hands on the lines that a process writes to a pipe, in parts if they are long.
type lineReader struct {
	pid  int
	log  func(Line) // may be nil
	tail *logTail   // may be nil

	part  []byte // of a line whose end has not come yet
	later bool   // part is not the first of its line
}

// readLines reads r until its end.
func (l *lineReader) readLines(r io.Reader) {
	buf := make([]byte, maxPart)
	for {
		n, err := r.Read(buf)
		l.take(buf[:n])
		if err != nil {
			l.end()
			return
		}
	}
}

func (l *lineReader) take(b []byte) {
	for len(b) > 0 {
		n := min(len(b), maxPart-len(l.part))
		i := bytes.IndexByte(b[:n], '\n')
		if i >= 0 {
			n = i + 1
		}
		l.part = append(l.part, b[:n]...)
		b = b[n:]
		if i >= 0 || len(l.part) == maxPart {
			l.emit(i < 0)
		}
	}
}

// end ends the current line, if one has begun.
func (l *lineReader) end() {
	if len(l.part) > 0 || l.later {
		l.emit(false)
	}
}

func (l *lineReader) emit(more bool) {
	if l.tail != nil {
		l.tail.write(l.part, !l.later)
	}
	if l.log != nil {
		l.log(Line{PID: l.pid, Text: bytes.TrimRight(l.part, "\r\n"), Later: l.later, More: more})
	}
	l.part, l.later = l.part[:0], more
}

// logTail keeps the last bytes that were written to it, and the line with which Go ends a program.
type logTail struct {
	mu     sync.Mutex
	buf    []byte
	panics string
}

const (
	logTailSize = 4096
	// maxReason bounds the line that is kept as a reason.
	maxReason = 1 << 10
)

// write takes a line, or a part of one.
func (t *logTail) write(b []byte, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first && (bytes.HasPrefix(b, []byte("panic: ")) || bytes.HasPrefix(b, []byte("fatal error: "))) {
		t.panics = strings.ToValidUTF8(string(bytes.TrimSpace(b[:min(len(b), maxReason)])), "\uFFFD")
	}
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*logTailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-logTailSize:]...)
	}
}

func (t *logTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.buf[max(0, len(t.buf)-logTailSize):]), "\uFFFD")
}

// reason returns the line with which Go ended the program, or "".
func (t *logTail) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.panics
}
