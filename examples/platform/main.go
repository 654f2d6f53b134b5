// Command platform serves the embedded FaaS platform until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// tokenEnv holds the token that requests need, which has no place on a command line.
const tokenEnv = "PLATFORM_TOKEN"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("platform", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080",
		"`address` to listen on; any but a loopback address needs a token in $"+tokenEnv)
	dir := flags.String("dir", "", "`directory` that keeps the functions over a restart; default: they are gone with "+
		"the program")
	if err := flags.Parse(args); err != nil {
		return err
	}
	opts := []platform.Option{platform.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil)))}
	if *dir != "" {
		opts = append(opts, platform.WithDir(*dir))
	}
	if token := os.Getenv(tokenEnv); token != "" {
		opts = append(opts, platform.WithToken(token))
	}
	p, err := platform.New(opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	listener, err := p.Listen(*listen)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := p.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = server.Shutdown(drain)
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
