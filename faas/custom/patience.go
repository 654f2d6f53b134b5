package custom

import (
	"errors"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// How long a request is repeated. A platform that cannot be reached is probably not at that
// address. One that answers that it is unavailable will be back; if it says when, requests wait
// until then.
const (
	firstWait   = 100 * time.Millisecond // each wait is twice the one before
	longestWait = 5 * time.Second

	unreachableTries = 4
	unavailableTime  = 30 * time.Second
	announcedTime    = 2 * time.Minute // as long as the platform names its time with Retry-After
)

// patience is what remains of the patience with one request.
type patience struct {
	begun       time.Time
	wait        time.Duration
	unreachable int // times in a row
}

func newPatience() *patience { return &patience{begun: time.Now(), wait: firstWait} }

// next returns how long to wait before a failed request is repeated, and whether to repeat it. It
// keeps to the time that the platform asks for, or does not repeat at all if that is too long.
func (p *patience) next(err error) (time.Duration, bool) {
	wait := p.wait
	p.wait = min(2*p.wait, longestWait)
	var failed *faas.Error
	if !errors.As(err, &failed) {
		return 0, false
	}
	if statusOf(err) == 0 && failed.RetryAfter == 0 {
		p.unreachable++
		return wait, p.unreachable < unreachableTries
	}
	p.unreachable = 0
	left := unavailableTime - time.Since(p.begun)
	if failed.RetryAfter > 0 {
		wait, left = max(wait, failed.RetryAfter), announcedTime-time.Since(p.begun)
	}
	return wait, wait <= left
}
