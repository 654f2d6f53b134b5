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

// Validate returns nil if the policy can be saved and used. See [ServerlessSettings.Validate].
func (p *Policy) Validate() error { return p.Serverless.Validate() }

// Validate returns nil if the settings are complete and within the limits of their provider. The
// provider must be known (see [faas.KnownNames]), but need not be linked. The rules do not depend
// on Enable, so turning serverless on never reveals an old mistake.
//
// The error is ErrInvalidArgument. It names the field, and a *[PolicyError] is in its chain.
func (s ServerlessSettings) Validate() error {
	if problem := s.problem(); problem != nil {
		return policyErrorf(faas.ErrInvalidArgument, "validate policy",
			&PolicyError{Field: strings.Join(problem.path, "."), Err: problem.err})
	}
	return nil
}

// problem returns the first problem, or nil.
func (s ServerlessSettings) problem() *policyProblem {
	if problem := s.Provider.problem(); problem != nil {
		return problem
	}
	limits, _ := faas.ProviderLimits(s.Provider.Type)
	within := func(value, max uint32, unit string, path ...string) *policyProblem {
		switch {
		case value == 0:
			return problemf(path, "must be at least 1 %s, not 0", unit)
		case max > 0 && value > max: // a provider registered without limits has none
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

// warmProblem returns a problem if more instances are kept ready than may work.
func warmProblem(warm, concurrency uint32, path ...string) *policyProblem {
	if concurrency == 0 || warm <= concurrency {
		return nil
	}
	return problemf(append(slices.Clip(path), "keep_warm"),
		"%d instances are kept ready, but max_concurrency allows only %d to work", warm, concurrency)
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
			// If the provider does not use the endpoint, any valid text is accepted.
			if err := endpointError(m.value); err != nil && (p.Type == faas.Custom || !utf8.ValidString(m.value)) {
				return problemf(path, "%w", err)
			}
		case strings.ContainsFunc(m.value, func(r rune) bool {
			return r == utf8.RuneError || r == '/' || unicode.IsControl(r)
		}) || m.value != strings.TrimSpace(m.value):
			return problemf(path, "%s contains characters that are not allowed in such a name", shorten(m.value))
		case m.name == "region" && p.Type == faas.AWSLambda &&
			strings.Trim(m.value, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return problemf(path, "%s is not an AWS region: regions look like %s", shorten(m.value), defaultAWSRegion)
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

// endpointError returns what is wrong with the URL of a custom platform. It shows no part of the
// URL that may contain a password.
func endpointError(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || !utf8.ValidString(endpoint):
		return errors.New("is not a URL: it must look like https://faas.example") // the cause would quote a possible password
	case u.Scheme != "http" && u.Scheme != "https" && u.Host == "":
		return errors.New("is not an http or https URL: it must look like https://faas.example")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is not an http or https URL: it must look like https://faas.example",
			shorten(faas.RedactURL(endpoint)))
	case u.Hostname() == "":
		return errors.New("has no host: it must look like https://faas.example")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has a port that is not from 1 to 65535")
		}
	}
	return nil
}

// PolicyError describes where a policy is wrong. It is in the chain of the *faas.Error that
// [LoadPolicy], [Policy.Save], [Policy.Validate] and [PolicyFlags.Apply] return.
type PolicyError struct {
	Path         string // of the file; empty if the policy is not in a file
	Line, Column int    // in the file, from 1; the column counts characters; 0 if the content is not to blame
	Field        string // such as "serverless.default_memory_mb"; empty if no field is to blame
	Err          error
}

// Error returns path:line:column: field: problem.
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

// Unwrap returns Err.
func (e *PolicyError) Unwrap() error { return e.Err }

// policyProblem is a problem at a path inside the policy.
type policyProblem struct {
	path   []string
	offset int // in the file's content; only the decoder sets it
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
		err = fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err) // the message already begins with the path
	}
	return policyErrorf(code, op, &PolicyError{Path: path, Err: err})
}
