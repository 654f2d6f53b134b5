//go:build unix

package load

import (
	"bytes"
	"context"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load/floor"
)

// Codec is the contender of large calls that only parses a request, copies its arguments, and
// writes the answer.
const Codec = "codec and copy"

// addLarge adds the contenders of large calls.
func (f *Field) addLarge(ctx context.Context) error {
	args := bytes.Repeat([]byte{0, 7, 42, 99, 100, 200, 255, 1}, floor.LargePayload/8)
	p, err := startPipe(f.worker, len(args))
	if err != nil {
		return err
	}
	f.onClose(p.close)
	var mu sync.Mutex
	request := faas.AppendRequest(nil, floor.JobEcho, args)
	parsed, output, answer := []byte(nil), make([]byte, len(args)), []byte(nil)
	f.Large = []Contender{
		{Pipe, "the bytes there and back over two blocking pipes", func() error {
			mu.Lock()
			defer mu.Unlock()
			return p.roundTrip()
		}},
		f.inProcess(ctx, args),
		{Codec, "the JSON of the request parsed, the bytes copied, and the JSON of the answer written, all in memory and " +
			"in kept buffers", func() (err error) {
			mu.Lock()
			defer mu.Unlock()
			if _, parsed, err = faas.ParseRequest(parsed[:0], request); err != nil {
				return err
			}
			copy(output, parsed)
			answer = faas.AppendResponse(answer[:0], &faas.Response{Result: output, Success: true})
			return nil
		}},
		f.overHTTP(Empty, "the empty handler with as much", f.emptyURL, "empty", args),
		f.overHTTP(HTTP, "the platform over HTTP with as much", f.url, "warm", args),
	}
	return nil
}
