package faas

// The names under which the known providers register, as policy files spell them.
const (
	AWSLambda      = "aws-lambda"
	GCPFunctions   = "gcp-functions"
	AzureFunctions = "azure-functions"
	Custom         = "custom"
)

// Limits are the hard limits of a provider. A value equal to a limit fits.
type Limits struct {
	MaxMemoryMB    uint32 `json:"max_memory_mb"`    // memory of one function instance, in MiB
	MaxTimeoutSecs uint32 `json:"max_timeout_secs"` // longest run of one invocation, in seconds
	// MaxPayloadMB bounds a job's arguments and its output in one invocation, in MiB. It counts the
	// job's own bytes, not their encoding. Fewer fit if they travel as JSON: on AWS Lambda 4.5 MiB
	// in the compact form, and in the published form a quarter to a half of the limit.
	MaxPayloadMB uint32 `json:"max_payload_mb"`
}

// MemorySizes says which memory sizes a provider sells: the listed Sizes if there are any, else
// every multiple of Step from Min on.
type MemorySizes struct {
	Min   uint32   `json:"min"`
	Step  uint32   `json:"step"`
	Sizes []uint32 `json:"sizes,omitempty"` // ascending
}

// Largest returns the largest size sold that is at most limit, or 0 if none is.
func (s MemorySizes) Largest(limit uint32) uint32 {
	if len(s.Sizes) > 0 {
		largest := uint32(0)
		for _, size := range s.Sizes {
			if size <= limit {
				largest = max(largest, size)
			}
		}
		return largest
	}
	if limit < s.Min {
		return 0
	}
	if s.Step <= 1 {
		return limit
	}
	return max(limit/s.Step*s.Step, s.Min)
}

// RoundUp returns the smallest size sold that is at least mb. If there is none it returns mb
// itself, which the limit check then refuses.
func (m MemorySizes) RoundUp(mb uint32) uint32 {
	for _, size := range m.Sizes {
		if size >= mb {
			return size
		}
	}
	if len(m.Sizes) > 0 {
		return mb
	}
	if mb <= m.Min {
		return m.Min
	}
	if m.Step <= 1 {
		return mb
	}
	rounded := (uint64(mb) + uint64(m.Step) - 1) / uint64(m.Step) * uint64(m.Step)
	if rounded > uint64(^uint32(0)) {
		return mb
	}
	return uint32(rounded)
}

// known is what this package knows of the module's own providers without linking them. It is never
// written to.
//
// Sources: AWS https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html;
// Google https://cloud.google.com/functions/quotas and
// https://cloud.google.com/run/docs/configuring/services/memory-limits
// (the payload limit is the policy's, which is stricter than the 32 MB of the second generation);
// Azure https://learn.microsoft.com/azure/azure-functions/functions-scale;
// custom: the custom FaaS platform protocol, v1.0.
var known = map[string]struct {
	limits     Limits
	sizes      MemorySizes
	importPath string
	tag        string
}{
	AWSLambda: {Limits{10240, 900, 6}, MemorySizes{Min: 128, Step: 1}, modulePath + "/faas/aws", "faas_aws"},
	GCPFunctions: {Limits{32768, 3600, 10}, MemorySizes{
		Sizes: []uint32{128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}}, modulePath + "/faas/gcp", "faas_gcp"},
	AzureFunctions: {Limits{14336, 600, 100}, MemorySizes{Sizes: []uint32{512, 2048, 4096}}, modulePath + "/faas/azure",
		"faas_azure"},
	Custom: {Limits{2048, 300, 5}, MemorySizes{Min: 128, Step: 1}, modulePath + "/faas/custom", ""},
}

const modulePath = "github.com/tangle-network/blueprint-serverless"

// ProviderLimits returns the limits of a provider of this module, linked or not, or of another
// one that is registered.
func ProviderLimits(name string) (Limits, bool) {
	if k, ok := known[name]; ok {
		return k.limits, true
	}
	if info, ok := lookup(name); ok {
		return info.Limits, true
	}
	return Limits{}, false
}

// ProviderReplyLimit returns how many seconds a caller can wait for an answer if that is less
// than the provider's timeout limit, else 0. Azure's front end closes a connection after 230 s,
// though the function may run on:
// https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout.
func ProviderReplyLimit(name string) uint32 {
	if name == AzureFunctions {
		return 230
	}
	return 0
}

// ProviderMemorySizes returns the memory sizes that a provider sells. It knows the same names as
// [ProviderLimits].
func ProviderMemorySizes(name string) (MemorySizes, bool) {
	if k, ok := known[name]; ok {
		return k.sizes, true
	}
	if info, ok := lookup(name); ok {
		return info.MemorySizes, true
	}
	return MemorySizes{}, false
}
