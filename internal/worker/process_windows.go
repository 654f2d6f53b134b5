package worker

import (
	"io"
	"os"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

func sysProcAttr(*Config, *cgroup.Group) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// DefaultPath is the default PATH of processes. On Windows it depends on the system's directory.
const DefaultPath = ""

// errTextBusy is never returned on Windows.
const errTextBusy = syscall.Errno(1 << 29)

// baseEnvironment returns what Windows programs need to start.
func baseEnvironment(temp string) []string {
	root := os.Getenv("SYSTEMROOT")
	return []string{"SYSTEMROOT=" + root, "PATH=" + root + `\system32;` + root, "USERPROFILE=" + temp, "TEMP=" + temp,
		"TMP=" + temp}
}

// killGroup kills the process alone. Its descendants cannot be reached on Windows.
func killGroup(p *os.Process) { _ = p.Kill() }

func signalOf(*os.ProcessState) (string, bool) { return "", false }

// terminate does nothing: a process without a console sees no signal on Windows. The end of its
// standard input must tell it.
func (p *process) terminate() {}

// guard does nothing: this system has no process groups to kill.
type guard struct{}

func newGuard(*Host) *guard { return nil }

func (*guard) ready()               {}
func (*guard) add(int)              {}
func (*guard) remove(int)           {}
func (*guard) mark(proctree.Mark)   {}
func (*guard) unmark(proctree.Mark) {}
func (*guard) close()               {}

func newSpoolFile(dir string) (*os.File, error) { return os.CreateTemp(dir, "answer-") }

func closeSpoolFile(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// mapFile reads the file.
func mapFile(f *os.File, size int64) (text []byte, unmap func(), err error) {
	text = make([]byte, size)
	_, err = f.ReadAt(text, 0)
	if err == io.EOF {
		err = nil
	}
	return text, func() {}, err
}

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
