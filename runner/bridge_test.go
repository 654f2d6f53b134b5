package runner

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// socketPath returns a path that is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bridge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// startBridge is the manager's bridge, with a gRPC server that is not ours. It answers pings with
// an error of the code.
func startBridge(t *testing.T, path string, code codes.Code) (pings chan struct{}) {
	t.Helper()
	pings = make(chan struct{}, 100)
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "blueprint_manager_bridge.BlueprintManagerBridge", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Ping",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := decode(&emptypb.Empty{}); err != nil {
					return nil, err
				}
				pings <- struct{}{}
				if code != codes.OK {
					return nil, status.Error(code, "no")
				}
				return &emptypb.Empty{}, nil
			}}},
	}, nil)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return pings
}

func TestTheBridgeIsCalledAsGRPCWantsIt(t *testing.T) {
	path := socketPath(t)
	pings := startBridge(t, path, codes.OK)
	if err := ping(t.Context(), path); err != nil {
		t.Error(err)
	}
	if len(pings) != 1 {
		t.Errorf("%d pings arrived", len(pings))
	}
	refusing := socketPath(t)
	startBridge(t, refusing, codes.Unavailable)
	if err := ping(t.Context(), refusing); err == nil || !strings.Contains(err.Error(), `grpc status "14"`) {
		t.Errorf("refused: %v", err)
	}
}

func TestTheBridgeMayComeLater(t *testing.T) {
	path := socketPath(t)
	var log bytes.Buffer
	waits := make(chan struct{}, 100)
	logger := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		log.Write(b)
		waits <- struct{}{}
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ended := make(chan error, 1)
	go func() { ended <- knock(t.Context(), path, time.Minute, logger) }()
	<-waits
	pings := startBridge(t, path, codes.OK)
	if err := <-ended; err != nil || len(pings) != 1 {
		t.Errorf("got %v after %d pings", err, len(pings))
	}
	if !strings.Contains(log.String(), "does not answer yet") || !strings.Contains(log.String(), "bridge answered") {
		t.Errorf("logged: %s", log.String())
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

func TestABridgeThatNeverComesIsGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := knock(t.Context(), path, bridgePatience, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != bridgePatience {
			t.Errorf("gave up after %v, want %v", took, bridgePatience)
		}
	})
}

// The manager's gRPC server need not be as lenient as the one above.
func TestTheBridgesRequestIsComplete(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/blueprint_manager_bridge.BlueprintManagerBridge/Ping" ||
			r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("TE") != "trailers" ||
			string(body) != "\x00\x00\x00\x00\x00" || err != nil {
			t.Errorf("got %s %s %s %v %x, %v", r.Proto, r.Method, r.URL, r.Header, body, err)
		}
		w.Header().Set("Grpc-Status", "0")
	}
	if err := ping(t.Context(), serveBridge(t, answer)); err != nil {
		t.Error(err)
	}
}

// serveBridge lets an HTTP server answer in the place of a bridge.
func serveBridge(t *testing.T, answer http.HandlerFunc) (path string) {
	t.Helper()
	path = socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: answer, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return path
}

// What answers need not be the bridge.
func TestAStrangeBridgeIsAnError(t *testing.T) {
	for _, tt := range []struct {
		answer http.HandlerFunc
		want   string
	}{
		{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "status 404"},
		{func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "not one of gRPC"},
		{func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Grpc-Status", "12") }, `grpc status "12"`},
		{func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Grpc-Status", "0") }, ""},
	} {
		err := ping(t.Context(), serveBridge(t, tt.answer))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("want %q, got %v", tt.want, err)
		}
	}
}
