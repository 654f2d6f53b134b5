package serverless

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// PolicyError says where a policy is wrong. It is the cause, found with errors.As, of the *faas.Error that [LoadPolicy], [Policy.Save] and
// [Policy.Validate] return.
type PolicyError struct {
	Path         string // of the file; empty for a policy that is in no file
	Line, Column int    // in the file, from 1, the column in characters; 0 where the trouble is not in its content
	Field        string // such as "serverless.default_memory_mb"; empty where no field is concerned
	Err          error
}

// Error is path:line:column: field: what is wrong and what to do.
func (e *PolicyError) Error() string {
	var b strings.Builder
	b.WriteString(e.Path)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	for _, part := range []string{e.Field, e.Err.Error()} {
		if b.Len() > 0 && part != "" {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// Unwrap returns what is wrong.
func (e *PolicyError) Unwrap() error { return e.Err }

// policyProblem is something wrong at a path inside the policy.
type policyProblem struct {
	path   []string
	offset int // in the file's content; used by the reader alone
	err    error
}

func problemf(path []string, format string, args ...any) *policyProblem {
	return &policyProblem{path: path, err: fmt.Errorf(format, args...)}
}

func policyErrorf(code faas.Code, op string, cause *PolicyError) error {
	return faas.Errorf(code, op, "", "%w", cause)
}

// fileError classifies an error of the operating system.
func fileError(op, path string, err error) error {
	code := faas.CodeOf(err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		code = faas.ErrPermissionDenied
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		code = faas.ErrInvalidArgument
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok && pathErr.Path == path {
		err = fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err) // the path stands in front already
	}
	return policyErrorf(code, op, &PolicyError{Path: path, Err: err})
}
