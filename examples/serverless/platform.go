package main

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// startPlatform serves the embedded platform on a free port of the loopback interface.
func startPlatform() (endpoint string, stop func() error, err error) {
	p, err := platform.New()
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, p.Close())
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop = func() error {
		err := errors.Join(server.Close(), p.Close())
		if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}
	return "http://" + listener.Addr().String(), stop, nil
}
