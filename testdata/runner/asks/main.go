// Command asks is a blueprint's binary as faas/job documents it: a job handler if one is asked for,
// and the service else.
package main

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func main() {
	if job.Requested() {
		job.Main(job.Handlers{1: func(context.Context, []byte) ([]byte, error) { return []byte("job"), nil }})
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fact("runner " + strconv.Itoa(os.Getpid()) + " [" + strings.Join(os.Args[1:], " ") + "]\n")
	if os.Getenv("BLUEPRINT_FAAS_CONFIG") == "" {
		fact("without a configuration\n")
	}
	<-ctx.Done()
	fact("stopped\n")
}

func fact(text string) {
	f, err := os.OpenFile(os.Getenv("FACTS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		os.Exit(4)
	}
	_ = f.Close()
}
