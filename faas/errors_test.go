package faas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorsSayWhatFailedForWhomAndWhatIsLeft(t *testing.T) {
	inner := JobErrorf(ErrThrottled, "invoke", "custom", 3, "429 Too Many Requests")
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{JobID: NoJob, Code: ErrInternal}, "faas: internal"},
		{&Error{Op: "deploy", JobID: 0, Code: ErrConflict}, "faas: deploy: job 0: conflict"},
		{inner, "faas: invoke: custom: job 3: 429 Too Many Requests"},
		{Errorf(ErrInvalidArgument, "open", "custom", "endpoint %q", "x"), `faas: open: custom: endpoint "x"`},
		{Errorf(ErrUnavailable, "deploy", "", "%w", inner), "faas: deploy: invoke: custom: job 3: 429 Too Many Requests"},
		{&Error{Op: "deploy", JobID: NoJob, Code: ErrInternal, Err: io.ErrUnexpectedEOF,
			Leftovers: []string{"arn:a", "arn:b"}},
			"faas: deploy: unexpected EOF; left behind: arn:a, arn:b"},
		{&Error{Op: "invoke", JobID: 1, Code: ErrFunctionFailed,
			Err: &FunctionError{Type: "exit", Message: "it ended", ExitCode: 3, LogTail: "first\nlast\n"}},
			"faas: invoke: job 1: function failed (exit): it ended (exit code 3); last log line: last"},
		{&Error{Op: "invoke", JobID: 1, Code: ErrFunctionFailed, Err: &FunctionError{}},
			"faas: invoke: job 1: function failed"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestErrorsAreFoundByCodeAndByCause(t *testing.T) {
	cause := &FunctionError{Type: "panic"}
	err := fmt.Errorf("while testing: %w", &Error{
		Op: "invoke", JobID: 1, Code: ErrFunctionFailed, Err: fmt.Errorf("wrapped: %w", cause)})
	if !errors.Is(err, ErrFunctionFailed) || errors.Is(err, ErrNotFound) {
		t.Errorf("errors.Is does not follow the code of %v", err)
	}
	var found *FunctionError
	if !errors.As(err, &found) || found != cause {
		t.Errorf("errors.As does not find the cause of %v", err)
	}
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{nil, ""},
		{err, ErrFunctionFailed},
		{errors.Join(io.EOF, Errorf(ErrConflict, "deploy", "", "x")), ErrConflict},
		{Errorf(ErrConflict, "deploy", "", "%w", Errorf(ErrNotFound, "observe", "", "x")), ErrConflict},
		{ErrTooLarge, ErrTooLarge},
		{fmt.Errorf("x: %w", ErrTooLarge), ErrTooLarge},
		{context.DeadlineExceeded, ErrTimeout},
		{fmt.Errorf("x: %w", context.Canceled), ErrTimeout},
		{io.EOF, ErrInternal},
	} {
		if got := CodeOf(tt.err); got != tt.want {
			t.Errorf("CodeOf(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
