//go:build unix

package procstat

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// touch takes memory of which neither the collector nor the race detector knows.
func touch(bytes int) []byte {
	held, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	return held
}

func TestMemoryIsTheChildsAndNotTheParents(t *testing.T) {
	measure := func() uint64 {
		t.Helper()
		most := uint64(0)
		for range 3 { // as a profile does, and for the same reason: one reading may come early
			usage, err := Run(t.Context(), spec(t, "take 48"))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d MiB, upper bound %v, %v", usage.PeakMemory>>20, usage.UpperBound, usage.Duration)
			most = max(most, usage.PeakMemory)
		}
		return most
	}
	before := measure()
	fat := touch(256 << 20)
	defer func() {
		if err := syscall.Munmap(fat); err != nil {
			t.Error(err)
		}
	}()
	after := measure()
	const low, high = 48 << 20, 200 << 20 // the upper bound leaves room for the race detector
	if before < low || before > high {
		t.Errorf("from a small parent: %d bytes", before)
	}
	if after < low || after > high {
		t.Errorf("from a parent with 256 MiB: %d bytes", after)
	}
}

func TestWhatAProcessLeavesRunningIsKilled(t *testing.T) {
	usage, err := Run(t.Context(), spec(t, "fork"))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(usage.Output), ";")
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(number), "ready"))
	if err != nil {
		t.Fatalf("output %q", usage.Output)
	}
	// Whoever adopts an orphan reaps it after a moment.
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		if zombie(pid) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("it lives on")
		case <-time.After(time.Millisecond):
		}
	}
}
