package serverless

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// StrategyKind is the kind of deployment that an analysis recommends.
type StrategyKind string

// The kinds.
const (
	StrategyServerless  StrategyKind = "serverless"  // every job fits
	StrategyHybrid      StrategyKind = "hybrid"      // some jobs fit, and the others run beside them
	StrategyTraditional StrategyKind = "traditional" // no job fits, or serverless is off
)

// Strategy says which jobs run where. Every job is in exactly one list. Both lists ascend, and
// neither is ever nil.
type Strategy struct {
	Kind      StrategyKind `json:"kind"`
	FaaSJobs  []uint32     `json:"faas_jobs"`
	LocalJobs []uint32     `json:"local_jobs"`
}

// JobNeeds is what a job's function is deployed with. Both values have a margin above what was
// measured, as far as the limits of the provider allow.
type JobNeeds struct {
	// MemoryMB is a quarter more than the measured peak, rounded up to a size that is sold, in MiB.
	MemoryMB uint32 `json:"memory_mb"`
	// TimeoutSecs is twice the longest measured percentile, and at least 10, in seconds. An unused
	// timeout costs nothing, and one that a cold start exceeds costs the invocation.
	TimeoutSecs uint32 `json:"timeout_secs"`
}

// JobAnalysis says whether a job fits, and why not.
type JobAnalysis struct {
	JobID uint32 `json:"job_id"`
	// Compatible says that the job fits. Strategy says whether it runs on FaaS.
	Compatible bool `json:"compatible"`
	// Reasons are all reasons why the job does not fit, in the order of the codes. It is empty exactly
	// if the job is Compatible.
	Reasons []Reason `json:"reasons,omitempty"`
	// Needs is nil without a profile. It is within the limits if the job is compatible.
	Needs *JobNeeds `json:"needs,omitempty"`
}

// Sizing is what the machine for the jobs that are not on FaaS needs. It covers every job, because
// all of them run there after a fallback.
type Sizing struct {
	// MemoryMB is one and a half times the largest peak, at least 512 and at least what the blueprint
	// declares, in MiB.
	MemoryMB uint32 `json:"memory_mb"`
	// CPUCores is one for each 2048 MiB or part of it, at least 1. If the blueprint declares cores, it
	// is at least those, and counts only the measured memory.
	CPUCores uint32 `json:"cpu_cores"`
}

// Analysis says for every job whether it fits the provider, and recommends a strategy. It is a
// plain value. Its JSON is stable:
//
//	{
//	  "provider": "aws-lambda",            // absent if only limits were given
//	  "limits": {"max_memory_mb": 10240, "max_timeout_secs": 900, "max_payload_mb": 6},
//	  "serverless_enabled": true,
//	  "strategy": {"kind": "hybrid", "faas_jobs": [0], "local_jobs": [1]},
//	  "jobs": [                            // by ascending job id
//	    {"job_id": 0, "compatible": true, "needs": {"memory_mb": 128, "timeout_secs": 10}},
//	    {"job_id": 1, "compatible": false, "needs": {...},
//	     "reasons": [{"code": "too_slow", "value": 910000, "limit": 900000}]}
//	  ],
//	  "sizing": {"memory_mb": 512, "cpu_cores": 1}
//	}
type Analysis struct {
	Provider          string        `json:"provider,omitempty"`
	Limits            faas.Limits   `json:"limits"`
	ServerlessEnabled bool          `json:"serverless_enabled"`
	Strategy          Strategy      `json:"strategy"`
	Jobs              []JobAnalysis `json:"jobs"`
	Sizing            Sizing        `json:"sizing"`
}

// bareSizes are the memory sizes that [Analyze] rounds to, because it knows no provider.
var bareSizes = faas.MemorySizes{Min: 128, Step: 64}

// Analyze says which jobs fit within the limits, and where they should run.
//
// A job without a profile does not fit: nothing untested goes to production. A profiled job fits
// unless its p95 duration is above the timeout limit, its peak memory is above the memory limit, it
// is stateful, it keeps persistent connections, or the blueprint demands a TEE or a GPU. A value
// equal to a limit fits.
//
// The strategy is StrategyServerless if every job fits, StrategyHybrid if some do, and
// StrategyTraditional with all jobs if none does, if there are no jobs, or if serverless is not
// enabled. Jobs are analysed even if serverless is not enabled.
//
// Needs are rounded up to multiples of 64 MiB, at least 128; [AnalyzeFor] rounds to what a provider
// sells.
//
// Analyze is pure and deterministic: it reads no clock, does no I/O, does not change meta, keeps no
// reference to it, and never panics. Nil metadata is that of a blueprint without jobs. Jobs may be
// in any order. Several entries of one id count as one job, which has no profile if one of them has
// none, and otherwise is as demanding as all of them together. The time is linear in the number of
// jobs if their ids ascend.
func Analyze(meta *Metadata, limits faas.Limits, serverlessEnabled bool) *Analysis {
	return analyze(meta, "", limits, bareSizes, serverlessEnabled)
}

// AnalyzeFor is [Analyze] with the limits of a provider and the memory sizes it sells. It returns
// an ErrInvalidArgument if [faas.ProviderLimits] does not know the provider, which need not be
// linked in.
func AnalyzeFor(meta *Metadata, provider string, serverlessEnabled bool) (*Analysis, error) {
	limits, ok := faas.ProviderLimits(provider)
	if !ok {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "analyze", "",
			"unknown provider %q (known: %s)", provider, strings.Join(faas.KnownNames(), ", "))
	}
	sizes, _ := faas.ProviderMemorySizes(provider)
	if sizes.Min == 0 && sizes.Step == 0 && len(sizes.Sizes) == 0 { // the provider does not say
		sizes = bareSizes
	}
	return analyze(meta, provider, limits, sizes, serverlessEnabled), nil
}

func analyze(meta *Metadata, provider string, limits faas.Limits, sizes faas.MemorySizes, enabled bool) *Analysis {
	var given []Job
	var exec ExecutionProfile
	var declared Resources
	if meta != nil {
		given, exec, declared = distinct(meta.Jobs), meta.Execution, meta.Requirements
	}
	gpus := demandedGPUs(exec, declared)
	a := &Analysis{
		Provider: provider, Limits: limits, ServerlessEnabled: enabled,
		Strategy: Strategy{Kind: StrategyTraditional},
		Jobs:     make([]JobAnalysis, len(given)),
	}
	var peak uint32
	fit := 0
	var reasons []Reason                  // of all jobs, one after the other
	needs := make([]JobNeeds, len(given)) // of all jobs
	for i := range given {
		job, result := &given[i], &a.Jobs[i]
		result.JobID = job.ID
		before := len(reasons)
		reasons = appendReasons(reasons, job.Profile, exec.NeedsTEE(), gpus, limits)
		if len(reasons) > before {
			result.Reasons = reasons[before:len(reasons):len(reasons)]
		} else {
			result.Compatible = true
			fit++
		}
		if job.Profile != nil {
			peak = max(peak, job.Profile.PeakMemoryMB)
			needs[i] = jobNeeds(job.Profile, limits, sizes)
			result.Needs = &needs[i]
		}
	}
	if enabled && fit > 0 {
		a.Strategy.Kind = StrategyHybrid
		if fit == len(given) {
			a.Strategy.Kind = StrategyServerless
		}
	} else {
		fit = 0 // no job goes there
	}
	a.Strategy.FaaSJobs, a.Strategy.LocalJobs = make([]uint32, 0, fit), make([]uint32, 0, len(given)-fit)
	for i := range a.Jobs {
		if a.Strategy.Kind != StrategyTraditional && a.Jobs[i].Compatible {
			a.Strategy.FaaSJobs = append(a.Strategy.FaaSJobs, a.Jobs[i].JobID)
		} else {
			a.Strategy.LocalJobs = append(a.Strategy.LocalJobs, a.Jobs[i].JobID)
		}
	}
	a.Sizing = sizing(peak, declared)
	return a
}

// distinct returns the jobs by ascending id, each once. It does not change jobs, and returns it as
// it is if nothing has to be done.
func distinct(jobs []Job) []Job {
	ascending := true
	for i := 1; i < len(jobs) && ascending; i++ {
		ascending = jobs[i-1].ID < jobs[i].ID
	}
	if ascending {
		return jobs
	}
	sorted := slices.Clone(jobs)
	slices.SortStableFunc(sorted, func(a, b Job) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	kept := sorted[:1]
	for _, job := range sorted[1:] {
		last := &kept[len(kept)-1]
		if job.ID != last.ID {
			kept = append(kept, job)
			continue
		}
		last.Profile = worse(last.Profile, job.Profile)
	}
	return kept
}

// worse combines two profiles of one job into one that is as demanding as both.
func worse(a, b *JobProfile) *JobProfile {
	if a == nil || b == nil {
		return nil
	}
	return &JobProfile{
		AvgDurationMS:         max(a.AvgDurationMS, b.AvgDurationMS),
		P95DurationMS:         max(a.P95DurationMS, b.P95DurationMS),
		P99DurationMS:         max(a.P99DurationMS, b.P99DurationMS),
		PeakMemoryMB:          max(a.PeakMemoryMB, b.PeakMemoryMB),
		Stateful:              a.Stateful || b.Stateful,
		PersistentConnections: a.PersistentConnections || b.PersistentConnections,
		SampleSize:            min(a.SampleSize, b.SampleSize),
	}
}

func appendReasons(to []Reason, p *JobProfile, tee bool, gpus uint64, limits faas.Limits) []Reason {
	if p == nil {
		to = append(to, Reason{Code: ReasonNoProfile})
	} else {
		if limit := uint64(limits.MaxTimeoutSecs) * 1000; p.P95DurationMS > limit {
			to = append(to, Reason{ReasonTooSlow, p.P95DurationMS, limit})
		}
		if p.PeakMemoryMB > limits.MaxMemoryMB {
			to = append(to, Reason{ReasonTooMuchMemory, uint64(p.PeakMemoryMB), uint64(limits.MaxMemoryMB)})
		}
		if p.Stateful {
			to = append(to, Reason{Code: ReasonStateful})
		}
		if p.PersistentConnections {
			to = append(to, Reason{Code: ReasonPersistentConnections})
		}
	}
	if tee {
		to = append(to, Reason{Code: ReasonNeedsTEE})
	}
	if gpus > 0 {
		to = append(to, Reason{Code: ReasonNeedsGPU, Value: gpus})
	}
	return to
}

// demandedGPUs is how many GPUs the execution profile or the declared resources demand.
func demandedGPUs(exec ExecutionProfile, declared Resources) uint64 {
	if !exec.NeedsGPU() {
		return declared.GPUs
	}
	return max(uint64(exec.GPU.MinCount), declared.GPUs, 1)
}

func jobNeeds(p *JobProfile, limits faas.Limits, sizes faas.MemorySizes) JobNeeds {
	const minTimeoutSecs = 10
	longest := max(p.P95DurationMS, p.P99DurationMS)
	// twice the duration in seconds, rounded up, without the overflow of 2*longest
	secs := longest/500 + min(longest%500, 1)
	needs := JobNeeds{
		MemoryMB:    memoryFor(p.PeakMemoryMB, limits.MaxMemoryMB, sizes),
		TimeoutSecs: max(saturate(secs), minTimeoutSecs),
	}
	// The tail may exceed the limit that the 95th percentile is compared with. The longest timeout has
	// to be enough then.
	if p.P95DurationMS <= uint64(limits.MaxTimeoutSecs)*1000 {
		needs.TimeoutSecs = min(needs.TimeoutSecs, limits.MaxTimeoutSecs)
	}
	return needs
}

// memoryFor returns the size to buy for a peak: a quarter above it, but within the limit if the
// peak is.
func memoryFor(peak, limit uint32, sizes faas.MemorySizes) uint32 {
	wanted := sizes.RoundUp(saturate(uint64(peak) + (uint64(peak)+3)/4))
	if peak > limit {
		return wanted
	}
	if largest := sizes.Largest(limit); wanted > largest && peak <= largest {
		return largest
	}
	return min(wanted, limit)
}

func sizing(peak uint32, declared Resources) Sizing {
	const minMB, mbPerCore = 512, 2048
	cores := func(mb uint32) uint32 { return uint32((uint64(mb) + mbPerCore - 1) / mbPerCore) }
	measured := max(saturate((uint64(peak)*3+1)/2), minMB)
	s := Sizing{MemoryMB: max(measured, saturate(declared.MemoryMB))}
	if declared.CPUCores > 0 {
		s.CPUCores = max(cores(measured), saturate(declared.CPUCores))
	} else {
		s.CPUCores = cores(s.MemoryMB)
	}
	return s
}

func saturate(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// String returns a table for people: the strategy in the first line, then a line for each job.
func (a *Analysis) String() string {
	if a == nil {
		return "no analysis"
	}
	var b strings.Builder
	b.WriteString(string(a.Strategy.Kind))
	if a.Provider != "" {
		b.WriteString(" on " + a.Provider)
	}
	fit := 0
	for i := range a.Jobs {
		if a.Jobs[i].Compatible {
			fit++
		}
	}
	fmt.Fprintf(&b, ": %d of %s fit", fit, count(len(a.Jobs), "job"))
	if !a.ServerlessEnabled {
		b.WriteString(", serverless is not enabled")
	}
	fmt.Fprintf(&b, "; VM part: %d MiB, %s", a.Sizing.MemoryMB, count(int(a.Sizing.CPUCores), "core"))
	for i := range a.Jobs {
		job := &a.Jobs[i]
		fmt.Fprintf(&b, "\n  job %-3d ", job.JobID)
		if job.Compatible && job.Needs != nil {
			fmt.Fprintf(&b, "fits: %d MiB, %d s", job.Needs.MemoryMB, job.Needs.TimeoutSecs)
			continue
		}
		b.WriteString("does not fit: ")
		for n, reason := range job.Reasons {
			if n > 0 {
				b.WriteString("; ")
			}
			b.WriteString(reason.String())
		}
	}
	return b.String()
}

// ReasonCode is the kind of a [Reason].
type ReasonCode string

// The codes, in the order in which an analysis lists them.
const (
	ReasonNoProfile             ReasonCode = "no_profile"             // never profiled
	ReasonTooSlow               ReasonCode = "too_slow"               // p95 above the timeout limit; both in milliseconds
	ReasonTooMuchMemory         ReasonCode = "too_much_memory"        // peak above the memory limit; both in MiB
	ReasonStateful              ReasonCode = "stateful"               // keeps state between invocations
	ReasonPersistentConnections ReasonCode = "persistent_connections" // keeps connections open between invocations
	ReasonNeedsTEE              ReasonCode = "needs_tee"              // the blueprint demands trusted hardware
	ReasonNeedsGPU              ReasonCode = "needs_gpu"              // the blueprint demands GPUs; the value is how many
)

// Reason is why a job does not fit. Value and Limit are in the unit of the code, and zero if the
// code has none.
type Reason struct {
	Code  ReasonCode `json:"code"`
	Value uint64     `json:"value,omitempty"` // measured or demanded
	Limit uint64     `json:"limit,omitempty"` // the largest value that fits
}

// String returns a sentence with the value, the limit and their unit.
func (r Reason) String() string {
	switch r.Code {
	case ReasonNoProfile:
		return "it was never profiled, and nothing untested is deployed: measure it with package profile, which " +
			"writes blueprint-profiles.json"
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
