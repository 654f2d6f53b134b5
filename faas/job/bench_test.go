package job_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// BenchmarkHTTP makes one invocation after another over a kept connection. Its floor is a
// net/http handler that only reads and answers. Client and server share the process.
func BenchmarkHTTP(b *testing.B) {
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte(`{"job_id":0,"result":[0,0,0,0,0,0,0,0],"success":true,"execution_ms":0.001}`))
	}))
	defer empty.Close()
	base, stop := runHTTP(b, job.Handlers{square: func(_ context.Context, args []byte) ([]byte, error) {
		return args, nil
	}})
	defer func() {
		if err := stop(); err != nil {
			b.Error(err)
		}
	}()
	body := request(square, uint64Bytes(12))
	for _, contender := range []struct{ name, url string }{{"floor", empty.URL}, {"job", base}} {
		b.Run(contender.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.Post(contender.url, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
