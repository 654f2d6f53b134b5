package serverless

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Policy is the operator's deployment policy: the serverless section, and everything else that its
// file contains.
//
// A Policy is a plain value. It can be copied, printed (without the values of provider options),
// compared with go-cmp (see [Policy.Equal]), and converted to JSON and back with its foreign
// sections. The zero value is not valid: start with [DefaultPolicy] or [LoadPolicy].
type Policy struct {
	Serverless ServerlessSettings `json:"serverless"`

	source *policySource // nil if the policy does not come from a file
}

// ServerlessSettings is the "serverless" section of the policy.
type ServerlessSettings struct {
	Enable   bool             `json:"enable"`
	Provider ProviderSettings `json:"provider"`
	// MiB, for a function whose profile does not ask for more
	DefaultMemoryMB    uint32 `json:"default_memory_mb"`
	DefaultTimeoutSecs uint32 `json:"default_timeout_secs"` // of one invocation, in seconds
	FallbackToVM       bool   `json:"fallback_to_vm"`       // run the jobs traditionally if serverless fails
	// MaxConcurrency limits the invocations of one function at a time; 0 leaves it to the provider.
	MaxConcurrency uint32 `json:"max_concurrency,omitempty"`
	// KeepWarm is how many instances of each function the provider keeps ready; 0 keeps none. Most
	// providers bill instances that are kept ready, even idle ones.
	KeepWarm uint32 `json:"keep_warm,omitempty"`
	// Jobs holds the settings of single jobs by job id.
	Jobs map[uint32]JobSettings `json:"jobs,omitempty"`
	// ProviderConfig holds the provider's own options ([faas.Config].Options). A list or pairs in the
	// file become a JSON array or object of strings, and are saved as such.
	ProviderConfig map[string]string `json:"provider_config,omitempty"`
}

// JobSettings are the policy's settings of one job. They replace the settings of all jobs; a
// member that is 0 or nil replaces nothing.
//
// A function never gets less memory or time than the analysis of its job's profile asks for. If
// the policy says less, the analysis wins and the plan carries a warning. The same holds for the
// settings of all jobs.
type JobSettings struct {
	MemoryMB       uint32  `json:"memory_mb,omitempty"`       // in MiB, in place of default_memory_mb
	TimeoutSecs    uint32  `json:"timeout_secs,omitempty"`    // in seconds, in place of default_timeout_secs
	MaxConcurrency *uint32 `json:"max_concurrency,omitempty"` // 0 leaves it to the provider
	KeepWarm       *uint32 `json:"keep_warm,omitempty"`       // 0 keeps none
}

// ProviderSettings names the provider and holds what that provider needs.
type ProviderSettings struct {
	Type           string `json:"type"`                      // one of faas.KnownNames
	Region         string `json:"region,omitempty"`          // cloud region; empty means us-east-1 for aws-lambda
	ProjectID      string `json:"project_id,omitempty"`      // gcp-functions: required
	SubscriptionID string `json:"subscription_id,omitempty"` // azure-functions: required
	Endpoint       string `json:"endpoint,omitempty"`        // custom: required, an http or https URL
}

const defaultAWSRegion = "us-east-1"

// DefaultPolicy returns the policy of an operator without a policy file. Serverless is off. The
// provider is AWS Lambda in us-east-1 with 512 MiB and 300 seconds, and jobs fall back to VMs.
func DefaultPolicy() *Policy {
	return &Policy{Serverless: ServerlessSettings{
		Provider:        ProviderSettings{Type: faas.AWSLambda, Region: defaultAWSRegion},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 300, FallbackToVM: true,
	}}
}

// DefaultPolicyPath returns the path of the policy file without [WithPolicyPath]:
// tangle/deployment-policy.json in [os.UserConfigDir]. It fails if the environment does not define
// that directory.
func DefaultPolicyPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "find policy file", "",
			"the user's configuration directory is unknown: %w: set it, or name the policy file", err)
	}
	return filepath.Join(dir, "tangle", "deployment-policy.json"), nil
}

// PolicyOption configures [LoadPolicy] and [Policy.Save].
type PolicyOption func(*policyOptions)

type policyOptions struct{ path string }

// WithPolicyPath names the policy file. An empty path has no effect.
func WithPolicyPath(path string) PolicyOption { return func(o *policyOptions) { o.path = path } }

func policyPath(opts []PolicyOption, loaded string) (string, error) {
	var o policyOptions
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	switch {
	case o.path != "":
		return o.path, nil
	case loaded != "":
		return loaded, nil
	}
	return DefaultPolicyPath()
}

// ServerlessConfig is what [DeployServerless] takes.
type ServerlessConfig struct {
	Provider           faas.Config // DeployServerless sets its Service
	DefaultMemoryMB    uint32      // in MiB; 0 means that of [DefaultPolicy]
	DefaultTimeoutSecs uint32      // in seconds; 0 means that of DefaultPolicy
	// MaxConcurrency limits the invocations of one function at a time; 0 leaves it to the provider.
	MaxConcurrency uint32
	// KeepWarm is how many instances of each function the provider keeps ready; 0 keeps none. Most
	// providers bill instances that are kept ready, even idle ones.
	KeepWarm uint32
	// Overrides replace the four settings above for single jobs.
	Overrides map[uint32]JobSettings
	// Jobs is what single jobs need at least, typically as Analyze found it. A need wins over a lower
	// setting.
	Jobs map[uint32]JobNeeds
}

// Config returns the argument for [DeployServerless]. It shares no memory with s.
func (s ServerlessSettings) Config() ServerlessConfig {
	p := s.normal().Provider
	if p.Type != faas.AWSLambda && p.Region == defaultAWSRegion {
		// The region is left over from DefaultPolicy: the program changed only the type. No other cloud
		// has a region of that name.
		p.Region = ""
	}
	return ServerlessConfig{
		Provider: faas.Config{
			Provider: p.Type, Region: p.Region, ProjectID: p.ProjectID,
			SubscriptionID: p.SubscriptionID, Endpoint: p.Endpoint, Options: maps.Clone(s.ProviderConfig),
		},
		DefaultMemoryMB: s.DefaultMemoryMB, DefaultTimeoutSecs: s.DefaultTimeoutSecs, MaxConcurrency: s.MaxConcurrency,
		KeepWarm:  s.KeepWarm,
		Overrides: s.normal().Jobs,
	}
}

// normal returns the settings as a save and a load would return them.
func (s ServerlessSettings) normal() ServerlessSettings {
	if s.Provider.Type == faas.AWSLambda && s.Provider.Region == "" {
		s.Provider.Region = defaultAWSRegion
	}
	if len(s.ProviderConfig) == 0 {
		s.ProviderConfig = nil
	}
	s.Jobs = normalJobs(s.Jobs)
	return s
}

func (s ServerlessSettings) equal(other ServerlessSettings) bool {
	a, b := s.normal(), other.normal()
	return a.Enable == b.Enable && a.Provider == b.Provider && a.DefaultMemoryMB == b.DefaultMemoryMB &&
		a.DefaultTimeoutSecs == b.DefaultTimeoutSecs &&
		a.FallbackToVM == b.FallbackToVM && a.MaxConcurrency == b.MaxConcurrency && a.KeepWarm == b.KeepWarm &&
		maps.EqualFunc(a.Jobs, b.Jobs, JobSettings.equal) && maps.Equal(a.ProviderConfig, b.ProviderConfig)
}

// Equal reports whether both policies have the same settings, and the same foreign members with
// the same content to the digit. It ignores which file a policy comes from and how that file is
// laid out.
func (p Policy) Equal(other Policy) bool {
	return p.Serverless.equal(other.Serverless) && maps.Equal(p.foreign(), other.foreign())
}

// Foreign returns the sorted paths of the members that the policy keeps without knowing them:
// other sections of the file, such as "providers", and members such as "serverless.note". They
// have no effect here, so a program that shows a policy should list them.
func (p Policy) Foreign() []string { return slices.Sorted(maps.Keys(p.foreign())) }

// Format prints the policy without the values of provider options, which may be credentials. It
// does so for every verb.
func (p Policy) Format(f fmt.State, _ rune) {
	text := "{serverless:" + p.Serverless.redacted()
	if foreign := p.Foreign(); len(foreign) > 0 {
		text += " foreign:[" + strings.Join(foreign, " ") + "]"
	}
	fmt.Fprint(f, text+"}")
}

// LogValue logs what [Policy.Format] prints.
func (p Policy) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// Format prints the settings without the values of provider options, for every verb.
func (s ServerlessSettings) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.redacted()) }

// LogValue logs what [ServerlessSettings.Format] prints.
func (s ServerlessSettings) LogValue() slog.Value { return slog.StringValue(s.redacted()) }

func (s ServerlessSettings) redacted() string {
	text := fmt.Sprintf("{enable:%t provider:%s default_memory_mb:%d default_timeout_secs:%d fallback_to_vm:%t",
		s.Enable, s.Provider.redacted(), s.DefaultMemoryMB, s.DefaultTimeoutSecs, s.FallbackToVM)
	if s.MaxConcurrency > 0 {
		text += fmt.Sprintf(" max_concurrency:%d", s.MaxConcurrency)
	}
	if s.KeepWarm > 0 {
		text += fmt.Sprintf(" keep_warm:%d", s.KeepWarm)
	}
	if len(s.Jobs) > 0 {
		text += fmt.Sprintf(" jobs:%v", s.Jobs) // in ascending order of ids
	}
	if len(s.ProviderConfig) > 0 {
		text += " provider_config:[" + strings.Join(slices.Sorted(maps.Keys(s.ProviderConfig)), " ") + "]"
	}
	return text + "}"
}

// Format prints the settings, for every verb. It strips credentials from the endpoint.
func (p ProviderSettings) Format(f fmt.State, _ rune) { fmt.Fprint(f, p.redacted()) }

// LogValue logs what [ProviderSettings.Format] prints.
func (p ProviderSettings) LogValue() slog.Value { return slog.StringValue(p.redacted()) }

func (p ProviderSettings) redacted() string {
	text := "{type:" + p.Type
	for _, m := range p.members()[1:] {
		if m.value == "" {
			continue
		}
		if m.name == "endpoint" {
			if m.value = faas.RedactURL(m.value); endpointError(m.value) != nil {
				m.value = "(not a valid URL)"
			}
		}
		text += " " + m.name + ":" + m.value
	}
	return text + "}"
}

type providerMember struct{ name, value string }

// members returns the members of the provider section in the order of the file.
func (p ProviderSettings) members() []providerMember {
	return []providerMember{
		{"type", p.Type}, {"region", p.Region}, {"project_id", p.ProjectID}, {"subscription_id", p.SubscriptionID},
		{"endpoint", p.Endpoint},
	}
}

// jobMember is a member of a job's settings. Its value is nil if it is not set.
type jobMember struct {
	name  string
	value *uint32
}

// members returns the settings of a job in the order of the file.
func (j JobSettings) members() []jobMember {
	members := []jobMember{
		{"memory_mb", &j.MemoryMB}, {"timeout_secs", &j.TimeoutSecs},
		{"max_concurrency", j.MaxConcurrency}, {"keep_warm", j.KeepWarm},
	}
	for i := range 2 {
		if *members[i].value == 0 {
			members[i].value = nil
		}
	}
	return members
}

// Format prints the settings that are set under their names in the file, for every verb.
func (j JobSettings) Format(f fmt.State, _ rune) {
	var set []string
	for _, m := range j.members() {
		if m.value != nil {
			set = append(set, fmt.Sprintf("%s:%d", m.name, *m.value))
		}
	}
	fmt.Fprint(f, "{"+strings.Join(set, " ")+"}")
}

func (j JobSettings) equal(other JobSettings) bool {
	return slices.EqualFunc(j.members(), other.members(), func(a, b jobMember) bool {
		return a.value == b.value || a.value != nil && b.value != nil && *a.value == *b.value
	})
}

// normalJobs returns a copy that shares no memory and has no jobs without settings. It returns nil
// if no job is left.
func normalJobs(jobs map[uint32]JobSettings) map[uint32]JobSettings {
	var kept map[uint32]JobSettings
	for id, j := range jobs {
		if j.equal(JobSettings{}) {
			continue
		}
		if j.MaxConcurrency != nil {
			j.MaxConcurrency = new(*j.MaxConcurrency)
		}
		if j.KeepWarm != nil {
			j.KeepWarm = new(*j.KeepWarm)
		}
		if kept == nil {
			kept = map[uint32]JobSettings{}
		}
		kept[id] = j
	}
	return kept
}

// function returns a job's function as its settings and needs define it. The sizes are not rounded
// to sizes that the provider sells, and the environment is empty.
func (c ServerlessConfig) function(id uint32) faas.Function {
	defaults, own, needs := DefaultPolicy().Serverless, c.Overrides[id], c.Jobs[id]
	timeout := cmp.Or(c.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs)
	if reply := faas.ProviderReplyLimit(c.Provider.Provider); reply > 0 && timeout == defaults.DefaultTimeoutSecs {
		// Nobody chose the default. A longer timeout that someone chose gets the provider's own answer.
		timeout = min(timeout, reply)
	}
	return faas.Function{
		JobID:          id,
		MemoryMB:       max(cmp.Or(own.MemoryMB, c.DefaultMemoryMB, defaults.DefaultMemoryMB), needs.MemoryMB),
		TimeoutSecs:    max(cmp.Or(own.TimeoutSecs, timeout), needs.TimeoutSecs),
		MaxConcurrency: *cmp.Or(own.MaxConcurrency, &c.MaxConcurrency),
		KeepWarm:       *cmp.Or(own.KeepWarm, &c.KeepWarm),
	}
}

// settingsWarnings describes the jobs that do not get what the policy says: jobs whose profiles
// ask for more memory or time, and jobs with settings that do not run on FaaS. An unchanged
// default is nobody's choice, so it causes no warning.
func settingsWarnings(cfg ServerlessConfig, strategy Strategy) []string {
	var warnings []string
	defaults := DefaultPolicy().Serverless
	for _, id := range strategy.FaaSJobs {
		own, needs := cfg.Overrides[id], cfg.Jobs[id]
		compare := func(what, unit string, own, all, nobodys, asked uint32) {
			if said := cmp.Or(own, all, nobodys); asked > said && (own > 0 || said != nobodys) {
				const text = "job %d gets a %s of %d %s in place of the policy's %d %s, because its profile asks for it"
				warnings = append(warnings, fmt.Sprintf(text, id, what, asked, unit, said, unit))
			}
		}
		compare("memory", "MB", own.MemoryMB, cfg.DefaultMemoryMB, defaults.DefaultMemoryMB, needs.MemoryMB)
		compare("timeout", "s", own.TimeoutSecs, cfg.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs, needs.TimeoutSecs)
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Overrides)) {
		switch {
		case slices.Contains(strategy.FaaSJobs, id):
		case slices.Contains(strategy.LocalJobs, id):
			const text = "the policy's settings of job %d do nothing, because it does not run on FaaS"
			warnings = append(warnings, fmt.Sprintf(text, id))
		default:
			warnings = append(warnings, fmt.Sprintf("the policy has settings of job %d, which the blueprint does not have", id))
		}
	}
	return warnings
}
