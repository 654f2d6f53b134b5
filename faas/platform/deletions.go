package platform

import (
	"crypto/rand"
	"strconv"
	"sync"
)

// maxDeletions bounds the number of ids whose deletions are remembered.
const maxDeletions = 10_000

// deletions remembers deletions, whether or not the function existed. A client that gives up a PUT
// deletes the function; if the PUT arrives afterwards, or is still arriving, it must not bring the
// function back. The zero value is ready to use.
type deletions struct {
	mu    sync.Mutex
	epoch string
	times map[string]uint64
}

// add records a deletion.
func (d *deletions) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.times) >= maxDeletions { // what was forgotten must not look as if it had not been
		d.times, d.epoch = nil, ""
	}
	if d.times == nil {
		d.times = map[string]uint64{}
	}
	d.times[id]++
}

// revision names the absence of a function. It changes with every deletion.
func (d *deletions) revision(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == "" {
		d.epoch = rand.Text()[:10]
	}
	return "none-" + d.epoch + "-" + strconv.FormatUint(d.times[id], 10)
}
