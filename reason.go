package serverless

import (
	"fmt"
	"strconv"
)

// ReasonCode is the kind of a [Reason].
type ReasonCode string

// The codes, in the order in which an analysis lists them.
const (
	ReasonNoProfile ReasonCode = "no_profile" // never profiled
	// p95 duration above the timeout limit; both in milliseconds
	ReasonTooSlow               ReasonCode = "too_slow"
	ReasonTooMuchMemory         ReasonCode = "too_much_memory"        // peak above the memory limit; both in MiB
	ReasonStateful              ReasonCode = "stateful"               // keeps state between invocations
	ReasonPersistentConnections ReasonCode = "persistent_connections" // keeps connections open between invocations
	// the blueprint demands a trusted execution environment
	ReasonNeedsTEE ReasonCode = "needs_tee"
	ReasonNeedsGPU ReasonCode = "needs_gpu" // the blueprint demands GPUs; the value is how many
)

// Reason is why a job does not fit. Value and Limit are in the unit of the code, and zero where the code has none.
type Reason struct {
	Code  ReasonCode `json:"code"`
	Value uint64     `json:"value,omitempty"` // measured or demanded
	Limit uint64     `json:"limit,omitempty"` // what would still fit
}

// String is a sentence with the measured value, the limit and their unit.
func (r Reason) String() string {
	switch r.Code {
	case ReasonNoProfile:
		return "it was never profiled, and nothing untested is deployed: measure it with ProfileJobs, which writes " +
			"blueprint-profiles.json"
	case ReasonTooSlow:
		return fmt.Sprintf("95%% of its runs take up to %s, longer than the timeout limit of %s", milliseconds(r.Value),
			milliseconds(r.Limit))
	case ReasonTooMuchMemory:
		return fmt.Sprintf("its peak memory of %d MiB is above the limit of %d MiB", r.Value, r.Limit)
	case ReasonStateful:
		return "it is stateful: it keeps state between invocations, which may reach different instances"
	case ReasonPersistentConnections:
		return "it keeps persistent connections, which end with the instance"
	case ReasonNeedsTEE:
		return "the blueprint needs a trusted execution environment (TEE), which functions do not have"
	case ReasonNeedsGPU:
		return fmt.Sprintf("the blueprint needs a GPU (at least %d), which functions do not have", r.Value)
	default:
		return fmt.Sprintf("%s (value %d, limit %d)", r.Code, r.Value, r.Limit)
	}
}

// milliseconds prints a duration in seconds, exactly.
func milliseconds(ms uint64) string {
	if ms%1000 == 0 {
		return strconv.FormatUint(ms/1000, 10) + " s"
	}
	if ms < 1000 {
		return strconv.FormatUint(ms, 10) + " ms"
	}
	return fmt.Sprintf("%d.%03d s", ms/1000, ms%1000)
}
