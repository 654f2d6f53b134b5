// Package profiles reads and writes the three formats of job profiles: the file beside the binary,
// the profilingData string in a blueprint's definition on chain, and the legacy marker in its
// description.
//
// The decoders take untrusted input. They are strict where a mistake could send an untested job to
// production, they report what they ignore, and they never allocate more than a small multiple of
// the input or of the limits below, whatever the input claims.
package profiles

// The limits of the decoders.
const (
	// MaxJobs is the largest number of jobs of a blueprint: a submission has one byte for the job's
	// index.
	MaxJobs = 256
	// MaxJSON is the largest size of the unpacked JSON, in bytes. 256 profiles need less than a tenth.
	MaxJSON = 1 << 20
	// maxPacked is the largest size of the base64 text, in bytes.
	maxPacked = 1 << 20
)

// Marker begins a description that holds profiles.
const Marker = "[PROFILING_DATA_V1]"

// Schema is the value of the member "schema" that existing tools write into profilingData.
const Schema = "tangle.blueprint.metadata.v1"

// Job is the profile of one job. An optional member that is absent is zero.
type Job struct {
	AvgDurationMS         uint64
	P95DurationMS         uint64
	P99DurationMS         uint64 // optional
	PeakMemoryMB          uint32 // MiB
	Stateful              bool
	PersistentConnections bool
	SampleSize            uint32 // optional
}

// Set is the profiles of a blueprint.
type Set struct {
	BlueprintName string
	ProfiledAt    string // RFC 3339, as written by whoever made it: not checked
	BinarySHA256  string // of the measured file, 64 lower-case hex digits; optional, and only in the profiles file
	Jobs          map[uint32]Job
}

// Execution says where a blueprint's jobs may run. The zero value demands nothing.
//
// A value that is not one of the constants is kept as it was read; one that was not a string
// becomes Unreadable. Callers must treat both as the strictest requirement.
type Execution struct {
	Confidentiality string
	GPU             GPU
}

// The values of Execution.Confidentiality. The empty string means any.
const (
	ConfidentialityAny      = "any"
	ConfidentialityTEE      = "tee_required"
	ConfidentialityStandard = "standard_required"
	ConfidentialityTEEFirst = "tee_preferred"
)

// The values of GPU.Policy. The empty string means none.
const (
	GPUNone      = "none"
	GPURequired  = "required"
	GPUPreferred = "preferred"
)

// Unreadable stands for a value that could not be read.
const Unreadable = "unreadable"

// GPU is what a blueprint needs of graphics processors.
type GPU struct {
	Policy    string
	MinCount  uint32
	MinVRAMGB uint32 // of one GPU, in GiB
}
