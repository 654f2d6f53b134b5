package serverless

import (
	"fmt"
	"strings"
)

// MetadataSource says where metadata comes from.
type MetadataSource string

// The sources.
const (
	SourceChain MetadataSource = "chain" // the blueprint's definition on chain
	SourceMock  MetadataSource = "mock"  // made up, because no contract is configured or because it was asked for
)

// ProfileSource says where a job's profile comes from.
type ProfileSource string

// The sources of profiles, by descending priority. All profiles of a blueprint come from the first source that has any.
const (
	ProfileFromFile        ProfileSource = "file"        // blueprint-profiles.json beside the binary
	ProfileFromChain       ProfileSource = "chain"       // profilingData of the definition
	ProfileFromDescription ProfileSource = "description" // the legacy marker in the definition's description
)

// Metadata is what is known of a blueprint. It is a plain value: it can be stored as JSON and reads back equal.
type Metadata struct {
	BlueprintID uint64         `json:"blueprint_id"`
	Source      MetadataSource `json:"source"`
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	// Jobs are the blueprint's jobs by ascending id. FetchMetadata never leaves it nil.
	Jobs []Job `json:"jobs"`
	// Execution says where the jobs may run. The zero value asks for nothing.
	Execution ExecutionProfile `json:"execution_profile,omitzero"`
	// Requirements are what the blueprint declares to need, all jobs together.
	Requirements Resources `json:"requirements,omitzero"`
	// Sources are the published ways to get the blueprint. Empty where there are none, or where they are not known; OnChain.SourcesFrom tells.
	Sources []BlueprintSource `json:"sources,omitempty"`
	// OnChain is nil exactly where Source is not SourceChain.
	OnChain *OnChain `json:"on_chain,omitempty"`
	// Warnings say what was ignored or could not be trusted, a sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// Job is one job of a blueprint.
type Job struct {
	ID            uint32        `json:"id"`
	Name          string        `json:"name,omitempty"`
	Profile       *JobProfile   `json:"profile,omitempty"` // nil: never profiled
	ProfileSource ProfileSource `json:"profile_source,omitempty"`
}

// JobProfile is what was measured of a job. Package profile makes one.
type JobProfile struct {
	AvgDurationMS         uint64 `json:"avg_duration_ms"`
	P95DurationMS         uint64 `json:"p95_duration_ms"`
	P99DurationMS         uint64 `json:"p99_duration_ms"`        // 0: unknown
	PeakMemoryMB          uint32 `json:"peak_memory_mb"`         // MiB
	Stateful              bool   `json:"stateful"`               // it keeps state from one invocation to the next
	PersistentConnections bool   `json:"persistent_connections"` // it keeps connections open between invocations
	SampleSize            uint32 `json:"sample_size"`            // 0: unknown
}

// ExecutionProfile says where a blueprint's jobs may run.
type ExecutionProfile struct {
	// Confidentiality is any (or empty), tee_required, standard_required or tee_preferred.
	Confidentiality string         `json:"confidentiality,omitempty"`
	GPU             GPURequirement `json:"gpu,omitzero"`
}

// GPURequirement is what a blueprint asks for in graphics processors.
type GPURequirement struct {
	// Policy is none (or empty), required or preferred.
	Policy    string `json:"policy,omitempty"`
	MinCount  uint32 `json:"min_count,omitempty"`
	MinVRAMGB uint32 `json:"min_vram_gb,omitempty"` // of one GPU, in GiB
}

// NeedsTEE reports whether the jobs must run in a trusted execution environment. A value that is not known counts as such a demand, because
// taking it for none could send a confidential job to a place that is not.
func (e ExecutionProfile) NeedsTEE() bool {
	switch e.Confidentiality {
	case "", "any", "standard_required", "tee_preferred":
		return false
	}
	return true
}

// NeedsGPU reports whether the jobs must have a GPU. A policy that is not known counts as such a demand.
func (e ExecutionProfile) NeedsGPU() bool {
	switch e.GPU.Policy {
	case "", "none", "preferred":
		return false
	}
	return true
}

// String summarises the metadata in a line, and gives each warning a line of its own.
func (m *Metadata) String() string {
	if m == nil {
		return "no metadata"
	}
	profiled := 0
	for i := range m.Jobs {
		if m.Jobs[i].Profile != nil {
			profiled++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "blueprint %d", m.BlueprintID)
	if m.Name != "" {
		fmt.Fprintf(&b, " %q", m.Name)
	}
	fmt.Fprintf(&b, " (%s): %s, %d profiled", m.Source, count(len(m.Jobs), "job"), profiled)
	if m.Execution.NeedsTEE() {
		b.WriteString(", needs a TEE")
	}
	if m.Execution.NeedsGPU() {
		b.WriteString(", needs a GPU")
	}
	for _, warning := range m.Warnings {
		b.WriteString("\n  warning: " + warning)
	}
	return b.String()
}

// count says "1 job", "2 jobs".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// OnChain says where and when metadata was read, and what the contract keeps of the blueprint beside its definition.
type OnChain struct {
	ChainID  uint64 `json:"chain_id"`
	Contract string `json:"contract"` // its address: 0x and 40 lower-case digits
	Block    uint64 `json:"block"`    // whose state was read
	// Owner, Manager, CreatedAt and Active are empty or nil where the contract did not say.
	Owner     string `json:"owner,omitempty"`
	Manager   string `json:"manager,omitempty"`
	CreatedAt uint64 `json:"created_at,omitempty"` // in Unix seconds
	Active    *bool  `json:"active,omitempty"`
	// NamesFrom and SourcesFrom say how the names of the jobs and the sources became known: from the "call" itself, or from an "event" or the
	// "cache" of one, verified against the hash that the contract keeps. Empty: they are not known.
	NamesFrom   string `json:"names_from,omitempty"`
	SourcesFrom string `json:"sources_from,omitempty"`
}

// Resources are what a blueprint declares to need. Zero is no demand.
type Resources struct {
	CPUCores  uint64 `json:"cpu_cores,omitempty"`
	MemoryMB  uint64 `json:"memory_mb,omitempty"`  // MiB
	StorageMB uint64 `json:"storage_mb,omitempty"` // MiB
	EgressMB  uint64 `json:"egress_mb,omitempty"`  // MiB
	IngressMB uint64 `json:"ingress_mb,omitempty"` // MiB
	GPUs      uint64 `json:"gpus,omitempty"`
}

// BlueprintSource is one way that is published to get and run a blueprint.
type BlueprintSource struct {
	Kind        string            `json:"kind"`                   // container, wasm or native
	Image       string            `json:"image,omitempty"`        // of a container
	ArtifactURI string            `json:"artifact_uri,omitempty"` // of the others
	Entrypoint  string            `json:"entrypoint,omitempty"`   // of the others
	Binaries    []PublishedBinary `json:"binaries,omitempty"`
}

// PublishedBinary is one executable that a blueprint's owner has published.
type PublishedBinary struct {
	// Arch and OS are Go's names where Go has one; OS may be "bsd", or "unknown", which stands for any.
	Arch   string `json:"arch"`
	OS     string `json:"os"`
	Name   string `json:"name,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // 64 lower-case hexadecimal digits; empty: not published
}
