package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// A long call that started before the back-off may be throttled after it.
func TestALateThrottledCallIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newThrottle()
		throttled := faas.Errorf(faas.ErrThrottled, "deploy", "test", "slow down")
		long := time.Now()
		time.Sleep(time.Second)
		g.again(throttled, time.Now(), 1, writes)
		for g.delay > 0 {
			g.again(nil, time.Now(), 1, writes)
		}
		if _, again := g.again(throttled, long, 1, writes); !again {
			t.Error("the call is not repeated")
		}
	})
}
