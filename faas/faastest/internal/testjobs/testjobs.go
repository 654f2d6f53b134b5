// Package testjobs implements the jobs of the test job binary and of the in-memory provider's
// functions.
package testjobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// The jobs, by id. Numbers in arguments are decimal text.
const (
	Echo    uint32 = iota // answers its arguments
	Square                // answers the square of a little-endian uint64, as the same
	Fail                  // fails with its arguments as the message
	Panic                 // panics with its arguments as the value
	Sleep                 // answers its arguments after that many milliseconds
	Env                   // answers the value of the environment variable of that name
	Exit                  // ends the process with that code
	Alloc                 // allocates and touches that many MiB, and answers its arguments
	Count                 // appends one byte to the file of that name, and answers how many it holds
	Answer                // answers that many bytes
	Version               // answers what follows the last VersionMark in the executable file
	Log                   // writes its arguments and a newline to standard error, and answers them
	N                     // the number of jobs
)

// VersionMark comes before the version at the end of an executable file.
const VersionMark = "\nfaastest-version:"

// Host is what a job sees of the place where it runs.
type Host struct {
	Getenv func(string) string
	Exit   func(code int) // does not return
	// Executable returns the path of the executable file.
	Executable func() (string, error)
	Stderr     io.Writer
}

// Run runs one job.
func (h Host) Run(ctx context.Context, job uint32, args []byte) ([]byte, error) {
	switch job {
	case Echo:
		return args, nil
	case Square:
		if len(args) != 8 {
			return nil, fmt.Errorf("want 8 bytes, got %d", len(args))
		}
		n := binary.LittleEndian.Uint64(args)
		return binary.LittleEndian.AppendUint64(nil, n*n), nil
	case Fail:
		return nil, fmt.Errorf("%s", args)
	case Panic:
		panic(string(args))
	case Env:
		return []byte(h.Getenv(string(args))), nil
	case Count:
		return count(string(args))
	case Version:
		return h.version()
	case Log:
		_, err := fmt.Fprintf(h.Stderr, "%s\n", args)
		return args, err
	}
	n, err := strconv.Atoi(string(args))
	if err != nil {
		return nil, fmt.Errorf("job %d wants a number: %w", job, err)
	}
	switch job {
	case Sleep:
		return args, sleep(ctx, time.Duration(n)*time.Millisecond)
	case Exit:
		h.Exit(n)
		return nil, nil
	case Alloc:
		touch(n)
		return args, nil
	case Answer:
		return make([]byte, n), nil
	}
	return nil, fmt.Errorf("there is no job %d", job)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// touch writes to every page, so that the memory is really used.
func touch(mib int) {
	block := make([]byte, mib<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
}

// count appends in one write, so that every run is counted also when runs overlap.
func count(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write([]byte{'x'}); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	return strconv.AppendInt(nil, info.Size(), 10), nil
}

func (h Host) version() ([]byte, error) {
	path, err := h.Executable()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tail := text[max(0, len(text)-64):]
	if i := bytes.LastIndex(tail, []byte(VersionMark)); i >= 0 {
		return tail[i+len(VersionMark):], nil
	}
	return nil, nil
}
