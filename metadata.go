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
	SourceMock  MetadataSource = "mock"  // made up: no contract is configured, or the caller asked for it
)

// ProfileSource says where a job's profile comes from.
type ProfileSource string

// The sources of profiles, in descending priority. All profiles of a blueprint come from the first
// source that has any.
const (
	ProfileFromFile        ProfileSource = "file"        // blueprint-profiles.json beside the binary
	ProfileFromChain       ProfileSource = "chain"       // profilingData of the definition
	ProfileFromDescription ProfileSource = "description" // the legacy marker in the definition's description
)

// Metadata describes a blueprint. It is a plain value that survives being stored as JSON.
type Metadata struct {
	BlueprintID uint64         `json:"blueprint_id"`
	Source      MetadataSource `json:"source"`
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	// Jobs holds the blueprint's jobs by ascending id. FetchMetadata never leaves it nil.
	Jobs []Job `json:"jobs"`
	// Execution restricts where the jobs may run. The zero value has no restrictions.
	Execution ExecutionProfile `json:"execution_profile,omitzero"`
	// Requirements is what the blueprint declares to need for all jobs together.
	Requirements Resources `json:"requirements,omitzero"`
	// Sources lists the published ways to get the blueprint. It is empty if there are none or if they
	// are unknown; OnChain.SourcesFrom tells which.
	Sources []BlueprintSource `json:"sources,omitempty"`
	// OnChain is nil if and only if Source is not SourceChain.
	OnChain *OnChain `json:"on_chain,omitempty"`
	// Warnings holds a sentence for everything that was ignored or could not be trusted.
	Warnings []string `json:"warnings,omitempty"`
}

// Job is one job of a blueprint.
type Job struct {
	ID            uint32        `json:"id"`
	Name          string        `json:"name,omitempty"`
	Profile       *JobProfile   `json:"profile,omitempty"` // nil if the job was never profiled
	ProfileSource ProfileSource `json:"profile_source,omitempty"`
}

// JobProfile holds the measurements of a job. Package profile makes them.
type JobProfile struct {
	AvgDurationMS         uint64 `json:"avg_duration_ms"`
	P95DurationMS         uint64 `json:"p95_duration_ms"`
	P99DurationMS         uint64 `json:"p99_duration_ms"`        // 0 if unknown
	PeakMemoryMB          uint32 `json:"peak_memory_mb"`         // MiB
	Stateful              bool   `json:"stateful"`               // keeps state between invocations
	PersistentConnections bool   `json:"persistent_connections"` // keeps connections open between invocations
	SampleSize            uint32 `json:"sample_size"`            // 0 if unknown
}

// ExecutionProfile restricts where a blueprint's jobs may run.
type ExecutionProfile struct {
	// Confidentiality is empty, any, tee_required, standard_required or tee_preferred.
	Confidentiality string         `json:"confidentiality,omitempty"`
	GPU             GPURequirement `json:"gpu,omitzero"`
}

// GPURequirement is a blueprint's demand for graphics processors.
type GPURequirement struct {
	// Policy is empty, none, required or preferred.
	Policy    string `json:"policy,omitempty"`
	MinCount  uint32 `json:"min_count,omitempty"`
	MinVRAMGB uint32 `json:"min_vram_gb,omitempty"` // of one GPU, in GiB
}

// NeedsTEE reports whether the jobs must run in a trusted execution environment. An unknown value
// counts as that demand: otherwise a confidential job could run in an untrusted place.
func (e ExecutionProfile) NeedsTEE() bool {
	switch e.Confidentiality {
	case "", "any", "standard_required", "tee_preferred":
		return false
	}
	return true
}

// NeedsGPU reports whether the jobs must have a GPU. An unknown policy counts as that demand.
func (e ExecutionProfile) NeedsGPU() bool {
	switch e.GPU.Policy {
	case "", "none", "preferred":
		return false
	}
	return true
}

// String returns a line that summarises the metadata, followed by a line for each warning.
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

// count returns "1 job" or "2 jobs".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// OnChain says where and when the metadata was read, and what the contract stores about the
// blueprint besides its definition.
type OnChain struct {
	ChainID  uint64 `json:"chain_id"`
	Contract string `json:"contract"` // address: 0x and 40 lower-case digits
	Block    uint64 `json:"block"`    // the block whose state was read
	// Owner, Manager, CreatedAt and Active are empty or nil if the contract did not return them.
	Owner     string `json:"owner,omitempty"`
	Manager   string `json:"manager,omitempty"`
	CreatedAt uint64 `json:"created_at,omitempty"` // Unix seconds
	Active    *bool  `json:"active,omitempty"`
	// NamesFrom and SourcesFrom say where the names of the jobs and the sources come from: the "call"
	// itself, an "event", or the "cache" of an event. Events are verified against the hash that the
	// contract stores. The empty string means that they are unknown.
	NamesFrom   string `json:"names_from,omitempty"`
	SourcesFrom string `json:"sources_from,omitempty"`
}

// Resources is what a blueprint declares to need. Zero means no demand.
type Resources struct {
	CPUCores  uint64 `json:"cpu_cores,omitempty"`
	MemoryMB  uint64 `json:"memory_mb,omitempty"`  // MiB
	StorageMB uint64 `json:"storage_mb,omitempty"` // MiB
	EgressMB  uint64 `json:"egress_mb,omitempty"`  // MiB
	IngressMB uint64 `json:"ingress_mb,omitempty"` // MiB
	GPUs      uint64 `json:"gpus,omitempty"`
}

// BlueprintSource is a published way to get and run a blueprint.
type BlueprintSource struct {
	Kind        string            `json:"kind"`                   // container, wasm or native
	Image       string            `json:"image,omitempty"`        // of a container
	ArtifactURI string            `json:"artifact_uri,omitempty"` // of the other kinds
	Entrypoint  string            `json:"entrypoint,omitempty"`   // of the other kinds
	Binaries    []PublishedBinary `json:"binaries,omitempty"`
}

// PublishedBinary is an executable that a blueprint's owner has published.
type PublishedBinary struct {
	// Arch and OS are Go's names if Go has one. OS may also be "bsd", or "unknown" for any system.
	Arch   string `json:"arch"`
	OS     string `json:"os"`
	Name   string `json:"name,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // 64 lower-case hexadecimal digits; empty if not published
}
