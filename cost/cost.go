// Package cost estimates what a blueprint's jobs cost in a month on serverless platforms, and what
// a machine for all of them would cost instead.
//
// [ForProvider] estimates from the measured profiles of the jobs, [ForPlan] from a plan, and
// [Compare] compares all providers. Prices are data: [DefaultPrices] come with the module,
// [LoadPrices] reads others from a file, and package refresh reads what the providers publish
// today. This package makes no requests.
package cost

import (
	"cmp"
	"math"
	"slices"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// Input is what the cost of a month depends on besides the profiles.
type Input struct {
	// CallsPerMonth is how often each job is called in a month. JobCalls overrides it for single jobs.
	CallsPerMonth uint64
	JobCalls      map[uint32]uint64
	// DefaultMemoryMB is the policy's default memory in MiB. Each function gets at least that much, or
	// the largest size sold if that is less. If it is 0, each function gets what its job needs.
	DefaultMemoryMB uint32
	// KeepWarm is how many instances of each function are kept ready all the time.
	KeepWarm uint32
	// Overrides are the policy's settings for single jobs. Only memory and keep_warm affect the cost.
	Overrides map[uint32]serverless.JobSettings
	// Arch is the architecture of the binary. Some providers price arm64 differently. Empty means
	// amd64.
	Arch faas.Arch
	// Prices to estimate with. Nil means [DefaultPrices].
	Prices *Prices
}

// Estimate is what the jobs cost in a month of 730 hours, in Currency and before taxes. It is a
// plain value.
type Estimate struct {
	Provider   string   `json:"provider"`
	Currency   string   `json:"currency"`
	Region     string   `json:"region"`
	AsOf       string   `json:"as_of"`
	Source     string   `json:"source"`               // of the prices
	Unverified []string `json:"unverified,omitempty"` // those of the prices that were not seen at the provider itself
	// Jobs are the jobs that fit the provider, by ascending id, with amounts before the free tier.
	Jobs []Job `json:"jobs"`
	// FreeTier is the part of the jobs' requests and computing that is free for an account that runs
	// nothing else.
	FreeTier float64 `json:"free_tier"`
	Total    float64 `json:"total"`
	// Machine is the cheapest machine that could run all jobs of the blueprint, or nil if no machine
	// is large enough.
	Machine *Machine `json:"machine,omitempty"`
	// BreakEvenCalls is the least number of calls a month, of all jobs together and in the same
	// proportion, that cost at least as much as the machine. It is 0 if there is no such number: no
	// machine is large enough, nothing is called, calls are free, or keeping instances warm alone
	// costs more than the machine.
	BreakEvenCalls uint64 `json:"break_even_calls,omitempty"`
}

// Job is what one job costs in a month, before the free tier.
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

// ForProvider estimates what the jobs that fit a provider cost there in a month, from their
// profiles and list prices, and what a machine for all of them would cost instead. It is pure.
//
// The estimate is meant to err on the high side. A profile's durations include the start of the
// process; each call has an instance of its own; instances kept warm are paid for all the time,
// even if the provider bills a busy one only for its call. Calls run on warm instances while
// these have free time. Functions have only the disk that their price includes (512 MB on AWS). The
// estimate does not include transfer, storage, retries, or the machine for jobs that do not fit.
//
// The error is ErrInvalidArgument for an unknown provider, and ErrUnsupported for a provider
// without prices.
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

// ForPlan estimates a month's cost of the functions that a plan creates, updates or keeps, if each
// is called callsPerMonth times. It counts as [ForProvider] does, with the memory sizes and the
// warm instances of the plan. The plan may have been read from JSON. Nil prices mean
// [DefaultPrices].
//
// The error is ErrUnsupported for a provider without prices.
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

// profilesOf returns the job profiles that the analysis uses.
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

// estimate sums up the jobs added so far. sizing is the machine that could run them instead.
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

// usage is what the provider bills for calls.
type usage struct{ calls, gbSeconds, warmGBSeconds, vcpuSeconds float64 }

func (u usage) plus(v usage) usage {
	return usage{u.calls + v.calls, u.gbSeconds + v.gbSeconds, u.warmGBSeconds + v.warmGBSeconds,
		u.vcpuSeconds + v.vcpuSeconds}
}

// of returns what a job's calls use if it is called times as often.
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

// total returns the cost of all jobs at times as many calls, and how much of it is free.
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

// breakEven returns the least number of calls that cost at least limit, or 0 if no number does.
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

// tiered returns the price of an amount in a month.
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

// forArch replaces the general prices with those of the architecture, if it has its own.
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

// billed returns how long a call of that duration is billed for.
func (p ProviderPrices) billed(ms uint64) uint64 {
	ms = min(max(ms, p.MinimumMS), 1<<53) // below any overflow
	step := cmp.Or(p.StepMS, 1)
	return ms/step*step + min(ms%step, 1)*step
}

// vcpus returns how many processors come with that much memory, or 0 if they are not billed apart.
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

// cheapest returns the first machine that is large enough.
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
