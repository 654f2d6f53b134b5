//go:build unix

package worker

import (
	"context"
	"os"
	"strings"
	"testing"
)

// Start a process, get its first answer, and end it.
func BenchmarkStart(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range append(modes, "frames in cgroups", "stdio in cgroups") {
		b.Run(mode, func(b *testing.B) {
			mode, groups := strings.CutSuffix(mode, " in cgroups")
			var h *Host
			if groups {
				h, _ = confinedHost(b, HostConfig{})
			} else {
				h = NewHost()
				b.Cleanup(h.Close)
			}
			for b.Loop() {
				p, err := New(Config{Path: exe, Env: []string{"JOB_MODE=" + mode}, Dir: b.TempDir(), Frames: mode != "stdio",
					MemoryMB: 512, Host: h})
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := p.Invoke(context.Background(), jobEcho, []byte("a"), aWhile); err != nil {
					b.Fatal(err)
				}
				if err := p.Close(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
