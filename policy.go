package serverless

import "github.com/tangle-network/blueprint-serverless/faas"

// Policy is the operator's deployment policy: the serverless section, and every other section of the file as it was read.
type Policy struct {
	Serverless ServerlessSettings `json:"serverless"`
}

// ServerlessSettings is the "serverless" section of the policy.
type ServerlessSettings struct {
	Enable             bool             `json:"enable"`
	Provider           ProviderSettings `json:"provider"`
	DefaultMemoryMB    uint32           `json:"default_memory_mb"`    // of a function without a profile that asks for more, in MiB
	DefaultTimeoutSecs uint32           `json:"default_timeout_secs"` // of one invocation, in seconds
	FallbackToVM       bool             `json:"fallback_to_vm"`       // run the jobs traditionally where serverless fails
	// MaxConcurrency limits the invocations of one function at a time; 0 leaves it to the provider.
	MaxConcurrency uint32 `json:"max_concurrency,omitempty"`
	// ProviderConfig holds the provider's own options (faas.Config.Options).
	ProviderConfig map[string]string `json:"provider_config,omitempty"`
}

// ProviderSettings names the provider, with what that provider needs.
type ProviderSettings struct {
	Type           string `json:"type"`
	Region         string `json:"region,omitempty"`
	ProjectID      string `json:"project_id,omitempty"`
	SubscriptionID string `json:"subscription_id,omitempty"`
	Endpoint       string `json:"endpoint,omitempty"`
}

// ServerlessConfig is what [DeployServerless] takes.
type ServerlessConfig struct {
	Provider           faas.Config // its Service is set by DeployServerless
	DefaultMemoryMB    uint32      // in MiB
	DefaultTimeoutSecs uint32      // in seconds
	FallbackToVM       bool
	MaxConcurrency     uint32
	// Jobs overrides the defaults for single jobs, typically with what Analyze found.
	Jobs map[uint32]JobNeeds
}

// Config returns what [DeployServerless] takes.
func (s ServerlessSettings) Config() ServerlessConfig {
	return ServerlessConfig{
		Provider: faas.Config{
			Provider: s.Provider.Type, Region: s.Provider.Region, ProjectID: s.Provider.ProjectID,
			SubscriptionID: s.Provider.SubscriptionID, Endpoint: s.Provider.Endpoint, Options: s.ProviderConfig,
		},
		DefaultMemoryMB: s.DefaultMemoryMB, DefaultTimeoutSecs: s.DefaultTimeoutSecs, FallbackToVM: s.FallbackToVM, MaxConcurrency: s.MaxConcurrency,
	}
}

// PolicyOption configures [LoadPolicy] and [Policy.Save].
type PolicyOption func(*policyOptions)

type policyOptions struct{ path string }

// WithPolicyPath names the policy file, in place of the one in the user's configuration directory.
func WithPolicyPath(path string) PolicyOption { return func(o *policyOptions) { o.path = path } }

// LoadPolicy reads the policy file.
func LoadPolicy(opts ...PolicyOption) (*Policy, error) { panic("being written") }
