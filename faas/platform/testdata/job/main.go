// Command job is the job binary of the platform's tests, which define its job ids.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func main() {
	if os.Getenv("SILENT") != "" {
		os.Exit(5)
	}
	job.Main(job.Handlers{
		0: func(_ context.Context, args []byte) ([]byte, error) { return args, nil },
		1: func(context.Context, []byte) ([]byte, error) {
			fmt.Fprintln(os.Stderr, "cannot go on")
			os.Exit(3)
			return nil, nil
		},
		2: func(context.Context, []byte) ([]byte, error) { time.Sleep(time.Hour); return nil, nil },
		3: func(context.Context, []byte) ([]byte, error) {
			var kept [][]byte
			for len(kept) < 128 {
				kept = append(kept, bytes.Repeat([]byte{1}, 8<<20))
			}
			return nil, errors.New("ate all and still lives")
		},
		4: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no such cat") },
		5: func(context.Context, []byte) ([]byte, error) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
			return nil, nil
		},
		6: func(context.Context, []byte) ([]byte, error) {
			cmd := exec.Command("/bin/sleep", "1000")
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			return fmt.Append(nil, cmd.Process.Pid), nil
		},
		7: func(context.Context, []byte) ([]byte, error) { panic("oh no") },
		8: func(context.Context, []byte) ([]byte, error) { return fmt.Append(nil, os.Getpid()), nil },
		9: func(_ context.Context, args []byte) ([]byte, error) {
			time.Sleep(200 * time.Millisecond)
			return args, nil
		},
		10: func(context.Context, []byte) ([]byte, error) { return []byte(strings.Join(os.Environ(), "\n")), nil },
		11: soak,
		13: func(_ context.Context, args []byte) ([]byte, error) { // prints its arguments and nothing more
			_, err := os.Stderr.Write(args)
			return nil, err
		},
		14: func(context.Context, []byte) ([]byte, error) {
			go func() { panic("no way on") }()
			time.Sleep(time.Hour)
			return nil, nil
		},
		12: func(_ context.Context, args []byte) ([]byte, error) {
			return bytes.Repeat([]byte{200}, int(args[0])<<20), nil
		},
	})
}
