//go:build unix

// Command compare runs all contenders of package load in turns and prints, as Markdown, how they
// compare. It needs nothing but Go, and takes a few minutes:
//
//	go run ./faas/platform/internal/load/compare
//
// On a busy machine, "chrt -r 10 go run ./internal/load/compare" (as root) keeps other programs out
// of the way. With -wrk, wrk repeats a part of the calls over HTTP, as a second opinion on the
// generator.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load"
)

func main() {
	rounds := flag.Int("rounds", 9, "how often everybody has a turn; the tables show medians")
	turn := flag.Duration("turn", 200*time.Millisecond, "how long a turn is")
	pinned := flag.Bool("pinned", false, "only the comparison on one processor, the one that this program may use")
	wrk := flag.Bool("wrk", false, "let wrk call, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *turn, *pinned, *wrk); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, turn time.Duration, pinned, wrk bool) (err error) {
	f, err := load.NewField(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if pinned {
		return small(ctx, f, []int{1, 64}, rounds, turn)
	}
	fmt.Printf("%s, %d processors, %s, %s\n\n", machine(), runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH,
		runtime.Version())
	for _, c := range f.Contenders {
		fmt.Printf("- *%s*: %s\n", c.Name, c.About)
	}
	fmt.Println("\n### Small calls")
	if err := small(ctx, f, []int{1, 8, 64}, rounds, turn); err != nil {
		return err
	}
	if wrk {
		if err := callWithWrk(ctx, f); err != nil {
			return err
		}
	}
	fmt.Println("\n### Small calls, everything on one processor")
	if err := runPinned(ctx, rounds, turn); err != nil {
		return err
	}
	fmt.Println("\n### 4 MiB there and back")
	if err := large(ctx, f, rounds, turn); err != nil {
		return err
	}
	fmt.Println("\n### Deployment, to the first answer")
	return deployments(ctx, f, rounds)
}

// runPinned runs this program again on one processor. It has to be a new process, because Go looks
// at the limit only when it starts.
func runPinned(ctx context.Context, rounds int, turn time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		fmt.Println("\n(taskset is not installed)")
		return nil
	}
	cmd := exec.CommandContext(ctx, taskset, "-c", "0", self, "-pinned", fmt.Sprintf("-rounds=%d", rounds),
		fmt.Sprintf("-turn=%v", turn))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// machine returns the name of the processor, if the system reports one.
func machine() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// callWithWrk repeats the comparison over HTTP at 64 connections with wrk as the client.
func callWithWrk(ctx context.Context, f *load.Field) error {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return fmt.Errorf("wrk: %w", err)
	}
	script, err := f.WrkScript()
	if err != nil {
		return err
	}
	for name, url := range f.URLs() {
		out, err := exec.CommandContext(ctx, path, "-t1", "-c64", "-d3s", "-s", script, url).CombinedOutput()
		if err != nil {
			return fmt.Errorf("wrk: %w: %s", err, out)
		}
		fmt.Printf("\n%s, by wrk:\n\n```\n%s```\n", name, out)
	}
	return nil
}
