package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// The manager waits this long for a sign of life of what it started, and then counts the start as
// failed. The margin is for its own clock, which began earlier.
const bridgePatience = 480*time.Second - 30*time.Second

// knock calls Ping of the manager's bridge on its unix socket, until that is answered. An error
// says that nobody answered within patience.
func knock(ctx context.Context, socket string, patience time.Duration, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		err := ping(ctx, socket)
		if err == nil {
			logger.Debug("the manager's bridge answered", "socket", socket)
			return nil
		}
		if ctx.Err() == nil {
			logger.Debug("the manager's bridge does not answer yet", "socket", socket, "reason", err)
		}
		if !httputil.Sleep(ctx, delay) {
			return fmt.Errorf("the manager's bridge at %s did not answer: %w", socket, err)
		}
	}
}

// ping makes the one gRPC call that the manager waits for. Its request and its answer are empty, so
// it needs no gRPC library.
func ping(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		Protocols: &plain,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	defer t.CloseIdleConnections()
	const method = "/blueprint_manager_bridge.BlueprintManagerBridge/Ping"
	// One message that is not compressed and has no bytes.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bridge"+method, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("TE", "trailers")
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const most = 1 << 20
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, most)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" { // an answer without a message has its trailers in the header
		status = resp.Header.Get("Grpc-Status")
	}
	switch status {
	case "0":
		return nil
	case "":
		return errors.New("the answer is not one of gRPC")
	default:
		return fmt.Errorf("grpc status %.10q", status)
	}
}
