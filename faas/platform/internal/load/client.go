//go:build unix

package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

// client posts the same request again and again over kept connections. An http.Client would cost so
// much itself that it would hide what is measured.
type client struct {
	host    string
	request []byte
	idle    chan *conn
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

// maxIdle is how many connections a client keeps.
const maxIdle = 256

// newClient returns a client that posts args to path at the server host:port.
func newClient(host, path string, args []byte) *client {
	body := faas.AppendRequest(nil, floor.JobEcho, args)
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: "+
		"%d\r\n\r\n%s", path, host, len(body), body)
	return &client{host: host, request: request, idle: make(chan *conn, maxIdle)}
}

// call sends the request and reads the answer, which must have status 200 and a Content-Length.
func (c *client) call() error {
	var cn *conn
	select {
	case cn = <-c.idle:
	default:
		raw, err := net.Dial("tcp", c.host)
		if err != nil {
			return err
		}
		cn = &conn{raw, bufio.NewReaderSize(raw, 4096)}
	}
	if err := cn.roundTrip(c.request); err != nil {
		return errors.Join(err, cn.Close())
	}
	select {
	case c.idle <- cn:
		return nil
	default:
		return cn.Close()
	}
}

func (c *conn) roundTrip(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("the answer begins %q", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if length < 0 {
		return errors.New("the answer has no Content-Length")
	}
	_, err := c.r.Discard(length)
	return err
}

func (c *client) close() {
	for {
		select {
		case cn := <-c.idle:
			_ = cn.Close()
		default:
			return
		}
	}
}

// URLs returns the addresses of the contenders over HTTP, for a comparison with wrk.
func (f *Field) URLs() map[string]string {
	return map[string]string{Empty: f.emptyURL + floor.InvokePath("empty"), HTTP: f.url + floor.InvokePath("warm")}
}

// WrkScript writes a script that makes wrk send the same requests, and returns its path.
func (f *Field) WrkScript() (string, error) {
	path := filepath.Join(f.dir, "call.lua")
	text := fmt.Sprintf("wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = '%s'\n",
		faas.AppendRequest(nil, floor.JobEcho, floor.Args))
	return path, os.WriteFile(path, []byte(text), 0o600)
}
