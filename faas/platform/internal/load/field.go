//go:build unix

package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/klauspost/compress/zip"

	"github.com/tangle-network/blueprint-serverless/faas/platform"
	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

// The names of the contenders.
const (
	Empty     = "empty handler"
	HTTP      = "platform over HTTP"
	InProcess = "platform in process"
	Pipe      = "pipe"
	Proxy     = "reverse proxy"
	Spawn     = "spawn per call"
)

// Contender is one way to run the job.
type Contender struct {
	Name  string
	About string // what it is, in a sentence
	// Call runs the job once on [floor.Args]. It is safe for concurrent use.
	Call func() error
}

// Field is all contenders, ready to run.
type Field struct {
	Contenders []Contender // of small calls
	Large      []Contender // of calls with [floor.LargePayload] bytes there and back
	Program    []byte      // the job binary that all of them run

	platform *platform.Platform
	url      string // of the platform, as http://host:port
	emptyURL string
	dir      string
	worker   string // path of Program
	client   http.Client
	closers  []func() error
}

// NewField builds the worker program and starts all contenders. The caller must call Close.
func NewField(ctx context.Context) (_ *Field, err error) {
	f := &Field{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	dir, err := os.MkdirTemp("", "blueprint-load-")
	if err != nil {
		return nil, err
	}
	f.dir = dir
	f.onClose(func() error { return os.RemoveAll(dir) })
	f.onClose(func() error { f.client.CloseIdleConnections(); return nil })
	if f.worker, err = buildWorker(dir); err != nil {
		return nil, err
	}
	if f.Program, err = os.ReadFile(f.worker); err != nil {
		return nil, err
	}
	for _, add := range []func(context.Context) error{f.addEmpty, f.addPlatform, f.addPipe, f.addProxy, f.addLarge} {
		if err := add(ctx); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Field) onClose(do func() error) { f.closers = append(f.closers, do) }

// Close ends everything that the field started.
func (f *Field) Close() error {
	var errs []error
	for i := len(f.closers) - 1; i >= 0; i-- {
		errs = append(errs, f.closers[i]())
	}
	f.closers = nil
	return errors.Join(errs...)
}

// overHTTP returns a contender behind a net/http server.
func (f *Field) overHTTP(name, about, url, function string, args []byte) Contender {
	c := newClient(strings.TrimPrefix(url, "http://"), floor.InvokePath(function), args)
	f.onClose(func() error { c.close(); return nil })
	return Contender{name, about, c.call}
}

// inProcess returns a contender without HTTP.
func (f *Field) inProcess(ctx context.Context, args []byte) Contender {
	return Contender{InProcess, "(*Platform).Invoke, warm, without HTTP", func() error {
		r, err := f.platform.Invoke(ctx, "warm", floor.JobEcho, args)
		if err == nil && len(r.Output) != len(args) {
			err = fmt.Errorf("the output has %d bytes", len(r.Output))
		}
		return err
	}}
}

// serve starts a net/http server for h alone.
func (f *Field) serve(h http.Handler) (url string) {
	s := httptest.NewServer(h)
	f.onClose(func() error { s.Close(); return nil })
	return s.URL
}

func (f *Field) addEmpty(context.Context) error {
	f.emptyURL = f.serve(floor.EmptyHandler())
	f.Contenders = append(f.Contenders, f.overHTTP(
		Empty, "a ServeMux handler that reads and answers the same JSON and runs nothing", f.emptyURL, "empty", floor.Args))
	return nil
}

func (f *Field) addPlatform(ctx context.Context) error {
	p, err := platform.New()
	if err != nil {
		return err
	}
	f.platform = p
	f.onClose(p.Close)
	f.url = f.serve(p)
	for id, program := range map[string][]byte{"warm": f.Program, "spawn": unmarked(f.Program)} {
		pkg, err := packageOf(program, zip.Store)
		if err != nil {
			return err
		}
		if err := f.Deploy(ctx, id, pkg); err != nil {
			return err
		}
	}
	f.Contenders = append(f.Contenders,
		f.overHTTP(HTTP, "the platform as the handler of a net/http server, warm", f.url, "warm", floor.Args),
		f.inProcess(ctx, floor.Args),
		f.overHTTP(Spawn, "the platform with a binary that is started for every call", f.url, "spawn", floor.Args))
	return nil
}

func (f *Field) addPipe(context.Context) error {
	p, err := startPipe(f.worker, floor.PingSize)
	if err != nil {
		return err
	}
	f.onClose(p.close)
	var mu sync.Mutex
	f.Contenders = append(f.Contenders, Contender{
		Pipe, "a frame there and back over two blocking pipes, one at a time: the floor of a process boundary", func() error {
			mu.Lock()
			defer mu.Unlock()
			return p.roundTrip()
		}})
	return nil
}

// addProxy adds the strategy of of-watchdog's http mode: the function is an HTTP server of its own
// behind a reverse proxy with kept connections.
func (f *Field) addProxy(context.Context) error {
	cmd := exec.Command(f.worker)
	cmd.Env = []string{floor.ModeEnv + "=" + floor.ModeHTTP}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.onClose(func() error { return errors.Join(stdin.Close(), cmd.Wait()) })
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the worker behind the proxy said no address: %w", err)
	}
	target, err := url.Parse("http://" + strings.TrimSpace(address))
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, DisableCompression: true}
	f.onClose(func() error { transport.CloseIdleConnections(); return nil })
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport}
	f.Contenders = append(f.Contenders, f.overHTTP(
		Proxy, "httputil.ReverseProxy before a net/http server in a process of its own, as of-watchdog does it",
		f.serve(proxy), "proxied", floor.Args))
	return nil
}
