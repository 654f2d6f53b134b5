package serverless

import "github.com/tangle-network/blueprint-serverless/faas"

// StrategyKind is the kind of deployment that an analysis recommends.
type StrategyKind string

// The kinds.
const (
	StrategyServerless  StrategyKind = "serverless"  // every job fits
	StrategyHybrid      StrategyKind = "hybrid"      // some jobs fit, the others run beside them
	StrategyTraditional StrategyKind = "traditional" // none fits, serverless is off, or there is no job
)

// Strategy says which jobs go where. Both lists ascend.
type Strategy struct {
	Kind      StrategyKind `json:"kind"`
	FaaSJobs  []uint32     `json:"faas_jobs"`
	LocalJobs []uint32     `json:"local_jobs"`
}

// JobNeeds is what a job's function is deployed with.
type JobNeeds struct {
	MemoryMB    uint32 `json:"memory_mb"`    // MiB
	TimeoutSecs uint32 `json:"timeout_secs"` // seconds
}

// JobAnalysis says whether a job fits, and why not.
type JobAnalysis struct {
	JobID      uint32    `json:"job_id"`
	Compatible bool      `json:"compatible"`
	Reasons    []Reason  `json:"reasons,omitempty"` // all that apply, in a fixed order
	Needs      *JobNeeds `json:"needs,omitempty"`   // nil without a profile
}

// ReasonCode is the kind of a Reason.
type ReasonCode string

// Reason is why a job does not fit.
type Reason struct {
	Code  ReasonCode `json:"code"`
	Value uint64     `json:"value,omitempty"` // measured, in the unit of the code
	Limit uint64     `json:"limit,omitempty"`
}

// Sizing is what the part that is not on FaaS needs.
type Sizing struct {
	MemoryMB uint32 `json:"memory_mb"`
	CPUCores uint32 `json:"cpu_cores"`
}

// Analysis says for every job whether it fits the provider, and recommends a strategy.
type Analysis struct {
	Provider string        `json:"provider,omitempty"` // empty where only limits were given
	Strategy Strategy      `json:"strategy"`
	Jobs     []JobAnalysis `json:"jobs"`
	Sizing   Sizing        `json:"sizing"`
}

// Analyze says which jobs fit within the limits.
func Analyze(meta *Metadata, limits faas.Limits, serverlessEnabled bool) *Analysis {
	panic("being written")
}

// AnalyzeFor is Analyze with the limits of a provider and the memory sizes it sells.
func AnalyzeFor(meta *Metadata, provider string, serverlessEnabled bool) (*Analysis, error) {
	panic("being written")
}
