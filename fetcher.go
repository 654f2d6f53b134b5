package serverless

import (
	"context"
	"log/slog"
	"net/http"
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

// The sources of profiles, by descending priority.
const (
	ProfileFromFile        ProfileSource = "file"        // blueprint-profiles.json beside the binary
	ProfileFromChain       ProfileSource = "chain"       // profilingData of the definition
	ProfileFromDescription ProfileSource = "description" // the legacy marker in the definition's description
)

// Metadata is what is known of a blueprint. It is a plain value.
type Metadata struct {
	BlueprintID uint64         `json:"blueprint_id"`
	Source      MetadataSource `json:"source"`
	Name        string         `json:"name,omitempty"`
	Jobs        []Job          `json:"jobs"`
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

// JobProfile is what was measured of a job.
type JobProfile struct {
	AvgDurationMS         uint64 `json:"avg_duration_ms"`
	P95DurationMS         uint64 `json:"p95_duration_ms"`
	P99DurationMS         uint64 `json:"p99_duration_ms"`
	PeakMemoryMB          uint32 `json:"peak_memory_mb"` // MiB
	Stateful              bool   `json:"stateful"`
	PersistentConnections bool   `json:"persistent_connections"`
	SampleSize            uint32 `json:"sample_size"`
}

// FetchOption configures [FetchMetadata].
type FetchOption func(*fetchOptions)

type fetchOptions struct {
	rpc        []string
	contract   string
	binary     string
	mock       bool
	httpClient *http.Client
	logger     *slog.Logger
}

// WithBinary names the blueprint's binary, beside which blueprint-profiles.json is looked for.
func WithBinary(path string) FetchOption { return func(o *fetchOptions) { o.binary = path } }

// WithMock asks for made-up metadata.
func WithMock() FetchOption { return func(o *fetchOptions) { o.mock = true } }

// FetchMetadata says what is known of a blueprint.
func FetchMetadata(ctx context.Context, blueprintID uint64, opts ...FetchOption) (*Metadata, error) {
	panic("being written")
}
