//go:build unix

// Command worker is the program behind every contender: a job binary for the platform, and the
// other end of the raw pipe and of the reverse proxy.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

func main() {
	mode := os.Getenv(floor.ModeEnv)
	if mode == "" {
		job.Main(job.Handlers{floor.JobEcho: func(_ context.Context, args []byte) ([]byte, error) { return args, nil }})
	}
	err := serveHTTP
	if size, notNumber := strconv.Atoi(mode); notNumber == nil {
		err = func() error { return echo(size) }
	}
	if err := err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo reads each message of size bytes whole and then writes it, with nothing but read and write.
func echo(size int) error {
	buf := make([]byte, size)
	for {
		for have := 0; have < size; {
			n, err := unix.Read(0, buf[have:])
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return err
			}
			have += n
		}
		for rest := buf; len(rest) > 0; {
			n, err := unix.Write(1, rest)
			if err != nil && err != unix.EINTR {
				return err
			}
			rest = rest[max(n, 0):]
		}
	}
}

// serveHTTP serves the job over HTTP until standard input ends, as functions behind a reverse proxy
// do. It prints its address first.
func serveHTTP() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, floor.EmptyHandler())
}
