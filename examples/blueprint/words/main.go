// Command words is a whole blueprint: two jobs that fit FaaS, and one that remembers what it was
// asked. Started as "words run", with the environment that the ecosystem's manager gives, it takes
// the jobs of a service from the chain and brings their results back. On a FaaS platform the same
// file is the functions.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	_ "github.com/tangle-network/blueprint-serverless/faas/custom" // where its functions may be
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner"
)

func main() {
	var seen atomic.Int64 // in the runner's memory, for as long as it runs
	runner.Main(job.Handlers{
		0: func(_ context.Context, text []byte) ([]byte, error) {
			words := strings.Fields(string(text))
			slices.Sort(words)
			return []byte(strings.Join(words, " ")), nil
		},
		1: func(_ context.Context, text []byte) ([]byte, error) {
			sum := sha256.Sum256(text)
			return []byte(hex.EncodeToString(sum[:4])), nil
		},
		2: func(_ context.Context, text []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%d words so far", seen.Add(int64(len(strings.Fields(string(text)))))), nil
		},
	})
}
