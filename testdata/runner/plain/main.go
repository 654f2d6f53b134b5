// Command plain knows nothing of this module: it runs the service if it is told what to delegate,
// and answers one request on standard input else.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if _, ok := os.LookupEnv("BLUEPRINT_FAAS_CONFIG"); !ok {
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(`{"job_id":1,"success":true,"result":[106,111,98]}`)
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	f, err := os.OpenFile(os.Getenv("FACTS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(f, "runner %d [%s]\n", os.Getpid(), strings.Join(os.Args[1:], " "))
	<-stop
	fmt.Fprintln(f, "stopped")
}
