package cost

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// Prices are the list prices that [ForProvider] estimates with, each with its source and its date.
// They are data of the module; [LoadPrices] overrides them.
type Prices struct {
	Currency  string                    `json:"currency"`
	Providers map[string]ProviderPrices `json:"providers"` // by registered name
	Machines  MachinePrices             `json:"machines"`
}

// ProviderPrices are the prices of one provider in one region. A GB is 1,024 MiB. The free amounts
// are per account and month, for all functions together.
type ProviderPrices struct {
	Region             string  `json:"region"` // as the provider names it
	AsOf               string  `json:"as_of"`  // when the prices were looked at
	Source             string  `json:"source"`
	PerMillionRequests float64 `json:"per_million_requests"`
	GBSecond           []Tier  `json:"gb_second"`                 // of memory while a call runs, by ascending UpTo
	GBSecondARM64      []Tier  `json:"gb_second_arm64,omitempty"` // for arm64 where that has a price of its own
	// the price of a processor while a call runs, if it is billed apart
	VCPUSecond float64 `json:"vcpu_second,omitempty"`
	// how many processors come with how much memory, ascending
	VCPUs             []VCPUShare `json:"vcpus,omitempty"`
	FreeRequests      float64     `json:"free_requests"`
	FreeGBSeconds     float64     `json:"free_gb_seconds"`
	FreeVCPUSeconds   float64     `json:"free_vcpu_seconds,omitempty"`
	MinimumMS         uint64      `json:"minimum_ms"`               // a shorter call is billed as this long
	StepMS            uint64      `json:"step_ms"`                  // a call's duration is rounded up to a multiple of it
	IdleGBSecond      float64     `json:"idle_gb_second,omitempty"` // of an instance that is kept warm, all the time
	IdleGBSecondARM64 float64     `json:"idle_gb_second_arm64,omitempty"`
	IdleVCPUSecond    float64     `json:"idle_vcpu_second,omitempty"`
	// the price of memory while a call runs on a warm instance, if it differs
	WarmGBSecond      float64 `json:"warm_gb_second,omitempty"`
	WarmGBSecondARM64 float64 `json:"warm_gb_second_arm64,omitempty"`
	// the free tier does not cover functions that are kept warm
	WarmNotFree bool `json:"warm_not_free,omitempty"`
	// Unverified names the members that come from a third party and were not seen at the provider.
	Unverified []string `json:"unverified,omitempty"`
}

// Tier is the price of amounts up to UpTo in a month. An UpTo of 0 means no upper bound.
type Tier struct {
	UpTo  float64 `json:"up_to,omitempty"`
	Price float64 `json:"price"`
}

// VCPUShare is how many processors an instance with up to UpToMB of memory has.
type VCPUShare struct {
	UpToMB uint32  `json:"up_to_mb"`
	VCPUs  float64 `json:"vcpus"`
}

// MachinePrices are the prices of the virtual machines that estimates compare FaaS with.
type MachinePrices struct {
	Region      string         `json:"region"`
	AsOf        string         `json:"as_of"`
	Source      string         `json:"source"`
	AddressHour float64        `json:"address_hour"` // of a public IPv4 address
	Sizes       []MachinePrice `json:"sizes"`        // the cheapest first
	Unverified  []string       `json:"unverified,omitempty"`
}

// MachinePrice is the price of one machine size.
type MachinePrice struct {
	Name     string  `json:"name"`
	MemoryMB uint32  `json:"memory_mb"`
	Cores    uint32  `json:"cores"`
	Hour     float64 `json:"hour"`
}

//go:embed prices.json
var pricesJSON []byte

// DefaultPrices returns the prices that come with the module.
func DefaultPrices() *Prices {
	prices := new(Prices)
	if err := prices.override(pricesJSON); err != nil {
		panic("serverless: the prices that come with the module: " + err.Error()) // a test reads them
	}
	return prices
}

// LoadPrices returns [DefaultPrices], overridden by a JSON file of the same shape. The file
// replaces each provider that it names, and the machines if it has any, as a whole. The error is
// ErrInvalidArgument for invalid content, and ErrNotFound for a file that does not exist.
func LoadPrices(path string) (*Prices, error) {
	const op = "load prices"
	info, err := os.Stat(path) // before opening, because that would wait for a writer of a named pipe
	if errors.Is(err, os.ErrNotExist) {
		return nil, faas.Errorf(faas.ErrNotFound, op, "", "%w", err)
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, op, "", "%w", err)
	}
	defer f.Close()
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(text) > most {
		err = errors.New("is larger than 1 MiB")
	}
	prices := DefaultPrices()
	if err == nil {
		err = prices.override(text)
	}
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, op, "", "%s: %w", path, err)
	}
	return prices, nil
}

func (p *Prices) override(text []byte) error {
	var by Prices
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&by); err != nil {
		return err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("something stands after the JSON object")
	}
	if err := by.validate(); err != nil {
		return err
	}
	if by.Currency != "" && p.Currency != "" && by.Currency != p.Currency {
		return fmt.Errorf("currency is %q and the prices that it does not replace are in %s", by.Currency, p.Currency)
	}
	if p.Currency == "" {
		p.Currency = by.Currency
	}
	if p.Providers == nil {
		p.Providers = map[string]ProviderPrices{}
	}
	maps.Copy(p.Providers, by.Providers)
	if len(by.Machines.Sizes) > 0 {
		p.Machines = by.Machines
	}
	return nil
}

func (p *Prices) validate() error {
	for _, name := range slices.Sorted(maps.Keys(p.Providers)) {
		if err := p.Providers[name].Validate(); err != nil {
			return fmt.Errorf("providers.%s.%w", name, err)
		}
	}
	if bad(p.Machines.AddressHour) {
		return errors.New("machines.address_hour is no price")
	}
	for _, m := range p.Machines.Sizes {
		if m.Name == "" || m.MemoryMB == 0 || m.Cores == 0 || bad(m.Hour) {
			return fmt.Errorf("machines.sizes: %q needs a name, memory_mb, cores, and a price an hour", m.Name)
		}
	}
	return nil
}

// Validate returns an error that names the member of a price file that is not a price.
func (p ProviderPrices) Validate() error {
	for name, value := range map[string]float64{
		"per_million_requests": p.PerMillionRequests, "vcpu_second": p.VCPUSecond, "free_requests": p.FreeRequests,
		"free_gb_seconds":   p.FreeGBSeconds,
		"free_vcpu_seconds": p.FreeVCPUSeconds, "idle_gb_second": p.IdleGBSecond, "idle_gb_second_arm64": p.IdleGBSecondARM64,
		"idle_vcpu_second": p.IdleVCPUSecond, "warm_gb_second": p.WarmGBSecond, "warm_gb_second_arm64": p.WarmGBSecondARM64,
	} {
		if bad(value) {
			return fmt.Errorf("%s is %v: it must be 0 or more", name, value)
		}
	}
	switch {
	case p.StepMS == 0:
		return errors.New("step_ms is missing: the milliseconds to a multiple of which durations are rounded up, at least 1")
	case (p.VCPUSecond > 0 || p.IdleVCPUSecond > 0) && len(p.VCPUs) == 0:
		return errors.New("vcpus is missing: processors have a price")
	}
	for i, share := range p.VCPUs {
		if bad(share.VCPUs) || i > 0 && share.UpToMB <= p.VCPUs[i-1].UpToMB {
			return fmt.Errorf("vcpus: entry %d: vcpus must be 0 or more, and up_to_mb must ascend", i)
		}
	}
	for name, tiers := range map[string][]Tier{"gb_second": p.GBSecond, "gb_second_arm64": p.GBSecondARM64} {
		from := 0.0
		for i, tier := range tiers {
			last := i == len(tiers)-1
			if bad(tier.Price) || last != (tier.UpTo == 0) || !last && tier.UpTo <= from {
				return fmt.Errorf("%s: tier %d: prices must be 0 or more, up_to must ascend, and the last tier has none", name, i)
			}
			from = tier.UpTo
		}
	}
	return nil
}

// bad reports whether x cannot be an amount. Amounts above any real one would overflow in sums.
func bad(x float64) bool { return !(x >= 0 && x <= 1e15) }

// Clone returns a deep copy of p.
func (p *Prices) Clone() *Prices {
	c := *p
	c.Providers = make(map[string]ProviderPrices, len(p.Providers))
	for name, one := range p.Providers {
		c.Providers[name] = one.Clone()
	}
	c.Machines.Sizes, c.Machines.Unverified = slices.Clone(p.Machines.Sizes), slices.Clone(p.Machines.Unverified)
	return &c
}

// Clone returns a deep copy of p.
func (p ProviderPrices) Clone() ProviderPrices {
	p.GBSecond, p.GBSecondARM64, p.VCPUs, p.Unverified = slices.Clone(p.GBSecond), slices.Clone(p.GBSecondARM64),
		slices.Clone(p.VCPUs), slices.Clone(p.Unverified)
	return p
}

// WriteFile replaces the file at path with one that [LoadPrices] reads. It writes all of it or
// nothing. The error is ErrInvalidArgument.
func (p *Prices) WriteFile(path string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err == nil {
		err = p.validate()
	}
	if err == nil {
		err = files.Write(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "write prices", "", "%w", err)
	}
	return nil
}
