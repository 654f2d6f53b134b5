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

// Policy is the operator's deployment policy: the serverless section, and whatever else the file held that it came from.
//
// It is a plain value: it may be copied, printed (without the values of provider options), compared with go-cmp (see [Policy.Equal]), and
// turned into JSON and back, foreign sections included. Its zero value is not valid: begin with [DefaultPolicy] or [LoadPolicy].
type Policy struct {
	Serverless ServerlessSettings `json:"serverless"`

	source *policySource // nil for a policy that comes from no file
}

// ServerlessSettings is the "serverless" section of the policy.
type ServerlessSettings struct {
	Enable   bool             `json:"enable"`
	Provider ProviderSettings `json:"provider"`
	// of a function without a profile that asks for more, in MiB
	DefaultMemoryMB    uint32 `json:"default_memory_mb"`
	DefaultTimeoutSecs uint32 `json:"default_timeout_secs"` // of one invocation, in seconds
	FallbackToVM       bool   `json:"fallback_to_vm"`       // run the jobs traditionally where serverless fails
	// MaxConcurrency limits the invocations of one function at a time; 0 leaves it to the provider.
	MaxConcurrency uint32 `json:"max_concurrency,omitempty"`
	// KeepWarm is how many instances of each function the provider keeps ready, which most bill
	// while idle; 0 for none.
	KeepWarm uint32 `json:"keep_warm,omitempty"`
	// Jobs are settings of single jobs, by their ids.
	Jobs map[uint32]JobSettings `json:"jobs,omitempty"`
	// ProviderConfig holds the provider's own options (faas.Config.Options). A list or pairs of the file
	// are a JSON array or object of strings, and saved as such.
	ProviderConfig map[string]string `json:"provider_config,omitempty"`
}

// JobSettings are what the policy says of one job, in place of what it says of all. A member that
// is 0 or nil says nothing.
//
// As with the settings for all jobs, a function never has less memory or time than the analysis of
// its job's profile asks for: if the policy says less, the analysis counts, and a plan warns of it.
type JobSettings struct {
	MemoryMB       uint32  `json:"memory_mb,omitempty"`       // in MiB, in place of default_memory_mb
	TimeoutSecs    uint32  `json:"timeout_secs,omitempty"`    // in seconds, in place of default_timeout_secs
	MaxConcurrency *uint32 `json:"max_concurrency,omitempty"` // 0 leaves it to the provider
	KeepWarm       *uint32 `json:"keep_warm,omitempty"`       // 0 keeps none
}

// ProviderSettings names the provider, with what that provider needs.
type ProviderSettings struct {
	Type           string `json:"type"`                      // one of faas.KnownNames
	Region         string `json:"region,omitempty"`          // cloud region; of aws-lambda us-east-1 if empty
	ProjectID      string `json:"project_id,omitempty"`      // gcp-functions: required
	SubscriptionID string `json:"subscription_id,omitempty"` // azure-functions: required
	Endpoint       string `json:"endpoint,omitempty"`        // custom: required, an http or https URL
}

const defaultAWSRegion = "us-east-1"

// DefaultPolicy returns the policy of an operator without a policy file: serverless off; if it is turned on, AWS Lambda in us-east-1 with
// 512 MiB and 300 seconds, falling back to VMs.
func DefaultPolicy() *Policy {
	return &Policy{Serverless: ServerlessSettings{
		Provider:        ProviderSettings{Type: faas.AWSLambda, Region: defaultAWSRegion},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 300, FallbackToVM: true,
	}}
}

// DefaultPolicyPath returns where the policy file is unless [WithPolicyPath] says otherwise: tangle/deployment-policy.json in
// [os.UserConfigDir]. It fails where the environment does not tell that directory.
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

// WithPolicyPath names the policy file. The empty path stands for no option.
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
	Provider           faas.Config // its Service is set by DeployServerless
	DefaultMemoryMB    uint32      // in MiB; 0 is that of [DefaultPolicy]
	DefaultTimeoutSecs uint32      // in seconds; 0 is that of DefaultPolicy
	// MaxConcurrency limits the invocations of one function at a time; 0 leaves it to the provider.
	MaxConcurrency uint32
	// KeepWarm is how many instances of each function the provider keeps ready, which most bill
	// while idle; 0 for none.
	KeepWarm uint32
	// Overrides take the place of the four settings above for single jobs.
	Overrides map[uint32]JobSettings
	// Jobs are what single jobs need at least, typically as Analyze found. It counts if it is more
	// than the settings say.
	Jobs map[uint32]JobNeeds
}

// Config returns what [DeployServerless] takes. It shares no memory with s.
func (s ServerlessSettings) Config() ServerlessConfig {
	p := s.normal().Provider
	if p.Type != faas.AWSLambda && p.Region == defaultAWSRegion {
		// left over from DefaultPolicy by a program that changed the type alone; no other cloud has a region of that name
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

// normal returns the settings as they would come back from a file.
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

// Equal reports whether two policies say the same: the same settings, and the same foreign members with the same content, to the digit. Which
// file a policy comes from, and how that is laid out, does not matter.
func (p Policy) Equal(other Policy) bool {
	return p.Serverless.equal(other.Serverless) && maps.Equal(p.foreign(), other.foreign())
}

// Foreign returns the paths, sorted, of the members that the policy carries along without knowing them: other sections of the file, such as
// "providers", and members such as "serverless.note". A program that shows a policy does well to list them: they have no effect here.
func (p Policy) Foreign() []string { return slices.Sorted(maps.Keys(p.foreign())) }

// Format prints the policy without the values of provider options, which may be credentials, whatever the verb.
func (p Policy) Format(f fmt.State, _ rune) {
	text := "{serverless:" + p.Serverless.redacted()
	if foreign := p.Foreign(); len(foreign) > 0 {
		text += " foreign:[" + strings.Join(foreign, " ") + "]"
	}
	fmt.Fprint(f, text+"}")
}

// LogValue logs what [Policy.Format] prints.
func (p Policy) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// Format prints the settings without the values of provider options, whatever the verb.
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
		text += fmt.Sprintf(" jobs:%v", s.Jobs) // by ascending ids
	}
	if len(s.ProviderConfig) > 0 {
		text += " provider_config:[" + strings.Join(slices.Sorted(maps.Keys(s.ProviderConfig)), " ") + "]"
	}
	return text + "}"
}

// Format prints the settings with the endpoint stripped of credentials, whatever the verb.
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

// members lists the members of the provider section in the order in which they are written.
func (p ProviderSettings) members() []providerMember {
	return []providerMember{
		{"type", p.Type}, {"region", p.Region}, {"project_id", p.ProjectID}, {"subscription_id", p.SubscriptionID},
		{"endpoint", p.Endpoint},
	}
}

// jobMember is a member of a job's settings in the file, nil if it is not set.
type jobMember struct {
	name  string
	value *uint32
}

// members lists what is set, in the order in which it is written.
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

// Format prints what is set, as the file names it, whatever the verb.
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

// normalJobs returns a copy that shares no memory, without jobs that have no settings; nil if none
// is left.
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

// function is a job's function as its settings and its needs ask for it: not rounded to a size that
// is sold, and without an environment.
func (c ServerlessConfig) function(id uint32) faas.Function {
	defaults, own, needs := DefaultPolicy().Serverless, c.Overrides[id], c.Jobs[id]
	timeout := cmp.Or(c.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs)
	if reply := faas.ProviderReplyLimit(c.Provider.Provider); reply > 0 && timeout == defaults.DefaultTimeoutSecs {
		// The default is nobody's wish; a longer timeout that is one gets the provider's own answer.
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

// settingsWarnings says where jobs get something else than the policy says: more memory or time,
// because their profiles ask for it, and nothing at all if they do not run on FaaS. A default that
// nobody has changed is no wish, and worth no warning.
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
