package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// ledger is the file that records every execution, so that the test can find calls that ran twice,
// or that ran although the platform said they did not.
var ledger = sync.OnceValues(func() (*os.File, error) {
	return os.OpenFile(os.Getenv("SOAK_LEDGER"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
})

// soak records that it ran, does what the ninth byte says, and answers the hash of its arguments
// and the VERSION of its deployment. The first eight bytes name the call.
func soak(_ context.Context, args []byte) ([]byte, error) {
	file, err := ledger()
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(args[:8]); err != nil {
		return nil, err
	}
	switch args[8] {
	case 's':
		time.Sleep(3 * time.Millisecond)
	case 'x':
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(3)
	case 'k':
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case 'h':
		time.Sleep(time.Hour)
	case 'm':
		var kept [][]byte
		for len(kept) < 128 {
			kept = append(kept, bytes.Repeat([]byte{1}, 8<<20))
		}
		return nil, errors.New("ate all and still lives")
	case 'f':
		return nil, errors.New("no such cat")
	case 'p':
		panic("oh no")
	case 'c':
		if err := exec.Command("/bin/sleep", "1000").Start(); err != nil {
			return nil, err
		}
	case 'l':
		for i := range 50 {
			fmt.Fprintf(os.Stderr, "line %d of a job that talks\x1b[2J\n", i)
		}
	}
	sum := sha256.Sum256(args)
	return append(sum[:], os.Getenv("VERSION")...), nil
}
