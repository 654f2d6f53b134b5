package platform

import (
	"crypto/rand"
	"strconv"
	"sync"
)

// maxDeletions bounds for how many ids deletions are remembered.
const maxDeletions = 10_000

// deletions remember what was deleted, whether it was there or not. A client that has given up a PUT deletes the function; if the PUT arrives after that, or is still being
// received, it must not bring the function back. The zero value is ready.
type deletions struct {
	mu    sync.Mutex
	epoch string
	times map[string]uint64
}

// add takes note of a deletion.
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

// revision names the absence of a function: it changes with every deletion.
func (d *deletions) revision(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == "" {
		d.epoch = rand.Text()[:10]
	}
	return "none-" + d.epoch + "-" + strconv.FormatUint(d.times[id], 10)
}
