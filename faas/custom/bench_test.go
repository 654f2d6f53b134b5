package custom_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// BenchmarkInvoke measures what the provider adds to an HTTP request. "floor" is the same exchange
// by a bare client.
func BenchmarkInvoke(b *testing.B) {
	args := make([]byte, 256)
	body, resp := faas.AppendRequest(nil, 0, args), faas.AppendResponse(nil, &faas.Response{Result: args, Success: true})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(resp)
	}))
	defer s.Close()
	b.Run("floor", func(b *testing.B) {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 512
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				resp, err := client.Post(s.URL, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	})
	b.Run("custom", func(b *testing.B) {
		e := open(b, faas.Config{Endpoint: s.URL})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := e.Invoke(b.Context(), 0, args); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
