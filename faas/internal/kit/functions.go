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

// FunctionRules are what a provider takes of functions beyond its faas.Limits.
type FunctionRules struct {
	Provider    string // its registered name
	MinMemoryMB uint32
	// Reserved are the names of variables that the platform sets itself, and Prefixes what others of
	// them begin with, in whatever case.
	Reserved, Prefixes []string
	// Name is what the name of a variable has to look like, and NameHelp says so: "letters, ...". A nil
	// Name takes every name that an environment can have.
	Name     *regexp.Regexp
	NameHelp string
	// MaxEnvironment bounds EnvironmentSize, in bytes; 0: there is no bound.
	MaxEnvironment  int
	EnvironmentSize func(faas.Function) int // nil: the bytes of names and values
	// Special checks what only this provider has, before all else; nil: nothing.
	Special func(faas.Function) error
}

// Check returns the functions by ascending job, with environments of their own, or the refusal of
// what the provider would not take: too large what is above a limit, an invalid argument what is
// malformed, wanted twice or below the least.
func (r FunctionRules) Check(functions []faas.Function) ([]faas.Function, error) {
	functions = slices.Clone(functions)
	slices.SortStableFunc(functions, func(a, b faas.Function) int { return cmp.Compare(a.JobID, b.JobID) })
	for i := range functions {
		f := &functions[i]
		if i > 0 && functions[i-1].JobID == f.JobID {
			return nil, r.refuse(faas.ErrInvalidArgument, *f, "the job is wanted twice")
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
