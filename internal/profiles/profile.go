// Package profiles reads and writes the three formats that job profiles travel in: the file beside the binary, the profilingData string of a
// blueprint's definition on chain, and the legacy marker in its description.
//
// The decoders take foreign input. They are strict where a mistake could send an untested job to production, they say what they ignored, and
// they never allocate more than a small multiple of the input or of the caps below, whatever the input claims.
package profiles

// The caps of the decoders.
const (
	// MaxJobs is how many jobs a blueprint can have: a job is submitted with an index of one byte.
	MaxJobs = 256
	// MaxJSON is how long the JSON of profiles may be, in bytes, unpacked. 256 profiles need less than a tenth of it.
	MaxJSON = 1 << 20
	// maxPacked is how long the base64 text of profiles may be, in bytes.
	maxPacked = 1 << 20
)

// Marker is what a description begins with that holds profiles.
const Marker = "[PROFILING_DATA_V1]"

// Schema is the value of the member "schema" that existing tooling writes into profilingData.
const Schema = "tangle.blueprint.metadata.v1"

// Job is what was measured of one job. Zero stands for an optional member that is absent.
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

// Execution says where a blueprint's jobs may run. The zero value asks for nothing.
//
// A value that is not one of the constants is kept as it was read, or is Unreadable where it was no string: whoever acts on it must take it
// for the strictest requirement.
type Execution struct {
	Confidentiality string
	GPU             GPU
}

// The values of Execution.Confidentiality; the empty string is any.
const (
	ConfidentialityAny      = "any"
	ConfidentialityTEE      = "tee_required"
	ConfidentialityStandard = "standard_required"
	ConfidentialityTEEFirst = "tee_preferred"
)

// The values of GPU.Policy; the empty string is none.
const (
	GPUNone      = "none"
	GPURequired  = "required"
	GPUPreferred = "preferred"
)

// Unreadable stands for a value that could not be read.
const Unreadable = "unreadable"

// GPU is what a blueprint asks for in graphics processors.
type GPU struct {
	Policy    string
	MinCount  uint32
	MinVRAMGB uint32 // of one GPU, in GiB
}
