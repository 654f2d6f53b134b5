//go:build unix

package job_test

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// floorEnv makes the test binary send back what it reads, using only read and write.
const floorEnv = "JOB_TEST_FLOOR"

func init() {
	if os.Getenv(floorEnv) == "" {
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(0, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			os.Exit(0)
		}
		if _, err := unix.Write(1, buf[:n]); err != nil {
			os.Exit(1)
		}
	}
}

// rawPipe is a blocking pipe end of the host.
type rawPipe int

func (p rawPipe) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(p), b)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && err == nil {
			return 0, io.EOF
		}
		return max(n, 0), err
	}
}

func (p rawPipe) Write(b []byte) (int, error) { return unix.Write(int(p), b) }

// benchProcess starts the test binary on two blocking pipes.
func benchProcess(b *testing.B, env ...string) (rawPipe, rawPipe) {
	b.Helper()
	var in, out [2]int
	for _, p := range []*[2]int{&in, &out} {
		if err := unix.Pipe(p[:]); err != nil {
			b.Fatal(err)
		}
		unix.CloseOnExec(p[0])
		unix.CloseOnExec(p[1])
	}
	cmd, log := binaryCmd(b, env...)
	stdin, stdout := os.NewFile(uintptr(in[0]), "stdin"), os.NewFile(uintptr(out[1]), "stdout")
	cmd.Stdin, cmd.Stdout = stdin, stdout
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	b.Cleanup(func() {
		unix.Close(in[1])
		if err := cmd.Wait(); err != nil {
			b.Errorf("%v: %s", err, log)
		}
		unix.Close(out[0])
	})
	return rawPipe(in[1]), rawPipe(out[0])
}

// BenchmarkRoundTrip is one call of 8 bytes each way to a warm process, with a number of calls in
// flight. It compares frames with a process that only sends back what it reads.
func BenchmarkRoundTrip(b *testing.B) {
	for _, inFlight := range []int{1, 8, 64} {
		for _, contender := range []struct{ name, env string }{
			{"floor", floorEnv + "=1"},
			{"frames", frame.Env + "=" + frame.Version},
		} {
			b.Run(fmt.Sprintf("inflight=%d/%s", inFlight, contender.name), func(b *testing.B) {
				in, out := benchProcess(b, contender.env)
				w, r := frame.NewWriter(in), frame.NewReader(out, 0)
				if contender.name == "frames" {
					if _, err := r.Next(); err != nil {
						b.Fatal(err)
					}
				}
				args := uint64Bytes(12)
				var output []byte
				sent := 0
				send := func() {
					sent++
					if err := w.Queue(frame.Header{Kind: frame.Call, ID: uint64(sent), Value: square, DeadlineMS: 300_000},
						args); err != nil {
						b.Fatal(err)
					}
				}
				receive := func() {
					if _, err := r.Next(); err != nil {
						b.Fatal(err)
					}
					var err error
					if output, err = r.Body(output[:0]); err != nil {
						b.Fatal(err)
					}
				}
				b.ResetTimer()
				for received := 0; received < b.N; received++ {
					for sent < b.N && sent-received < inFlight {
						send()
					}
					if !r.Ready() {
						if err := w.Flush(); err != nil {
							b.Fatal(err)
						}
					}
					receive()
				}
			})
		}
	}
}
