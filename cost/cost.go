// Package cost estimates what a blueprint's jobs cost in a month on serverless platforms, and what a
// machine for all of them would cost instead.
//
// [ForProvider] estimates by the measured profiles of the jobs, [ForPlan] what a plan would deploy, and
// [Compare] sets all providers side by side. Prices are data: [DefaultPrices] come with the module,
// [LoadPrices] reads others, and package refresh reads what the providers publish today. Nothing here
// makes a request.
package cost

import (
	"cmp"
	"math"
	"slices"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// Input is what the cost of a month depends on beside the profiles.
type Input struct {
	// CallsPerMonth is how often each job is called in a month; JobCalls says otherwise for single jobs.
	CallsPerMonth uint64
	JobCalls      map[uint32]uint64
	// DefaultMemoryMB is that of the policy, in MiB: a function has at least that much, or the largest size that is sold. 0 counts with what the jobs need.
	DefaultMemoryMB uint32
	// KeepWarm is how many instances of each function are kept ready all the time.
	KeepWarm uint32
	// Overrides are the policy's settings of single jobs, of which memory and keep_warm count here.
	Overrides map[uint32]serverless.JobSettings
	// Arch is that of the binary; arm64 has prices of its own on some providers. Empty counts as amd64.
	Arch faas.Arch
	// Prices are [DefaultPrices] where nil.
	Prices *Prices
}

// Estimate is what the jobs cost in a month of 730 hours, in Currency and before taxes. It is a plain value.
type Estimate struct {
	Provider   string   `json:"provider"`
	Currency   string   `json:"currency"`
	Region     string   `json:"region"`
	AsOf       string   `json:"as_of"`
	Source     string   `json:"source"`               // of the prices
	Unverified []string `json:"unverified,omitempty"` // those of the prices that were not seen at the provider itself
	// those that fit the provider, by ascending id; amounts before what is free
	Jobs []Job `json:"jobs"`
	// FreeTier is what an account that does nothing else does not pay of the jobs' requests and computing.
	FreeTier float64 `json:"free_tier"`
	Total    float64 `json:"total"`
	// Machine is the alternative: the cheapest machine for all jobs of the blueprint. Nil where no machine is large enough.
	Machine *Machine `json:"machine,omitempty"`
	// BreakEvenCalls is how many calls a month, of all jobs together and in the same proportion, cost as much as the machine; fewer are cheaper on
	// FaaS. 0: there is no such number, because nothing is called, calls are free, or keeping instances warm costs more than the machine.
	BreakEvenCalls uint64 `json:"break_even_calls,omitempty"`
}

// Job is what one job costs in a month, before what is free.
type Job struct {
	JobID    uint32  `json:"job_id"`
	Calls    uint64  `json:"calls"`
	MemoryMB uint32  `json:"memory_mb"`
	VCPUs    float64 `json:"vcpus,omitempty"` // where processors are billed apart
	BilledMS uint64  `json:"billed_ms"`       // of a call of average duration
	Requests float64 `json:"requests"`
	Compute  float64 `json:"compute"` // the memory and the processors of the calls, as if it were the only job
	KeepWarm float64 `json:"keep_warm"`
}

// Machine is what a machine costs in a month.
type Machine struct {
	Name    string  `json:"name"`
	Machine float64 `json:"machine"`
	Address float64 `json:"address"` // a public IPv4 address
	Total   float64 `json:"total"`
}

const (
	hoursPerMonth   = 730
	secondsPerMonth = hoursPerMonth * 3600
)

// ForProvider says what the jobs that fit a provider cost there in a month, by their profiles and list prices, and what a machine for all of them would
// cost in its place. It is pure.
//
// It is meant to err on the dear side: a profile's durations include the start of the process, every call has an instance of its own, and instances
// that are kept warm are paid all the time, also where the provider bills a busy one only for its call. Calls run on instances that are kept warm as
// long as there is time on them. Functions have no disk beyond what is included in their price (512 MB on AWS). What is transferred and stored, and
// retried, is not in it, nor is the machine that jobs which do not fit need.
//
// The error is ErrInvalidArgument for a provider that is not known, ErrUnsupported for one without a price.
func ForProvider(meta *serverless.Metadata, provider string, in Input) (*Estimate, error) {
	analysis, err := serverless.AnalyzeFor(meta, provider, true)
	if err != nil {
		return nil, err
	}
	c, err := newCalculation(provider, in.Arch, in.Prices)
	if err != nil {
		return nil, err
	}
	sizes, _ := faas.ProviderMemorySizes(provider)
	largest := sizes.Largest(analysis.Limits.MaxMemoryMB)
	profiles := profilesOf(meta)
	for _, job := range analysis.Jobs {
		profile := profiles[job.JobID]
		if !job.Compatible || job.Needs == nil || profile == nil {
			continue
		}
		calls, set := in.JobCalls[job.JobID]
		if !set {
			calls = in.CallsPerMonth
		}
		own := in.Overrides[job.JobID]
		memory := sizes.RoundUp(max(min(cmp.Or(own.MemoryMB, in.DefaultMemoryMB), largest), job.Needs.MemoryMB))
		c.add(job.JobID, calls, memory, *cmp.Or(own.KeepWarm, &in.KeepWarm), profile)
	}
	return c.estimate(analysis.Sizing), nil
}

// ForPlan estimates what the functions that a plan creates, updates or keeps cost in a month in which
// each is called so many times. It counts as [ForProvider] does, with the memory sizes and the warm
// instances of the plan. The plan may have been read back from JSON. Nil prices are [DefaultPrices].
//
// The error is ErrUnsupported for a provider without a price.
func ForPlan(plan *serverless.Plan, callsPerMonth uint64, prices *Prices) (*Estimate, error) {
	c, err := newCalculation(plan.Provider.Provider, plan.Binary.Arch, prices)
	if err != nil {
		return nil, err
	}
	profiles := profilesOf(plan.Metadata)
	for _, change := range plan.Changes {
		for _, f := range change.Functions {
			if profile := profiles[f.JobID]; profile != nil && change.Action != serverless.ActionRemove {
				c.add(f.JobID, callsPerMonth, f.MemoryMB, f.KeepWarm, profile)
			}
		}
	}
	var sizing serverless.Sizing
	if plan.Analysis != nil {
		sizing = plan.Analysis.Sizing
	}
	return c.estimate(sizing), nil
}

// profilesOf returns the profiles that the jobs are analyzed by.
func profilesOf(meta *serverless.Metadata) map[uint32]*serverless.JobProfile {
	profiles := map[uint32]*serverless.JobProfile{}
	if meta != nil {
		for _, job := range slices.Backward(meta.Jobs) { // the first of two with one id counts
			profiles[job.ID] = job.Profile
		}
	}
	return profiles
}

// calculation sums what jobs use.
type calculation struct {
	provider string
	prices   *Prices
	price    ProviderPrices
	warm     map[uint32]float64 // instances kept ready, by job
	jobs     []Job
	calls    float64
}

func newCalculation(provider string, arch faas.Arch, prices *Prices) (*calculation, error) {
	if prices == nil {
		prices = DefaultPrices()
	}
	price, ok := prices.Providers[provider]
	if !ok {
		return nil, faas.Errorf(faas.ErrUnsupported, "estimate cost", provider,
			"no prices are known for it: give some with LoadPrices")
	}
	return &calculation{provider: provider, prices: prices, price: price.forArch(arch), warm: map[uint32]float64{}}, nil
}

// estimate sums what was added. Jobs on a machine would need the sizing.
func (c *calculation) estimate(sizing serverless.Sizing) *Estimate {
	slices.SortFunc(c.jobs, func(a, b Job) int { return cmp.Compare(a.JobID, b.JobID) })
	out := &Estimate{
		Provider: c.provider, Currency: c.prices.Currency, Region: c.price.Region, AsOf: c.price.AsOf,
		Source: c.price.Source, Unverified: c.price.Unverified, Jobs: c.jobs,
		Machine: c.prices.Machines.cheapest(sizing),
	}
	if out.Jobs == nil {
		out.Jobs = []Job{}
	}
	out.Total, out.FreeTier = c.total(1)
	if out.Machine != nil {
		out.BreakEvenCalls = c.breakEven(out.Machine.Total)
	}
	return out
}

// usage is what is billed of calls.
type usage struct{ calls, gbSeconds, warmGBSeconds, vcpuSeconds float64 }

func (u usage) plus(v usage) usage {
	return usage{u.calls + v.calls, u.gbSeconds + v.gbSeconds, u.warmGBSeconds + v.warmGBSeconds,
		u.vcpuSeconds + v.vcpuSeconds}
}

// of is what a job's calls use, so many times as often as it is called.
func (c *calculation) of(job Job, times float64) usage {
	gb := float64(job.MemoryMB) / 1024
	calls := float64(job.Calls) * times
	seconds := calls * float64(job.BilledMS) / 1000
	warm := 0.0 // of these seconds, at the price of instances that are kept warm
	if c.price.WarmGBSecond > 0 {
		warm = min(seconds, c.warm[job.JobID]*secondsPerMonth)
	}
	return usage{calls: calls, gbSeconds: (seconds - warm) * gb, warmGBSeconds: warm * gb,
		vcpuSeconds: seconds * job.VCPUs}
}

func (c *calculation) requests(u usage) float64 { return u.calls / 1e6 * c.price.PerMillionRequests }

func (c *calculation) computing(u usage) float64 {
	return tiered(c.price.GBSecond, u.gbSeconds) + u.warmGBSeconds*c.price.WarmGBSecond + u.vcpuSeconds*c.price.VCPUSecond
}

func (c *calculation) add(id uint32, calls uint64, memoryMB, keepWarm uint32, profile *serverless.JobProfile) {
	job := Job{JobID: id, Calls: calls, MemoryMB: memoryMB, VCPUs: c.price.vcpus(memoryMB),
		BilledMS: c.price.billed(profile.AvgDurationMS)}
	c.warm[id] = float64(keepWarm)
	u := c.of(job, 1)
	job.Requests, job.Compute = c.requests(u), c.computing(u)
	job.KeepWarm = c.warm[id] * secondsPerMonth *
		(float64(memoryMB)/1024*c.price.IdleGBSecond + job.VCPUs*c.price.IdleVCPUSecond)
	c.jobs = append(c.jobs, job)
	c.calls += u.calls
}

// total is the cost of all jobs with so many times the calls, and what of it is free.
func (c *calculation) total(times float64) (pay, free float64) {
	var all, grantable usage
	for _, job := range c.jobs {
		u := c.of(job, times)
		all = all.plus(u)
		if c.warm[job.JobID] == 0 || !c.price.WarmNotFree {
			grantable = grantable.plus(u)
		}
		pay += job.KeepWarm
	}
	pay += c.requests(all) + c.computing(all)
	granted := usage{
		min(grantable.calls, c.price.FreeRequests), min(grantable.gbSeconds, c.price.FreeGBSeconds), 0,
		min(grantable.vcpuSeconds, c.price.FreeVCPUSeconds),
	}
	free = c.requests(granted) + c.computing(granted)
	return pay - free, free
}

// breakEven returns the least number of calls that cost at least as much as the limit; 0 where there is none.
func (c *calculation) breakEven(limit float64) uint64 {
	const most = 1e15 // calls; more than that nobody makes
	if pay, _ := c.total(0); c.calls == 0 || pay >= limit {
		return 0
	}
	if pay, _ := c.total(most / c.calls); pay < limit {
		return 0
	}
	low, high := uint64(0), uint64(most)
	for high-low > 1 {
		middle := low + (high-low)/2
		if pay, _ := c.total(float64(middle) / c.calls); pay < limit {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// tiered is the price of an amount in a month.
func tiered(tiers []Tier, amount float64) float64 {
	sum, from := 0.0, 0.0
	for _, tier := range tiers {
		upTo := tier.UpTo
		if upTo == 0 {
			upTo = math.Inf(1)
		}
		if amount > from {
			sum += (min(amount, upTo) - from) * tier.Price
		}
		from = upTo
	}
	return sum
}

// forArch puts the prices of an architecture in the place of the general ones, where it has its own.
func (p ProviderPrices) forArch(arch faas.Arch) ProviderPrices {
	if arch == faas.ARM64 {
		if len(p.GBSecondARM64) > 0 {
			p.GBSecond = p.GBSecondARM64
		}
		p.IdleGBSecond = cmp.Or(p.IdleGBSecondARM64, p.IdleGBSecond)
		p.WarmGBSecond = cmp.Or(p.WarmGBSecondARM64, p.WarmGBSecond)
	}
	return p
}

// billed is how long a call of that duration is billed for.
func (p ProviderPrices) billed(ms uint64) uint64 {
	ms = min(max(ms, p.MinimumMS), 1<<53) // below any overflow
	step := cmp.Or(p.StepMS, 1)
	return ms/step*step + min(ms%step, 1)*step
}

// vcpus is how many processors come with so much memory; 0 where they are not billed apart.
func (p ProviderPrices) vcpus(mb uint32) float64 {
	for _, share := range p.VCPUs {
		if mb <= share.UpToMB {
			return share.VCPUs
		}
	}
	if n := len(p.VCPUs); n > 0 {
		return p.VCPUs[n-1].VCPUs
	}
	return 0
}

// cheapest is the first machine that is large enough.
func (p MachinePrices) cheapest(need serverless.Sizing) *Machine {
	for _, m := range p.Sizes {
		if m.MemoryMB >= need.MemoryMB && m.Cores >= need.CPUCores {
			c := &Machine{Name: m.Name, Machine: m.Hour * hoursPerMonth, Address: p.AddressHour * hoursPerMonth}
			c.Total = c.Machine + c.Address
			return c
		}
	}
	return nil
}
