package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// How long to wait before looking again at a followed file after it grew, and at most.
const firstLook, longestLook = 50 * time.Millisecond, time.Second

// FileLogs returns the lines of a log file and of those that were set aside from it. Lines have no
// time until they are followed. Therefore LogQuery.Since and Until can leave out only whole files
// that ended before Since.
func FileLogs(ctx context.Context, path string, q faas.LogQuery) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		f := &fileLog{path: path}
		defer f.close()
		for line, err := range Last(q.Limit, f.there(ctx, q.Since)) {
			if !yield(line, err) || err != nil {
				return
			}
		}
		wait := firstLook
		for q.Follow && httputil.Sleep(ctx, wait) {
			wait = min(2*wait, longestLook)
			more, err := f.news(ctx, func(line faas.LogLine) bool {
				line.Time, wait = time.Now().UTC(), firstLook
				return yield(line, nil)
			})
			if err != nil {
				yield(faas.LogLine{}, fileError(err))
			}
			if err != nil || !more {
				return
			}
		}
		if ctx.Err() != nil {
			yield(faas.LogLine{}, Ended(ctx, ""))
		}
	}
}

func fileError(err error) error { return faas.Errorf(faas.ErrUnavailable, "logs", "", "%w", err) }

// fileLog is a log file that is read, and the position up to which it was read.
type fileLog struct {
	path string
	file *os.File // nil where there is none
	cut  bool     // the line that it is in was longer than is kept of one, and has been passed on
}

func (f *fileLog) close() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}

// open opens the file that is being written. It is not an error if the file does not exist.
func (f *fileLog) open(name string) (err error) {
	f.close()
	f.cut = false
	if f.file, err = os.Open(name); err != nil {
		f.file = nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// there returns the content of the files, and leaves the file that is being written open.
func (f *fileLog) there(ctx context.Context, since time.Time) Lines {
	return func(yield func(faas.LogLine, error) bool) {
		for _, name := range append(files.Aside(f.path), f.path) {
			err := f.open(name)
			if err == nil && f.file == nil {
				continue
			}
			var info fs.FileInfo
			if err == nil {
				info, err = f.file.Stat()
			}
			if err == nil && info.ModTime().Before(since) {
				_, err = f.file.Seek(0, io.SeekEnd)
			}
			more := true
			if err == nil {
				more, err = f.read(ctx, func(line faas.LogLine) bool { return yield(line, nil) })
			}
			if err != nil {
				yield(faas.LogLine{}, fileError(err))
			}
			if err != nil || !more {
				return
			}
		}
	}
}

// news calls emit with what was written since the last read, even to a file that replaced this one.
// It returns false if emit did.
func (f *fileLog) news(ctx context.Context, emit func(faas.LogLine) bool) (bool, error) {
	aside := f.setAside() // before it is read: afterwards nobody writes to it
	if f.file != nil {
		if more, err := f.read(ctx, emit); err != nil || !more || !aside {
			return more, err
		}
	}
	if err := f.open(f.path); err != nil || f.file == nil {
		return true, err
	}
	return f.read(ctx, emit)
}

// setAside reports whether the file is no longer the one that is being written.
func (f *fileLog) setAside() bool {
	if f.file == nil {
		return true
	}
	mine, err := f.file.Stat()
	if err != nil {
		return true
	}
	now, err := os.Stat(f.path)
	return err != nil || !os.SameFile(mine, now)
}

// read reads whole lines from the file's position, and leaves the position after the last of them.
// The beginning of a line that is longer than what is kept is passed on at once and the rest is
// left out, so that nothing is read again. It returns false if emit did.
func (f *fileLog) read(ctx context.Context, emit func(faas.LogLine) bool) (bool, error) {
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, err
	}
	r := bufio.NewReaderSize(f.file, 64<<10)
	for ctx.Err() == nil {
		text, err := r.ReadSlice('\n')
		size := len(text)
		text = bytes.Clone(text[:min(size, MaxText+1)]) // one more, so that the cut is seen
		for errors.Is(err, bufio.ErrBufferFull) {
			var rest []byte
			rest, err = r.ReadSlice('\n')
			size += len(rest)
		}
		eof := errors.Is(err, io.EOF)
		if eof && !f.cut && size <= MaxText { // what has no end yet comes when it has one
			_, err := f.file.Seek(at, io.SeekStart)
			return true, err
		}
		if err != nil && !eof {
			return false, err
		}
		at += int64(size)
		rest := f.cut
		if f.cut = eof; rest {
			if eof {
				return true, nil
			}
			continue
		}
		kept, cut := Harmless(bytes.TrimRight(text, "\r\n"))
		if !emit(faas.LogLine{JobID: faas.NoJob, Text: kept, Truncated: cut}) {
			return false, nil
		}
		if eof {
			return true, nil
		}
	}
	return true, nil
}
