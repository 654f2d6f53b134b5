package custom

import (
	"errors"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// How long a request is sent again. A platform that cannot be reached is probably not where it is
// looked for; one that answers that it is unavailable will be back, and if it says when, it is
// waited for until then.
const (
	firstWait   = 100 * time.Millisecond // each wait is twice the one before
	longestWait = 5 * time.Second

	unreachableTries = 4
	unavailableTime  = 30 * time.Second
	announcedTime    = 2 * time.Minute // as long as the platform names its time with Retry-After
)

// patience is what is left of the patience with one request.
type patience struct {
	begun       time.Time
	wait        time.Duration
	unreachable int // times in a row
}

func newPatience() *patience { return &patience{begun: time.Now(), wait: firstWait} }

// next returns how long to wait before a request that failed is sent again, and whether it should
// be. A time that the platform asks for is kept, or, if it is too long, not waited for at all.
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
