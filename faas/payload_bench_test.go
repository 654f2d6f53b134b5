package faas

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
)

var payloadSizes = []int{1 << 10, 64 << 10, 4 << 20}

func randomBytes(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// jsonRequest has a list of numbers, because encoding/json would write a []byte as base64.
type jsonRequest struct {
	JobID uint32   `json:"job_id"`
	Args  []uint16 `json:"args"`
}

func sizeName(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dMB", n>>20)
	}
	return fmt.Sprintf("%dKB", n>>10)
}

func BenchmarkParseRequest(b *testing.B) {
	for _, size := range payloadSizes {
		body := AppendRequest(nil, 7, randomBytes(size))
		b.Run(sizeName(size)+"/faas", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var args []byte
			for b.Loop() {
				var err error
				if _, args, err = ParseRequest(args[:0], body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(sizeName(size)+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var r jsonRequest
			for b.Loop() {
				r.Args = r.Args[:0]
				if err := json.Unmarshal(body, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	for _, size := range payloadSizes {
		args := randomBytes(size)
		wide := make([]uint16, size)
		for i, c := range args {
			wide[i] = uint16(c)
		}
		text := AppendRequest(nil, 7, args)
		b.Run(sizeName(size)+"/faas", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = AppendRequest(buf[:0], 7, args)
			}
		})
		b.Run(sizeName(size)+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(jsonRequest{7, wide}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The floor of the compact form is encoding/base64 into a buffer of the right size.
func BenchmarkAppendCompactRequest(b *testing.B) {
	for _, size := range payloadSizes {
		args := randomBytes(size)
		var buf []byte
		b.Run(sizeName(size)+"/faas", func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendCompactRequest(buf[:0], 7, args)
			}
		})
		b.Run(sizeName(size)+"/floor", func(b *testing.B) {
			b.SetBytes(int64(size))
			buf = make([]byte, base64.StdEncoding.EncodedLen(size))
			for b.Loop() {
				base64.StdEncoding.Encode(buf, args)
			}
		})
	}
}

func BenchmarkParseCompactRequest(b *testing.B) {
	for _, size := range payloadSizes {
		body := AppendCompactRequest(nil, 7, randomBytes(size))
		text := base64.StdEncoding.AppendEncode(nil, randomBytes(size))
		args := make([]byte, size+8)
		b.Run(sizeName(size)+"/faas", func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if _, args, _, err = ParseAnyRequest(args[:0], body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(sizeName(size)+"/floor", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := base64.StdEncoding.Decode(args[:cap(args)], text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseResponse(b *testing.B) {
	body := AppendResponse(nil, &Response{JobID: 7, Result: randomBytes(64 << 10), Success: true, ExecutionMS: 1.25})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var r Response
	for b.Loop() {
		if err := ParseResponse(body, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// Python clients put a space after each comma by default.
func BenchmarkParseRequestSpaced(b *testing.B) {
	body := []byte(`{"job_id": 7, "args": [0`)
	for _, c := range randomBytes(64 << 10) {
		body = fmt.Appendf(body, ", %d", c)
	}
	body = append(body, "]}"...)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var args []byte
	for b.Loop() {
		var err error
		if _, args, err = ParseRequest(args[:0], body); err != nil {
			b.Fatal(err)
		}
	}
}
