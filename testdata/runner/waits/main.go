// Command waits is a blueprint's binary as many are written: it runs the service if it is told what
// to delegate, and is a job binary else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

func main() {
	if os.Getenv("BLUEPRINT_FAAS_CONFIG") == "" {
		job.Main(job.Handlers{1: func(context.Context, []byte) ([]byte, error) { return []byte("job"), nil }})
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("the service is up")
	f, err := os.OpenFile(os.Getenv("FACTS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(f, "runner %d [%s]\n", os.Getpid(), strings.Join(os.Args[1:], " "))
	<-stop
	fmt.Fprintln(f, "stopped")
}
