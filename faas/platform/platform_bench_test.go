//go:build unix

package platform

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"
)

// benchArgs are the arguments of a small call.
var benchArgs = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// BenchmarkIdleFunctions reports the cost of a deployed function that nobody calls.
func BenchmarkIdleFunctions(b *testing.B) {
	p, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	zip := scriptZip(b, "true")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		n++
		d := &deployment{record: record{ID: fmt.Sprintf("f%d", n), Config: config{MemoryMB: 128, TimeoutSecs: 1}},
			pkg: bytes.NewReader(zip)}
		if _, err := p.deploy(context.Background(), d); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "heap-B/function")
}
