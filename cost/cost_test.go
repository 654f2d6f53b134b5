package cost_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// priced is a blueprint whose job 0 takes 120 ms and 100 MB, and whose job 1 does not fit anywhere.
var priced = &serverless.Metadata{Jobs: []serverless.Job{
	{ID: 0, Profile: &serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 100}},
	{ID: 1, Profile: &serverless.JobProfile{AvgDurationMS: 1, P95DurationMS: 1, PeakMemoryMB: 1, Stateful: true}},
}}

// amounts compares amounts to a thousandth of a cent.
var amounts = cmpopts.EquateApprox(0, 1e-5)

// A t4g.nano for 730 hours at $0.0042, and an IPv4 address at $0.005.
var nano = &cost.Machine{Name: "t4g.nano", Machine: 3.066, Address: 3.65, Total: 6.716}

// The expected amounts are worked out by hand from the prices on each provider's page.
func TestCostsAreThoseWorkedByHand(t *testing.T) {
	// the milliseconds that a call takes, if not 120
	durations := map[string]uint64{"AWS, a second": 1000, "Azure, more than a second": 1250}
	for _, tt := range []struct {
		name, provider string
		in             cost.Input
		want           cost.Estimate
	}{
		// https://aws.amazon.com/lambda/pricing/, the example of 3 million requests of 120 ms with 1,536
		// MB, "$2.73": 3,000,000 x 0.12 s x 1.5 GB = 540,000 GB-s x $0.0000166667 = $9.000018; 3 x $0.20
		// = $0.60; free 400,000 GB-s = $6.66668 and 1 million = $0.20. A call costs 0.18 x $0.0000166667
		// + $0.0000002 = $0.000003200006, so that $6.716 + $6.86668 are reached with 4,244,580.
		{"AWS, its own example", faas.AWSLambda, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 1536},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 1536, BilledMS: 120, Requests: 0.60, Compute: 9.000018}},
				FreeTier: 6.86668, Total: 2.733338, BreakEvenCalls: 4244580,
			}},
		// The same on arm64: 540,000 x $0.0000133334 = $7.200036; free 400,000 x $0.0000133334 = $5.33336
		// and $0.20. A call: 0.18 x $0.0000133334 + $0.0000002 = $0.000002600012; ($6.716 + $5.53336) /
		// that = 4,711,271.
		{"AWS on arm64", faas.AWSLambda, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 1536, Arch: faas.ARM64},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 1536, BilledMS: 120, Requests: 0.60, Compute: 7.200036}},
				FreeTier: 5.53336, Total: 2.266676, BreakEvenCalls: 4711271,
			}},
		// The same page's example of 3 million calls of a second with 512 MB of memory and 512 MB of
		// /tmp, which the price includes: 1,500,000 GB-s. 1,500,000 x $0.0000166667 = $25.00005; $0.60. A
		// call: 0.5 x $0.0000166667 + $0.0000002; ($6.716 + $6.86668) / that = 1,591,718.
		{"AWS, a second", faas.AWSLambda, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 512, BilledMS: 1000, Requests: 0.60, Compute: 25.00005}},
				FreeTier: 6.86668, Total: 18.73337, BreakEvenCalls: 1591718,
			}},
		// One instance of 512 MB with provisioned concurrency and no calls: 2,628,000 s x 0.5 GB x
		// $0.0000041667 = $5.475044.
		{"AWS kept warm", faas.AWSLambda, cost.Input{DefaultMemoryMB: 512, KeepWarm: 1}, cost.Estimate{
			Jobs: []cost.Job{{MemoryMB: 512, BilledMS: 120, KeepWarm: 5.475044}}, Total: 5.475044,
		}},
		// On arm64: x $0.0000033334.
		{"AWS kept warm on arm64", faas.AWSLambda, cost.Input{DefaultMemoryMB: 512, KeepWarm: 1, Arch: faas.ARM64},
			cost.Estimate{
				Jobs: []cost.Job{{MemoryMB: 512, BilledMS: 120, KeepWarm: 4.380088}}, Total: 4.380088,
			}},
		// With calls, none of them free: 3,000,000 x 0.12 s x 0.5 GB = 180,000 GB-s x $0.0000097222 =
		// $1.749996; $0.60. A call: 0.06 x $0.0000097222 + $0.0000002; ($6.716 - $5.475044) / that =
		// 1,584,203.
		{"AWS called and kept warm", faas.AWSLambda,
			cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512, KeepWarm: 1}, cost.Estimate{
				Jobs: []cost.Job{{Calls: 3e6, MemoryMB: 512, BilledMS: 120, Requests: 0.60, Compute: 1.749996,
					KeepWarm: 5.475044}},
				Total: 7.82504, BreakEvenCalls: 1584203,
			}},
		// 12,000,000 s are more than one instance has: 1,314,000 GB-s x $0.0000097222 + 4,686,000 x
		// $0.0000166667 = $12.774971 + $78.100156; $20.
		{"AWS with more calls than those kept warm have time for", faas.AWSLambda,
			cost.Input{CallsPerMonth: 1e8, DefaultMemoryMB: 512, KeepWarm: 1}, cost.Estimate{
				Jobs: []cost.Job{{Calls: 1e8, MemoryMB: 512, BilledMS: 120, Requests: 20, Compute: 90.875127,
					KeepWarm: 5.475044}},
				Total: 116.350171, BreakEvenCalls: 1584203,
			}},
		// 10^10 calls with 10 GB: 10^10 x 0.12 s x 10 GB = 12 x 10^9 GB-s, half of them in the second
		// tier: 6 x 10^9 x $0.0000166667 + 6 x 10^9 x $0.000015 = $190,000.2; requests 10,000 x $0.20 =
		// $2,000. Below a million calls only computing is paid, 1.2 x $0.0000166667 a call: ($6.716 +
		// $6.66668) / $0.00002000004 = 669,133.
		{"AWS in the second tier", faas.AWSLambda, cost.Input{CallsPerMonth: 1e10, DefaultMemoryMB: 10240},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 1e10, MemoryMB: 10240, BilledMS: 120, Requests: 2000, Compute: 190000.2}},
				FreeTier: 6.86668, Total: 191993.33332, BreakEvenCalls: 669133,
			}},
		// https://cloud.google.com/run/pricing: 120 ms are billed as 200 ms. 600,000 s: x 0.5 GiB x
		// $0.0000025 = $0.75; x 0.333 vCPU x $0.000024 = $4.7952; 3 x $0.40 = $1.20. Free: 2 million =
		// $0.80, all 300,000 GiB-s = $0.75, 180,000 vCPU-s = $4.32. A call: $0.0000004 + $0.00000025 +
		// $0.0000015984 = $0.0000022484; ($6.716 + $0.80 + $0.90 + $4.32) / that = 5,664,473.
		{"Google", faas.GCPFunctions, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512}, cost.Estimate{
			Jobs: []cost.Job{{Calls: 3e6, MemoryMB: 512, VCPUs: 0.333, BilledMS: 200, Requests: 1.20,
				Compute: 5.5452}},
			FreeTier: 5.87, Total: 0.8752, BreakEvenCalls: 5664473,
		}},
		// 2 GiB come with a whole processor: 600,000 s x (2 x $0.0000025 + $0.000024) = $17.40. Free:
		// $0.80, 360,000 GiB-s = $0.90, $4.32. A call: $0.0000004 + 0.2 x $0.000029 = $0.0000062; ($6.716
		// + $6.02) / that = 2,054,194.
		{"Google with a whole processor", faas.GCPFunctions, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 2048},
			cost.Estimate{
				Jobs: []cost.Job{{Calls: 3e6, MemoryMB: 2048, VCPUs: 1, BilledMS: 200, Requests: 1.20,
					Compute: 17.40}},
				FreeTier: 6.02, Total: 12.58, BreakEvenCalls: 2054194,
			}},
		// 2,628,000 s x (0.5 GiB + 0.333 vCPU) x $0.0000025 = $5.47281.
		{"Google kept warm", faas.GCPFunctions, cost.Input{DefaultMemoryMB: 512, KeepWarm: 1},
			cost.Estimate{
				Jobs: []cost.Job{{MemoryMB: 512, VCPUs: 0.333, BilledMS: 200, KeepWarm: 5.47281}}, Total: 5.47281,
			}},
		// Here the free tier covers warm instances, too. A call, while its memory is free: $0.0000019984;
		// ($6.716 - $5.47281 + $5.12) / that = 3,184,143.
		{"Google called and kept warm", faas.GCPFunctions,
			cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512, KeepWarm: 1}, cost.Estimate{
				Jobs: []cost.Job{{Calls: 3e6, MemoryMB: 512, VCPUs: 0.333, BilledMS: 200, Requests: 1.20,
					Compute: 5.5452, KeepWarm: 5.47281}},
				FreeTier: 5.87, Total: 6.34801, BreakEvenCalls: 3184143,
			}},
		// https://azure.microsoft.com/pricing/details/functions/, Flex Consumption: 120 ms are billed as
		// 1,000 ms. 3,000,000 s x 0.5 GB x $0.000026 = $39; 3 x $0.40 = $1.20. Free: 100,000 GB-s = $2.60
		// and 250,000 = $0.10. A call: $0.000013 + $0.0000004 = $0.0000134; ($6.716 + $2.70) / that =
		// 702,687.
		{"Azure", faas.AzureFunctions, cost.Input{CallsPerMonth: 3e6}, cost.Estimate{
			Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 512, BilledMS: 1000, Requests: 1.20, Compute: 39}},
			FreeTier: 2.70, Total: 37.5, BreakEvenCalls: 702687,
		}},
		// 1,250 ms are billed as 1,300 ms, and 3,000 MB, a size that is not sold, as 4,096: 3,900,000 s x
		// 4 GB x $0.000026 = $405.60. A call: $0.0001352 + $0.0000004 = $0.0001356; below 250,000 calls
		// only computing: ($6.716 + $2.60) / $0.0001352 = 68,906.
		{"Azure, more than a second", faas.AzureFunctions, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 3000},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 4096, BilledMS: 1300, Requests: 1.20, Compute: 405.60}},
				FreeTier: 2.70, Total: 404.10, BreakEvenCalls: 68906,
			}},
		// 2,048 MB: 3,000,000 s x 2 GB x $0.000026 = $156; ($6.716 + $2.60) / $0.000052 = 179,154. More
		// than 4,096 MB is not sold.
		{"Azure with the middle size", faas.AzureFunctions, cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 2048},
			cost.Estimate{
				Jobs:     []cost.Job{{Calls: 3e6, MemoryMB: 2048, BilledMS: 1000, Requests: 1.20, Compute: 156}},
				FreeTier: 2.70, Total: 154.50, BreakEvenCalls: 179154,
			}},
		{"Azure with a default above what is sold", faas.AzureFunctions, cost.Input{DefaultMemoryMB: 10240},
			cost.Estimate{
				Jobs: []cost.Job{{MemoryMB: 4096, BilledMS: 1000}},
			}},
		// Always ready: 2,628,000 s x 2 x 0.5 GB x $0.000004 = $10.512, which is more than the machine; a
		// call's 0.5 GB-s are $0.000008.
		{"Azure kept warm", faas.AzureFunctions, cost.Input{CallsPerMonth: 1, KeepWarm: 2}, cost.Estimate{
			Jobs: []cost.Job{{Calls: 1, MemoryMB: 512, BilledMS: 1000, Requests: 0.0000004, Compute: 0.000008,
				KeepWarm: 10.512}},
			Total: 10.5120084,
		}},
		// https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan#billing: nothing is
		// free. 100,000 s x 0.5 GB x $0.000016 = $0.80; $0.04. Half of $10.512 for one instance. A call:
		// $0.0000084; ($6.716 - $5.256) / that = 173,810.
		{"Azure called and kept warm", faas.AzureFunctions, cost.Input{CallsPerMonth: 1e5, KeepWarm: 1},
			cost.Estimate{
				Jobs: []cost.Job{{Calls: 1e5, MemoryMB: 512, BilledMS: 1000, Requests: 0.04, Compute: 0.80,
					KeepWarm: 5.256}},
				Total: 6.096, BreakEvenCalls: 173810,
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			meta := priced
			if ms, other := durations[tt.name]; other {
				meta = &serverless.Metadata{Jobs: []serverless.Job{
					{Profile: &serverless.JobProfile{AvgDurationMS: ms, P95DurationMS: ms, PeakMemoryMB: 100}}}}
			}
			got, err := cost.ForProvider(meta, tt.provider, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got.Source == "" || got.AsOf == "" || got.Region == "" || got.Currency != "USD" {
				t.Errorf("the prices are of no source: %+v", got)
			}
			tt.want.Provider, tt.want.Currency, tt.want.Region, tt.want.AsOf, tt.want.Source, tt.want.Unverified = tt.provider,
				got.Currency, got.Region, got.AsOf, got.Source, got.Unverified
			tt.want.Machine = nano
			if diff := cmp.Diff(&tt.want, got, amounts); diff != "" {
				t.Errorf("cost (-by hand +estimated):\n%s", diff)
			}
		})
	}
}

// A job's own memory and instances count for that job only. The free tier covers all jobs together.
func TestCostsCountAJobsOwnSettings(t *testing.T) {
	profile := &serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 100}
	one := func(in cost.Input, provider string) *cost.Estimate {
		t.Helper()
		got, err := cost.ForProvider(&serverless.Metadata{Jobs: []serverless.Job{{ID: 3, Profile: profile}}},
			provider, in)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	two := &serverless.Metadata{Jobs: []serverless.Job{{ID: 2, Profile: profile}, {ID: 3, Profile: profile}}}
	for _, provider := range []string{faas.AWSLambda, faas.GCPFunctions, faas.AzureFunctions} {
		in := cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512, KeepWarm: 1}
		in.Overrides = map[uint32]serverless.JobSettings{
			3: {MemoryMB: 2048, KeepWarm: new(uint32(2))}, 2: {KeepWarm: new(uint32(0))}, 9: {KeepWarm: new(uint32(7))}}
		got, err := cost.ForProvider(two, provider, in)
		if err != nil {
			t.Fatal(err)
		}
		cold := one(cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512}, provider)
		warm := one(cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 2048, KeepWarm: 2}, provider)
		cold.Jobs[0].JobID = 2
		if diff := cmp.Diff([]cost.Job{cold.Jobs[0], warm.Jobs[0]}, got.Jobs, amounts); diff != "" {
			t.Errorf("%s (-each alone +together):\n%s", provider, diff)
		}
		if provider == faas.AzureFunctions { // where functions that are kept warm have no part in what is free
			if diff := cmp.Diff([]float64{cold.FreeTier, cold.Total + warm.Total}, []float64{got.FreeTier, got.Total},
				amounts); diff != "" {
				t.Errorf("%s, what is free and the total (-each alone +together):\n%s", provider, diff)
			}
		}
	}
	all := cost.Compare(two, cost.Input{
		Overrides: map[uint32]serverless.JobSettings{2: {KeepWarm: new(uint32(1))}}})
	if len(all.Costs) == 0 || all.Costs[0].Total == 0 {
		t.Errorf("what is kept warm for one job alone is not compared: %+v", all.Costs)
	}
	for _, job := range all.Costs[0].Jobs {
		if (job.KeepWarm > 0) != (job.JobID == 2) {
			t.Errorf("job %d is kept warm for %v", job.JobID, job.KeepWarm)
		}
	}
}

// Three million calls of 120 ms with 1,536 MB, as in the example on AWS's own page.
func ExampleForProvider() {
	meta := &serverless.Metadata{Jobs: []serverless.Job{
		{Profile: &serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 1200}}}}
	month, err := cost.ForProvider(meta, faas.AWSLambda,
		cost.Input{CallsPerMonth: 3_000_000, DefaultMemoryMB: 1536})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.2f %s a month\n", month.Total, month.Currency)
	fmt.Printf("%s: %.2f\n", month.Machine.Name, month.Machine.Total)
	// Output:
	// 2.73 USD a month
	// t4g.small: 15.91
}

// Whatever a price file holds, LoadPrices refuses it or the estimates from it are valid amounts.
func FuzzLoadPrices(f *testing.F) {
	f.Add([]byte(`{"providers": {"custom": {"step_ms": 1, "gb_second": [{"up_to": 5, "price": 1}, {"price": 2}], ` +
		`"vcpus": [{"up_to_mb": 128, "vcpus": 0.5}], "vcpu_second": 1}}}`))
	f.Add([]byte(`{"currency": "EUR", "machines": {"sizes": [{"name": "x", "memory_mb": 512, "cores": 1, "hour": 0}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "prices.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		prices, err := cost.LoadPrices(path)
		if err != nil {
			return
		}
		for name := range prices.Providers {
			month, err := cost.ForProvider(priced, name, cost.Input{CallsPerMonth: 1000, Prices: prices})
			if err == nil && (math.IsNaN(month.Total) || math.IsInf(month.Total, 0)) {
				t.Errorf("%s costs %v", name, month.Total)
			}
		}
	})
}

func TestTheFreeTierIsSharedByTheJobs(t *testing.T) {
	two := &serverless.Metadata{Jobs: []serverless.Job{priced.Jobs[0], {ID: 1, Profile: priced.Jobs[0].Profile}}}
	in := cost.Input{CallsPerMonth: 600_000, JobCalls: map[uint32]uint64{1: 900_000}}
	got, err := cost.ForProvider(two, faas.AWSLambda, in)
	if err != nil {
		t.Fatal(err)
	}
	// 1,500,000 calls, one million of them free; 1,500,000 x 0.12 s x 0.125 GB = 22,500 GB-s, all
	// free.
	if math.Abs(got.Total-0.10) > 1e-6 || got.Jobs[0].Calls != 600_000 || got.Jobs[1].Calls != 900_000 {
		t.Errorf("%+v", got)
	}
}

func TestTheMachineIsLargeEnoughForAllJobs(t *testing.T) {
	for _, tt := range []struct {
		peak uint32
		want string
	}{{100, "t4g.nano"}, {1000, "t4g.small"}, {10000, "t4g.2xlarge"}, {100000, ""}} {
		meta := &serverless.Metadata{Jobs: []serverless.Job{
			{Profile: &serverless.JobProfile{P95DurationMS: 1, PeakMemoryMB: tt.peak}}}}
		got, err := cost.ForProvider(meta, faas.AWSLambda, cost.Input{CallsPerMonth: 1})
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		if got.Machine != nil {
			name = got.Machine.Name
		}
		if name != tt.want {
			t.Errorf("for a peak of %d MB: %q, want %q", tt.peak, name, tt.want)
		}
	}
}

func TestThereIsNoEstimateWithoutPrices(t *testing.T) {
	if _, err := cost.ForProvider(priced, faas.Custom, cost.Input{}); !errors.Is(
		err, faas.ErrUnsupported) {
		t.Errorf("custom: %v", err)
	}
	if _, err := cost.ForProvider(priced, "acme", cost.Input{}); !errors.Is(
		err, faas.ErrInvalidArgument) {
		t.Errorf("unknown: %v", err)
	}
	if got, err := cost.ForProvider(nil, faas.AWSLambda, cost.Input{CallsPerMonth: 1}); err != nil ||
		len(got.Jobs) != 0 || got.Total != 0 {
		t.Errorf("without jobs: %+v, %v", got, err)
	}
}

func TestAFileReplacesPrices(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"providers": {"custom": {"region": "cellar", "as_of": "today", "source": "the landlord", ` +
		`"per_million_requests": 1, "gb_second": [{"price": 0}], "step_ms": 1}}}`)
	prices, err := cost.LoadPrices(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cost.ForProvider(priced, faas.Custom, cost.Input{CallsPerMonth: 2e6, Prices: prices})
	if err != nil || math.Abs(got.Total-2) > 1e-9 || got.Region != "cellar" {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(cost.DefaultPrices().Providers[faas.AWSLambda],
		prices.Providers[faas.AWSLambda]); diff != "" {
		t.Errorf("a provider that the file does not name changed:\n%s", diff)
	}
	for _, tt := range []struct{ text, says string }{
		{`{"provider": {}}`, "provider"},
		{`{} {}`, "after"},
		{`{"currency": "EUR"}`, "EUR"},
		{`{"providers": {"custom": {}}}`, "step_ms"},
		{`{"providers": {"custom": {"step_ms": 1, "per_million_requests": -1}}}`, "per_million_requests"},
		{`{"providers": {"custom": {"step_ms": 1, "gb_second": [{"price": 1}, {"price": 2}]}}}`, "gb_second"},
		{`{"providers": {"custom": {"step_ms": 1, "vcpu_second": 1}}}`, "vcpus"},
		{`{"machines": {"sizes": [{"name": "x"}]}}`, "machines"},
	} {
		write(tt.text)
		if _, err := cost.LoadPrices(path); !errors.Is(err, faas.ErrInvalidArgument) ||
			!strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.text, err)
		}
	}
	if _, err := cost.LoadPrices(path + "x"); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
}

func TestThePricesThatComeWithTheModuleSayWhereTheyAreFrom(t *testing.T) {
	prices := cost.DefaultPrices()
	for name, p := range prices.Providers {
		if p.Source == "" || p.AsOf == "" || p.Region == "" || len(p.GBSecond) == 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if m := prices.Machines; m.Source == "" || m.AsOf == "" ||
		!slices.IsSortedFunc(m.Sizes, func(a, b cost.MachinePrice) int { return int((a.Hour - b.Hour) * 1e6) }) {
		t.Errorf("machines: %+v", m)
	}
}

// A pipe or a device could block for a writer, or never end.
func TestPricesAreReadFromFilesAlone(t *testing.T) {
	for _, path := range []string{os.DevNull, t.TempDir()} {
		if _, err := cost.LoadPrices(path); !errors.Is(err, faas.ErrInvalidArgument) ||
			!strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A plan alone, also one read back from a file, tells what its functions cost.
func TestAPlanCostsWhatItsFunctionsDo(t *testing.T) {
	in := cost.Input{CallsPerMonth: 1e7, DefaultMemoryMB: 1024, KeepWarm: 1}
	want, err := cost.ForProvider(priced, faas.AWSLambda, in)
	if err != nil {
		t.Fatal(err)
	}
	function := faas.Function{JobID: 0, MemoryMB: 1024, KeepWarm: 1}
	text, err := json.Marshal(&serverless.Plan{
		Metadata: priced, Provider: faas.Config{Provider: faas.AWSLambda}, Binary: serverless.PlanBinary{Arch: faas.AMD64},
		Analysis: serverless.Analyze(priced, faas.Limits{MaxMemoryMB: 10240, MaxTimeoutSecs: 900, MaxPayloadMB: 6}, true),
		Changes: []serverless.PlannedChange{
			{Action: serverless.ActionKeep, Unit: "kept", Functions: []faas.Function{function}},
			{Action: serverless.ActionRemove, Unit: "gone", Functions: []faas.Function{{JobID: 1, MemoryMB: 1024}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var plan serverless.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		t.Fatal(err)
	}
	got, err := cost.ForPlan(&plan, 1e7, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || want.Total == 0 {
		t.Errorf("(-want +got):\n%s", diff)
	}
	plan.Provider.Provider = faas.Custom // no list has prices of the platform at an endpoint
	if _, err := cost.ForPlan(&plan, 1e7, nil); !errors.Is(err, faas.ErrUnsupported) {
		t.Errorf("got %v, want unsupported", err)
	}
}
