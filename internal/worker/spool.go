package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// spool takes what a process writes to its standard output: a little into memory, and the rest,
// whose size nobody knows, into a file.
type spool struct {
	dir    string // of the file; empty means that everything stays in memory
	memory *bytes.Buffer
	file   *os.File
	size   int64
	err    error // of the file
	most   int64 // the most memory that the parsed answer can take
}

// fill reads up to limit bytes.
func (s *spool) fill(r io.Reader, limit int64) {
	whole := limit
	if s.dir != "" {
		limit = min(limit, Uncounted)
	}
	s.size, _ = s.memory.ReadFrom(io.LimitReader(r, limit))
	if s.dir == "" || s.size < Uncounted {
		return
	}
	if s.file, s.err = newSpoolFile(s.dir); s.err == nil {
		_, s.err = s.file.Write(s.memory.Bytes())
	}
	n := int64(0)
	if s.err == nil {
		n, s.err = copyPipe(s.file, io.LimitReader(r, whole-s.size))
	}
	s.size += n
}

// copyPipe is io.Copy from a pipe, for which the end of its process is not an error.
func copyPipe(file *os.File, pipe io.Reader) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		m, rerr := pipe.Read(buf)
		if m > 0 {
			if _, err := file.Write(buf[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		if rerr != nil {
			return n, nil
		}
	}
}

// parse reads the answer as faas.ParseResponse does. It takes the memory for the result,
// Counted(len(r.Result)), from the budget, unless that is nil. It returns errNoRoom if the budget
// cannot provide it.
func (s *spool) parse(b *Budget, stop <-chan struct{}, r *faas.Response) (begin []byte, err error) {
	if s.err != nil {
		return nil, s.err
	}
	text := s.memory.Bytes()
	if s.file != nil {
		var unmap func()
		if text, unmap, err = mapFile(s.file, s.size); err != nil {
			return nil, err
		}
		defer unmap()
	}
	begin = bytes.Clone(text[:min(len(text), 80)])
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, nil
	}
	numbers := bytes.Count(text, []byte{','}) + 1
	rest := max(len(text)-4*numbers-4096, 0) // more than a list takes may be a message
	s.most = int64(numbers + rest)
	if b == nil || s.most <= Uncounted {
		return begin, parseAnswer(text, r)
	}
	if !b.wait(s.most, stop) {
		return nil, errNoRoom
	}
	if rest == 0 {
		r.Result = make([]byte, 0, numbers)
	}
	err = parseAnswer(text, r)
	b.Give(s.most - Counted(len(r.Result)))
	return begin, err
}

// parseAnswer is faas.ParseResponse, but requires a result in a success: an empty result must be
// stated.
func parseAnswer(text []byte, r *faas.Response) error {
	err := faas.ParseResponse(text, r)
	if err != nil || !r.Success || len(r.Result) > 0 {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err == nil && members["result"] == nil {
		return errors.New("result: the member is missing, although success is true")
	}
	return nil
}

// errNoRoom says that there was no memory for an answer.
var errNoRoom = errors.New("other answers take all the memory that large ones may take")

func (s *spool) close() {
	if s.file != nil {
		closeSpoolFile(s.file)
	}
}
