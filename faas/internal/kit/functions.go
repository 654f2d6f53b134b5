package kit

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// FunctionRules say which functions a provider accepts, beyond its faas.Limits.
type FunctionRules struct {
	Provider    string // its registered name
	MinMemoryMB uint32
	// Reserved lists variables that the platform sets itself. Prefixes lists prefixes of further ones,
	// in any case.
	Reserved, Prefixes []string
	// Name matches the names of variables that the platform accepts, and NameHelp describes them:
	// "letters, ...". If Name is nil, every valid name of a variable is accepted.
	Name     *regexp.Regexp
	NameHelp string
	// MaxEnvironment limits EnvironmentSize, in bytes; 0 means no limit.
	MaxEnvironment  int
	EnvironmentSize func(faas.Function) int // nil: the bytes of names and values
	// Special, if not nil, checks what only this provider requires. It runs before all other checks.
	Special func(faas.Function) error
}

// Check returns copies of the functions, sorted by job, if the provider accepts all of them. The
// error is ErrTooLarge if something is above a limit, and ErrInvalidArgument if something is
// malformed, duplicate or below a minimum.
func (r FunctionRules) Check(functions []faas.Function) ([]faas.Function, error) {
	functions = slices.Clone(functions)
	slices.SortStableFunc(functions, func(a, b faas.Function) int { return cmp.Compare(a.JobID, b.JobID) })
	for i := range functions {
		f := &functions[i]
		if i > 0 && functions[i-1].JobID == f.JobID {
			return nil, r.refuse(faas.ErrInvalidArgument, *f, "the job is listed twice")
		}
		if err := r.check(*f); err != nil {
			return nil, err
		}
		f.Env = maps.Clone(f.Env)
	}
	return functions, nil
}

func (r FunctionRules) refuse(code faas.Code, f faas.Function, format string, args ...any) error {
	return faas.JobErrorf(code, "units", r.Provider, f.JobID, format, args...)
}

func (r FunctionRules) check(f faas.Function) error {
	if r.Special != nil {
		if err := r.Special(f); err != nil {
			return err
		}
	}
	limits, _ := faas.ProviderLimits(r.Provider)
	switch {
	case f.MemoryMB > limits.MaxMemoryMB:
		return r.refuse(faas.ErrTooLarge, f, "memory is %d MB; the limit is %d MB", f.MemoryMB, limits.MaxMemoryMB)
	case f.MemoryMB < r.MinMemoryMB:
		return r.refuse(faas.ErrInvalidArgument, f, "memory is %d MB; the least is %d MB", f.MemoryMB, r.MinMemoryMB)
	case f.TimeoutSecs > limits.MaxTimeoutSecs:
		return r.refuse(faas.ErrTooLarge, f, "timeout is %d s; the limit is %d s", f.TimeoutSecs, limits.MaxTimeoutSecs)
	case f.TimeoutSecs == 0:
		return r.refuse(faas.ErrInvalidArgument, f, "timeout is 0 s; the least is 1 s")
	}
	return r.checkEnvironment(f)
}

func (r FunctionRules) checkEnvironment(f faas.Function) error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(f.Env)) {
		value := f.Env[name].Reveal()
		size += len(name) + len(value)
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return r.refuse(faas.ErrInvalidArgument, f,
				"environment variable %q: a name is not empty and holds neither = nor NUL", name)
		case r.reserved(name):
			return r.refuse(faas.ErrInvalidArgument, f, "environment variable %s is reserved: the platform sets it itself", name)
		case r.Name != nil && !r.Name.MatchString(name):
			return r.refuse(faas.ErrInvalidArgument, f, "environment variable %q: a name has %s", name, r.NameHelp)
		case !utf8.ValidString(name) || !utf8.ValidString(value) || strings.Contains(value, "\x00"):
			return r.refuse(faas.ErrInvalidArgument, f,
				"environment variable %q holds a NUL byte, or bytes that are not UTF-8: the provider takes text", name)
		}
	}
	if r.EnvironmentSize != nil {
		size = r.EnvironmentSize(f)
	}
	if r.MaxEnvironment > 0 && size > r.MaxEnvironment {
		return r.refuse(faas.ErrTooLarge, f, "the environment has %d bytes; the limit is %d", size, r.MaxEnvironment)
	}
	return nil
}

func (r FunctionRules) reserved(name string) bool {
	return slices.Contains(r.Reserved, name) || slices.ContainsFunc(r.Prefixes, func(prefix string) bool {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	})
}
