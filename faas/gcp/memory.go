//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// memory is what an executor remembers of a unit: what Restore needs and no State may hold, and the
// changes that it has begun.
type memory struct {
	mu       sync.Mutex
	readings []*reading // the last ones, oldest first
	newest   time.Time  // of the changes that were seen
	changed  bool       // this executor has begun a change, or may have
	begun    string     // the operation whose end was not seen; empty: none
	unclear  time.Time  // when a change was sent of which no answer came
	// throttled counts the operations that a rate limit ended.
	throttled int
}

// reading is a function or service as the API once returned it. It holds the environment.
type reading struct {
	revision string
	raw      json.RawMessage
	code     string // label of the package that it runs; empty if that is not certain
	// invokers are those who might invoke it before this executor changed that, or nil if it did not.
	invokers *[]string
	again    string // the revision that Restore made of it
	past     bool   // this executor has begun a change after it, or may have
}

// maxReadings limits how many revisions of a unit are kept. The undo of a failed deployment takes
// only a few.
const maxReadings = 16

// memory returns what is remembered of a unit.
func (e *Executor) memory(id string) *memory {
	m, _ := e.memories.LoadOrStore(id, &memory{})
	return m.(*memory)
}

// keep remembers the present state of a resource.
func (m *memory) keep(got *resource) {
	if got == nil || len(got.raw) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got.updatedAt.After(m.newest) {
		m.newest = got.updatedAt
	}
	if slices.ContainsFunc(m.readings, func(r *reading) bool { return r.revision == got.revision }) {
		return
	}
	one := &reading{revision: got.revision, raw: got.raw}
	if got.status == faas.StatusReady {
		one.code = got.labels[labelPackage]
	}
	m.readings = append(m.readings, one)
	m.readings = m.readings[max(0, len(m.readings)-maxReadings):]
}

// recall returns the reading of a revision, or nil if it is not kept.
func (m *memory) recall(revision string) *reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.readings {
		if r.revision == revision {
			return r
		}
	}
	return nil
}

// sameCode returns the newest reading that has the same code as another one. Google keeps the
// sources of the last few versions, and each update makes a version, including one that restores.
func (m *memory) sameCode(as *reading) *reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range slices.Backward(m.readings) {
		if as.code != "" && r.code == as.code {
			return r
		}
	}
	return as
}

// keepInvokers remembers who could invoke the unit before the first change of that.
func (m *memory) keepInvokers(invokers []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.readings {
		if r.invokers == nil {
			r.invokers = &invokers
		}
	}
}

// begin notes that a change was sent. op is empty if no answer named the operation.
func (m *memory) begin(op string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = true
	for _, r := range m.readings {
		r.past = true
	}
	if m.begun = op; op == "" {
		m.unclear = time.Now()
	}
}

// end notes that the change has ended.
func (m *memory) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = ""
}

// doubts reports whether a change that got no answer may still take effect.
func (m *memory) doubts() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.unclear.IsZero() && time.Since(m.unclear) < doubtTime
}

// isOpen reports whether a change is under way, or got no answer and may still take effect.
func (m *memory) isOpen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun != "" || !m.unclear.IsZero() && time.Since(m.unclear) < doubtTime
}

// trust notes that no change is outstanding.
func (m *memory) trust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unclear = time.Time{}
}

// hasChanged reports whether this executor has begun a change of the unit.
func (m *memory) hasChanged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// isOld reports whether a read shows an older state of the unit than was seen already, because not
// all of Google's replicas are equally new.
func (m *memory) isOld(got *resource) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !got.updatedAt.IsZero() && got.updatedAt.Before(m.newest)
}

// doubtTime is how long a request without an answer may take to have its effect.
const doubtTime = 2 * time.Minute

// finished waits until the change that this executor has begun has ended, with or without success.
// A read does not always show that a change is under way.
func (e *Executor) finished(ctx context.Context, r request, id string) error {
	m := e.memory(id)
	m.mu.Lock()
	begun := m.begun
	m.mu.Unlock()
	if begun == "" {
		return nil
	}
	_, err := e.wait(ctx, r, &operation{Name: begun}, nil)
	if ctx.Err() != nil && faas.CodeOf(err) == faas.ErrTimeout {
		return err
	}
	m.end() // as far as that can be known
	return nil
}
