package main

import (
	"context"
	"net"
	"net/http"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// recording serves the recorded answers of a real contract on loopback until stop is called. It
// returns the options that read them.
func recording(ctx context.Context) (options []serverless.FetchOption, stop func(), err error) {
	recorded, err := tangletest.Read("gen-D")
	if err != nil {
		return nil, nil, err
	}
	node, err := tangletest.NewNode(recorded)
	if err != nil {
		return nil, nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{Handler: node, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // returns when the server is closed
	}()
	stop = func() {
		_ = server.Close()
		<-served
	}
	return []serverless.FetchOption{
		serverless.WithRPC("http://" + listener.Addr().String()), serverless.WithContract(node.Contract.String()),
	}, stop, nil
}
