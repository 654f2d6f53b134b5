//go:build unix

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/klauspost/compress/zip"
	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

const workerPackage = "github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/worker"

// buildWorker builds the worker program in dir and returns its path.
func buildWorker(dir string) (string, error) {
	path := filepath.Join(dir, "worker")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, workerPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return path, nil
}

// packageOf returns a zip with the program as its bootstrap, stored or deflated.
func packageOf(program []byte, method uint16) ([]byte, error) {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "bootstrap", Method: method}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err == nil {
		_, err = w.Write(program)
	}
	err = errors.Join(err, zw.Close())
	return buf.Bytes(), err
}

// unmarked returns the program without the mark that tells the platform to keep its process.
func unmarked(program []byte) []byte {
	mark := []byte("blueprint-serverless/job/protocols")
	return bytes.ReplaceAll(program, mark, bytes.ToUpper(mark))
}

// pipe is a process that echoes messages of one size over two blocking pipes.
type pipe struct {
	cmd      *exec.Cmd
	in, out  int
	message  []byte
	received []byte
}

func startPipe(worker string, size int) (*pipe, error) {
	in, err := newPipe()
	if err != nil {
		return nil, err
	}
	out, err := newPipe()
	if err != nil {
		return nil, errors.Join(err, unix.Close(in[0]), unix.Close(in[1]))
	}
	stdin, stdout := os.NewFile(uintptr(in[0]), "stdin"), os.NewFile(uintptr(out[1]), "stdout")
	p := &pipe{cmd: exec.Command(worker), in: in[1], out: out[0], message: make([]byte, size),
		received: make([]byte, size)}
	p.cmd.Env = []string{floor.ModeEnv + "=" + strconv.Itoa(size)}
	p.cmd.Stdin, p.cmd.Stdout = stdin, stdout
	err = p.cmd.Start()
	err = errors.Join(err, stdin.Close(), stdout.Close())
	if err != nil {
		return nil, errors.Join(err, unix.Close(p.in), unix.Close(p.out))
	}
	return p, nil
}

// newPipe returns a pipe whose ends block and that no other process inherits.
func newPipe() (ends [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(ends[:]); err != nil {
		return ends, err
	}
	unix.CloseOnExec(ends[0])
	unix.CloseOnExec(ends[1])
	return ends, nil
}

// roundTrip sends a message and waits for its echo. Only one goroutine at a time may call it.
func (p *pipe) roundTrip() error {
	for rest := p.message; len(rest) > 0; {
		n, err := unix.Write(p.in, rest)
		if err != nil && err != unix.EINTR {
			return err
		}
		rest = rest[max(n, 0):]
	}
	for have := 0; have < len(p.received); {
		n, err := unix.Read(p.out, p.received[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		have += n
	}
	return nil
}

func (p *pipe) close() error {
	return errors.Join(unix.Close(p.in), p.cmd.Wait(), unix.Close(p.out))
}
