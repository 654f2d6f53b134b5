package job_test

import (
	"bytes"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestTheResponseTellsThePeakMemory(t *testing.T) {
	peak := func(allocate uint64) uint32 {
		cmd, log := binaryCmd(t)
		cmd.Stdin = bytes.NewReader(request(touches, uint64Bytes(allocate)))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, log)
		}
		var answer faas.Response
		if err := faas.ParseResponse(bytes.TrimSpace(out), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.MemoryUsedMB
	}
	little, much := peak(0), peak(100<<20)
	if little == 0 || much < 100 || much <= little { // no upper bound: the race detector has memory of its own
		t.Errorf("%d MiB, and %d MiB with 100 MiB more in use", little, much)
	}
}
