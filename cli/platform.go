package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// tokenEnv is the variable with the token that requests need. Other users could read a flag.
const tokenEnv = "PLATFORM_TOKEN"

func (a *app) platformCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "platform", Short: "Serve the embedded platform until interrupted",
		Long: `Serves the embedded FaaS platform. The platform runs what is deployed to it on this machine and does
not sandbox it: deploy there only code that you would run yourself. Any address except a loopback one
needs a token in $PLATFORM_TOKEN.`,
		Example: "  tangle-cloud platform\n  tangle-cloud platform --listen 127.0.0.1:0 --dir functions --json",
		Args:    cobra.NoArgs,
	}
	listen := cmd.Flags().String("listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	dir := cmd.Flags().String("dir", "", "`directory` that keeps the functions over a restart (default: they are gone "+
		"with the program)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		var opts []platform.Option
		if !a.quiet {
			opts = append(opts, platform.WithLogger(slog.New(slog.NewTextHandler(a.log, nil))))
		}
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
			return faas.Errorf(faas.ErrInvalidArgument, "serve platform", "", "--listen: %w", err)
		}
		url := "http://" + listener.Addr().String()
		if a.json {
			err = json.NewEncoder(a.out).Encode(map[string]string{"endpoint": url}) // on one line, because the program continues
		} else {
			_, err = fmt.Fprintf(a.out, "listening on %s\n", url)
			a.remark("use it with: tangle-cloud policy --serverless true --faas-provider custom --faas-custom-endpoint %s", url)
		}
		return errors.Join(err, serve(cmd.Context(), p.Server(), listener))
	}
	return cmd
}

// serve serves until ctx is done, which is not an error.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(drain)
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
