package faastest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// largePayload is the size above which -short skips payloads.
const largePayload = 16 << 20

// payloads tests to the byte how much fits, in both forms: with a function that is recorded as
// taking the compact form, and with one that an older version of this module deployed, which
// recorded nothing.
func (s *suite) payloads(t *testing.T) {
	t.Run("Compact", func(t *testing.T) { s.payload(t, true) })
	t.Run("Published", func(t *testing.T) { s.payload(t, false) })
}

func (s *suite) payload(t *testing.T, compact bool) {
	form := map[bool]string{true: "compact", false: "published"}[compact]
	exec := s.open(t, s.service(form))
	units := s.wanted(t, exec, s.functions(JobSquare, JobAnswer))
	for i := range units {
		units[i].Compact = units[i].Compact && compact
	}
	for _, state := range s.converge(t, exec, units) {
		if compact && state.Compact != units[0].Compact {
			t.Fatalf("unit %s takes the compact form, and its state does not say so", state.ID)
		}
	}
	limit := int(s.h.Limits.MaxPayloadMB) << 20
	sized := s.h.MaxBody > 0 || s.h.MaxCompact > 0 // a provider whose errors tell of both forms
	if testing.Short() && limit > largePayload {
		t.Skipf("payloads of %d bytes", limit)
	}
	fits, above := make([]byte, limit), make([]byte, limit+1)
	switch {
	case compact && s.h.MaxCompact > 0:
		fits, above = make([]byte, s.h.MaxCompact), make([]byte, s.h.MaxCompact+1)
	case !compact && s.h.MaxBody > 0:
		fits, above = numbers(JobSquare, s.h.MaxBody), numbers(JobSquare, s.h.MaxBody+1)
		if len(fits) > limit {
			fits, above = fits[:limit], bytes.Repeat([]byte{1}, limit+1)
		}
	}
	t.Run("arguments at the limit arrive", func(t *testing.T) {
		// The job's error says how many bytes it got, because they are too many for it.
		_, err := exec.as(t).Invoke(s.ctx(t), JobSquare, fits)
		s.wantFailed(t, err, fmt.Sprintf("want 8 bytes, got %d", len(fits)))
	})
	t.Run("arguments one byte above are TooLarge before the call", func(t *testing.T) {
		_, err := exec.as(t).Invoke(s.ctx(t), JobSquare, above)
		wantCode(t, err, faas.ErrTooLarge)
		if !asError(err).NotRun {
			t.Error("NotRun is false")
		}
		if !sized {
			return
		}
		says := []string{fmt.Sprintf("%d bytes", len(above))}
		if !compact && s.h.MaxBody > 0 && len(above) <= limit {
			says = append(says, fmt.Sprintf("%d bytes", s.h.MaxBody+1), "faas/job")
		}
		for _, want := range says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
	})
	if !compact && limit > largePayload {
		return // answers as long as that are the compact form's
	}
	// The rest of an answer takes between one byte and slack. A zero in a list takes two characters.
	const slack = 256
	most, more := limit, limit+1
	switch {
	case compact && s.h.MaxCompact > 0:
		most, more = s.h.MaxCompact-slack, s.h.MaxCompact+1
	case !compact && s.h.MaxBody > 0 && s.h.MaxBody/2 < limit:
		most, more = (s.h.MaxBody-slack)/2, s.h.MaxBody/2+1
	}
	t.Run("an answer at the limit arrives", func(t *testing.T) {
		r, err := exec.as(t).Invoke(s.ctx(t), JobAnswer, fmt.Append(nil, most))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Output, make([]byte, most)) {
			t.Errorf("%d bytes came, or others than zeros, want %d zeros", len(r.Output), most)
		}
	})
	t.Run("an answer above is TooLarge, and the job has run", func(t *testing.T) {
		_, err := exec.as(t).Invoke(s.ctx(t), JobAnswer, fmt.Append(nil, more))
		wantCode(t, err, faas.ErrTooLarge)
		if asError(err).NotRun || sized && !strings.Contains(err.Error(), "has run") {
			t.Errorf("NotRun is %t, or it is not said that the job has run: %v", asError(err).NotRun, err)
		}
		var failed *faas.FunctionError
		if errors.As(err, &failed) && failed.ExitCode != 0 {
			t.Errorf("the process ended: %v", err)
		}
	})
}

// numbers returns arguments whose request in the published form has exactly so many bytes.
func numbers(jobID uint32, size int) []byte {
	const three, two = 200, 20 // by their digits
	n := (size - faas.RequestSize(jobID, nil) + 1 + 3) / 4
	args := bytes.Repeat([]byte{three}, n)
	for i := range faas.RequestSize(jobID, args) - size {
		args[i] = two
	}
	return args
}
