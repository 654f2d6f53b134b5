package worker

import "os"

// logReader reads standard error. On Windows the next output continues an unfinished line.
type logReader struct {
	file  *os.File
	lines lineReader
}

func newLogReader(stderr *os.File, lines lineReader) *logReader { return &logReader{stderr, lines} }

func (r *logReader) run() { r.lines.readLines(r.file) }

func (*logReader) begin()   {}
func (*logReader) quiet()   {}
func (*logReader) endCall() {}
