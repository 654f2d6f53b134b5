package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// The jobs of the example's blueprint.
const (
	jobSquare = 0
	jobHash   = 1
	jobTotal  = 2
)

var jobNames = map[uint32]string{jobSquare: "square", jobHash: "hash", jobTotal: "total"}

// jobs are the blueprint's handlers. The third keeps a running total in its process. So it is
// stateful, and stateful jobs do not fit FaaS.
func jobs() job.Handlers {
	var total atomic.Uint64
	return job.Handlers{
		jobSquare: func(_ context.Context, args []byte) ([]byte, error) {
			n, err := number(args)
			if err != nil {
				return nil, err
			}
			return encode(n * n), nil
		},
		jobHash: func(_ context.Context, args []byte) ([]byte, error) {
			sum := sha256.Sum256(args)
			for range 20_000 {
				sum = sha256.Sum256(sum[:])
			}
			return sum[:4], nil
		},
		jobTotal: func(_ context.Context, args []byte) ([]byte, error) {
			n, err := number(args)
			if err != nil {
				return nil, err
			}
			return encode(total.Add(n)), nil
		},
	}
}

func number(args []byte) (uint64, error) {
	if len(args) != 8 {
		return 0, fmt.Errorf("a number is 8 bytes, little-endian; got %d bytes", len(args))
	}
	return binary.LittleEndian.Uint64(args), nil
}

func encode(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
