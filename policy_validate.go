package serverless

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/suggest"
)

// Validate returns nil if the policy can be saved and deployed by. See [ServerlessSettings.Validate].
func (p *Policy) Validate() error { return p.Serverless.Validate() }

// Validate returns nil if the settings are complete and within the limits of their provider, which must be known (see [faas.KnownNames]) but
// need not be linked. Settings with Enable off are held to the same rules, so that turning serverless on is never the moment at which an old
// mistake shows.
//
// The error is ErrInvalidArgument, names the field, and has a *[PolicyError] in its chain.
func (s ServerlessSettings) Validate() error {
	if problem := s.problem(); problem != nil {
		return policyErrorf(faas.ErrInvalidArgument, "validate policy",
			&PolicyError{Field: strings.Join(problem.path, "."), Err: problem.err})
	}
	return nil
}

// problem returns the first thing that is wrong, or nil.
func (s ServerlessSettings) problem() *policyProblem {
	if problem := s.Provider.problem(); problem != nil {
		return problem
	}
	limits, _ := faas.ProviderLimits(s.Provider.Type)
	within := func(value, max uint32, unit string, path ...string) *policyProblem {
		switch {
		case value == 0:
			return problemf(path, "must be at least 1 %s, not 0", unit)
		case max > 0 && value > max: // a provider that registers without limits has none
			return problemf(path, "%d %s is above the limit of %s, %d %s", value, unit, s.Provider.Type, max, unit)
		}
		return nil
	}
	problem := cmp.Or(
		within(s.DefaultMemoryMB, limits.MaxMemoryMB, "MB", "serverless", "default_memory_mb"),
		within(s.DefaultTimeoutSecs, limits.MaxTimeoutSecs, "s", "serverless", "default_timeout_secs"),
		warmProblem(s.KeepWarm, s.MaxConcurrency, "serverless"),
	)
	for _, id := range slices.Sorted(maps.Keys(s.Jobs)) {
		own, path := s.Jobs[id], []string{"serverless", "jobs", strconv.FormatUint(uint64(id), 10)}
		if problem == nil && own.MemoryMB > 0 {
			problem = within(own.MemoryMB, limits.MaxMemoryMB, "MB", append(slices.Clip(path), "memory_mb")...)
		}
		if problem == nil && own.TimeoutSecs > 0 {
			problem = within(own.TimeoutSecs, limits.MaxTimeoutSecs, "s", append(slices.Clip(path), "timeout_secs")...)
		}
		if problem == nil && (own.KeepWarm != nil || own.MaxConcurrency != nil) {
			problem = warmProblem(*cmp.Or(own.KeepWarm, &s.KeepWarm), *cmp.Or(own.MaxConcurrency, &s.MaxConcurrency), path...)
		}
	}
	if problem != nil {
		return problem
	}
	for _, name := range slices.Sorted(maps.Keys(s.ProviderConfig)) {
		if name == "" {
			return problemf([]string{"serverless", "provider_config"}, "has an option without a name")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(s.ProviderConfig[name]) {
			return problemf([]string{"serverless", "provider_config", strings.ToValidUTF8(name, "?")}, "is not valid UTF-8")
		}
	}
	return nil
}

// warmProblem refuses more instances kept ready than can have work.
func warmProblem(warm, concurrency uint32, path ...string) *policyProblem {
	if concurrency == 0 || warm <= concurrency {
		return nil
	}
	return problemf(append(slices.Clip(path), "keep_warm"),
		"%d instances are kept ready, and max_concurrency lets no more than %d work", warm, concurrency)
}

func (p ProviderSettings) problem() *policyProblem {
	known := faas.KnownNames()
	if !slices.Contains(known, p.Type) {
		path := []string{"serverless", "provider", "type"}
		if p.Type == "" {
			return problemf(path, "is missing: one of %s", strings.Join(known, ", "))
		}
		hint := ""
		if near, ok := suggest.Name(p.Type, known); ok {
			hint = fmt.Sprintf(": did you mean %q?", near)
		}
		return problemf(path, "unknown provider %s%s (known: %s)", shorten(p.Type), hint, strings.Join(known, ", "))
	}
	required := map[string]string{faas.GCPFunctions: "project_id", faas.AzureFunctions: "subscription_id",
		faas.Custom: "endpoint"}[p.Type]
	for _, m := range p.members() {
		path := []string{"serverless", "provider", m.name}
		switch {
		case m.value == "" && m.name == required:
			return problemf(path, "is missing: %s needs it", p.Type)
		case m.value == "":
		case m.name == "endpoint":
			// An endpoint that the chosen provider does not use may be anything that can be written down.
			if err := endpointError(m.value); err != nil && (p.Type == faas.Custom || !utf8.ValidString(m.value)) {
				return problemf(path, "%w", err)
			}
		case strings.ContainsFunc(m.value, func(r rune) bool {
			return r == utf8.RuneError || r == '/' || unicode.IsControl(r)
		}) || m.value != strings.TrimSpace(m.value):
			return problemf(path, "%s has characters that no such name has", shorten(m.value))
		case m.name == "region" && p.Type == faas.AWSLambda &&
			strings.Trim(m.value, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return problemf(path, "%s is no AWS region: they look like %s", shorten(m.value), defaultAWSRegion)
		}
	}
	return nil
}

// shorten quotes a value for an error message.
func shorten(value string) string { return strconv.Quote(clip(value)) }

func clip(value string) string {
	const most = 64
	if len(value) > most {
		return strings.ToValidUTF8(value[:most], "") + "..."
	}
	return value
}

// endpointError says what is wrong with the URL of a custom platform. It shows no part of a URL that may hold a password.
func endpointError(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || !utf8.ValidString(endpoint):
		return errors.New("is no URL: it must look like https://faas.example") // the cause would quote what may be a password
	case u.Scheme != "http" && u.Scheme != "https" && u.Host == "":
		return errors.New("is no http or https URL: it must look like https://faas.example")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is no http or https URL: it must look like https://faas.example",
			shorten(faas.RedactURL(endpoint)))
	case u.Hostname() == "":
		return errors.New("is a URL without a host: it must look like https://faas.example")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("is a URL with a port that is not from 1 to 65535")
		}
	}
	return nil
}

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
