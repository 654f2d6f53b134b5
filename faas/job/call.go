package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// job is one handler, and how long it takes.
type job struct {
	id      uint32
	handler Handler
	average atomic.Int64 // of its latest runs, in nanoseconds; 0 before the first
}

// typical returns how long the job took lately, 0 if it has not run yet.
func (j *job) typical() time.Duration { return time.Duration(j.average.Load()) }

// took notes how long a run took. Of notes made at the same moment, some may be lost.
func (j *job) took(d time.Duration) {
	const longest = time.Millisecond // so that a job soon counts as short again after one long run
	d = min(max(d, 1), longest)
	if average := j.typical(); average > 0 {
		d = average - average/4 + d/4
	}
	j.average.Store(int64(max(d, 1)))
}

// failure is why a call has no output.
type failure struct {
	code    frame.FailureCode
	message string
}

// Error makes a failure an error.
func (f *failure) Error() string { return f.message }

// find returns the job, or the failure that there is none.
func (p *process) find(id uint32) (*job, *failure) {
	if j := p.jobs[id]; j != nil {
		return j, nil
	}
	const listed = 20
	ids := slices.Sorted(maps.Keys(p.jobs))
	list := fmt.Sprint(ids)
	if len(ids) > listed {
		list = fmt.Sprintf("%v and %d more", ids[:listed], len(ids)-listed)
	}
	return nil, &failure{frame.UnknownJob, fmt.Sprintf("job %d does not exist (jobs: %s)", id, list)}
}

// run runs the job on this goroutine and calls done exactly once, with the output or the failure,
// even if the handler panics or ends the goroutine with runtime.Goexit. After Goexit run does not
// return.
func (p *process) run(ctx context.Context, j *job, args []byte, done func([]byte, *failure)) {
	returned := false
	defer func() {
		if returned {
			return
		}
		// recover is nil only after runtime.Goexit: a panic with nil arrives as a *runtime.PanicNilError.
		if v := recover(); v != nil {
			p.logf("job %d: panic: %v\n%s", j.id, v, debug.Stack())
			done(nil, &failure{frame.JobPanic, fmt.Sprintf("panic: %v", v)})
			return
		}
		p.logf("job %d: the handler called runtime.Goexit\n%s", j.id, debug.Stack())
		done(nil, &failure{frame.JobPanic, "the handler called runtime.Goexit"})
	}()
	output, err := j.handler(ctx, args)
	returned = true
	if err != nil {
		done(nil, failed(ctx, err))
		return
	}
	done(output, nil)
}

// failed classifies the error of a handler.
func failed(ctx context.Context, err error) *failure {
	if cause := ctx.Err(); cause != nil && errors.Is(err, cause) {
		return &failure{frame.Cancelled, err.Error()}
	}
	return &failure{frame.JobFailed, err.Error()}
}

// await runs the job on a goroutine of its own, so that runtime.Goexit in it does not end the
// caller's, and waits for it as long as it takes: only the handler can heed ctx.
func (p *process) await(ctx context.Context, id uint32, args []byte) (output []byte, took time.Duration,
	fail *failure) {
	j, fail := p.find(id)
	if fail != nil {
		return nil, 0, fail
	}
	finished := make(chan struct{})
	start := time.Now()
	go p.run(ctx, j, args, func(out []byte, f *failure) {
		took = time.Since(start)
		output, fail = out, f
		close(finished)
	})
	<-finished
	return output, took, fail
}
