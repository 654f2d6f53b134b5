//go:build unix

package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// The test binary is also the job binary: JOB_MODE makes it a process of that mode.
func TestMain(m *testing.M) {
	if mode := os.Getenv("JOB_MODE"); mode != "" {
		beJob(mode)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// The jobs of the test binary.
const (
	jobEcho  = 0
	jobExit  = 1 // exits with code 3
	jobHang  = 2
	jobEat   = 3 // eats memory
	jobFail  = 4
	jobKill  = 5 // kills itself
	jobFork  = 6 // answers the pid of a child that sleeps
	jobPrint = 7 // garbage
	jobEnv   = 8
	jobPID   = 9
	jobBig   = 10 // answers args[0] MiB
	jobSlow  = 11 // answers after a while
	jobFDs   = 12

	jobRead        = 13 // answers a file
	jobBomb        = 14 // starts processes until it cannot, at most 300, and answers their number
	jobOpenFiles   = 15 // opens files until it cannot, at most 5000, and answers their number
	jobDaemon      = 16 // answers the pid of a process that left its session and its parent
	jobDaughter    = 17 // hangs, with a sleeping child in its own session; its file has the pid
	jobChildEats   = 18 // has a child that eats memory
	jobSatiated    = 24 // takes 48 MiB and hangs
	jobChildrenEat = 25 // has three such children
	jobWrite       = 19 // writes a file that only its user can read

	jobStay  = 20 // writes the pids of itself and its children to a file, and hangs in its parent's group
	jobShout = 22 // fails with a message of args[0] MiB
	jobPong  = 21 // answers after a Pong that nobody asked for
	jobLeave = 23 // answers the pid of a process that left its session, its parent and its environment
)

func beJob(mode string) {
	if mode == "stdio" {
		var request struct {
			JobID uint32   `json:"job_id"`
			Args  []uint16 `json:"args"`
		}
		if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
			fmt.Fprintln(os.Stderr, "bad request:", err)
			os.Exit(2)
		}
		args := make([]byte, len(request.Args))
		for i, b := range request.Args {
			args[i] = byte(b)
		}
		out, err := runJob(request.JobID, args, nil)
		if err != nil {
			fmt.Printf(`{"job_id":%d,"result":[],"success":false,"error":%q}`, request.JobID, err)
			return
		}
		numbers := make([]uint16, len(out))
		for i, b := range out {
			numbers[i] = uint16(b)
		}
		text, _ := json.Marshal(numbers)
		fmt.Printf(`{"result":%s}`, text)
		return
	}
	if mode == "silent" {
		time.Sleep(time.Hour)
		return
	}
	if mode == "dies" {
		fmt.Fprintln(os.Stderr, "no configuration")
		os.Exit(7)
	}
	if mode == "garbage" {
		fmt.Println("hello, I print to standard output whatever I like, more than one header")
	}
	offer, mine := frame.IsOffer(os.Getenv(frame.Env))
	switch {
	case mode == "older" && offer:
		fmt.Fprintln(os.Stderr, "job:", frame.OfferUnknown+"; it knows others")
		os.Exit(2)
	case mode == "late":
		for _, err := os.Stat(os.Getenv("JOB_GATE")); err != nil; _, err = os.Stat(os.Getenv("JOB_GATE")) {
			time.Sleep(time.Millisecond)
		}
	case mode == "busy": // works on its own until it is told to end
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		go func() {
			<-told
			_ = os.WriteFile(os.Getenv("JOB_GATE"), []byte("told\n"), 0o600)
			os.Exit(0)
		}()
		defer func() { select {} }()
	}
	if os.Getenv(frame.Env) != frame.Version && !mine {
		os.Exit(9)
	}
	r, w := frame.NewReader(os.Stdin, 0), frame.NewWriter(os.Stdout)
	_ = w.Write(frame.Header{Kind: frame.Hello, Value: 8}, nil)
	if mode == "deaf" { // takes one call and then stops reading
		_, _ = r.Next()
		time.Sleep(time.Hour)
	}
	for {
		h, err := r.Next()
		if err != nil {
			return
		}
		body, err := r.Body(nil)
		if err != nil {
			return
		}
		if h.Kind != frame.Call {
			continue
		}
		go func() {
			out, err := runJob(h.Value, body, w)
			if err != nil {
				_ = w.Write(frame.Header{Kind: frame.Failure, ID: h.ID, Value: uint32(frame.JobFailed)}, []byte(err.Error()))
				return
			}
			_ = w.Write(frame.Header{Kind: frame.Result, ID: h.ID}, out)
		}()
	}
}

func runJob(id uint32, args []byte, w *frame.Writer) ([]byte, error) {
	switch id {
	case jobEcho:
		return args, nil
	case jobExit:
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(3)
	case jobHang:
		time.Sleep(time.Hour)
	case jobEat:
		var kept [][]byte
		for {
			kept = append(kept, bytes.Repeat([]byte{1}, 8<<20))
			if len(kept) > 256 {
				return nil, fmt.Errorf("ate %d blocks and still lives", len(kept))
			}
		}
	case jobFail:
		return nil, fmt.Errorf("no such cat")
	case jobKill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case jobFork:
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return fmt.Append(nil, cmd.Process.Pid), nil
	case jobPrint:
		fmt.Println(strings.Repeat("this is neither a frame nor JSON ", 3))
		time.Sleep(100 * time.Millisecond)
	case jobEnv:
		return []byte(strings.Join(os.Environ(), "\n")), nil
	case jobPID:
		return fmt.Append(nil, os.Getpid()), nil
	case jobBig:
		return make([]byte, int(args[0])<<20), nil
	case jobSlow:
		time.Sleep(300 * time.Millisecond)
		return args, nil
	case jobRead:
		return os.ReadFile(string(args))
	case jobShout:
		return nil, errors.New(strings.Repeat("aaah ", int(args[0])<<20/5))
	case jobPong:
		if err := w.Write(frame.Header{Kind: frame.Pong}, nil); err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
		return args, nil
	case jobStay:
		// One child has its own session. The other has also lost its parents and most of its environment.
		out, err := exec.Command("/bin/sh", "-c", `trap '' TERM HUP
setsid sleep 1000 >/dev/null 2>&1 & echo $!
echo $(env -u HOME TMPDIR=/ setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!')`).Output()
		if err != nil {
			return nil, err
		}
		group, err := syscall.Getpgid(os.Getppid())
		if err == nil {
			err = syscall.Setpgid(0, group)
		}
		if err != nil {
			return nil, err
		}
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		if err := os.WriteFile(string(args)+".new", fmt.Appendf(out, "%d\n", os.Getpid()), 0o600); err != nil {
			return nil, err
		}
		if err := os.Rename(string(args)+".new", string(args)); err != nil {
			return nil, err
		}
		time.Sleep(time.Hour)
	case jobWrite:
		return nil, os.WriteFile(string(args), []byte("secret"), 0o600)
	case jobBomb:
		for n := range 300 {
			if err := exec.Command("/bin/sleep", "1000").Start(); err != nil {
				return fmt.Append(nil, n), nil
			}
		}
		return []byte("300"), nil
	case jobOpenFiles:
		for n := range 5000 {
			if _, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
				return fmt.Append(nil, n), nil
			}
		}
		return []byte("5000"), nil
	case jobDaemon:
		cmd := exec.Command("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Output()
	case jobLeave:
		return exec.Command("/bin/sh", "-c",
			`env -i PATH="$PATH" setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'`).Output()
	case jobDaughter:
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if err := os.WriteFile(string(args), fmt.Append(nil, cmd.Process.Pid, "\n"), 0o600); err != nil {
			return nil, err
		}
		time.Sleep(time.Hour)
	case jobChildEats:
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "JOB_MODE=stdio")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"job_id":%d,"args":[]}`, jobEat))
		out, err := cmd.CombinedOutput()
		time.Sleep(time.Hour) // what killed the child must end this process too
		return out, err
	case jobSatiated:
		kept := bytes.Repeat([]byte{1}, 48<<20)
		time.Sleep(time.Hour)
		return kept[:1], nil
	case jobChildrenEat: // in sessions of their own
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		for range 3 {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), "JOB_MODE=stdio")
			cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"job_id":%d,"args":[]}`, jobSatiated))
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				return nil, err
			}
		}
		time.Sleep(time.Hour)
		return nil, nil
	case jobFDs:
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return nil, err
		}
		var out []string
		for _, e := range entries {
			target, _ := os.Readlink("/proc/self/fd/" + e.Name())
			out = append(out, e.Name()+" "+target)
		}
		return []byte(strings.Join(out, "\n")), nil
	}
	return nil, nil
}
