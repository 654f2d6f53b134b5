package cost_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func profiled(profiles ...serverless.JobProfile) *serverless.Metadata {
	meta := &serverless.Metadata{}
	for i := range profiles {
		meta.Jobs = append(meta.Jobs, serverless.Job{ID: uint32(i), Profile: &profiles[i]})
	}
	return meta
}

func TestTheCheapestProviderOnWhichEveryJobFitsIsRecommended(t *testing.T) {
	small := serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 100}
	for _, tt := range []struct {
		name    string
		meta    *serverless.Metadata
		in      cost.Input
		want    string
		reasons []string // words of some of them
	}{
		// 512 MB and 3 million calls: Google $0.88; AWS 180,000 GB-s are free, $0.40; Azure $37.50.
		{"by what a month costs", profiled(small), cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512},
			faas.AWSLambda, []string{
				"aws-lambda: every job fits; a month costs 0.40 USD", "gcp-functions: every job fits; a month costs 0.88 USD",
				"azure-functions: every job fits; a month costs 37.50 USD",
				"custom: every job fits; its price is not known",
				"a machine for all jobs (t4g.nano) costs 6.72 USD: ", "calls on aws-lambda cost as much",
			}},
		{"where all are free, the one that is cheaper beyond", profiled(small), cost.Input{CallsPerMonth: 1},
			faas.AWSLambda, []string{
				"gcp-functions: every job fits; a month costs 0.00 USD, the same, and more beyond what is free",
			}},
		{"without a number of calls, by list prices", profiled(small), cost.Input{}, faas.AWSLambda,
			[]string{"aws-lambda: every job fits; a million calls of each cost 0.45 USD where nothing is free"}},
		{"another where the cheapest is too small",
			profiled(small, serverless.JobProfile{AvgDurationMS: 900_000, P95DurationMS: 1_000_000, PeakMemoryMB: 100}),
			cost.Input{CallsPerMonth: 10}, faas.GCPFunctions, []string{
				"gcp-functions: every job fits", "aws-lambda: 1 of 2 jobs fit", "custom: 1 of 2 jobs fit",
			}},
		{"a machine that costs less is told of", profiled(small),
			cost.Input{CallsPerMonth: 1e9, DefaultMemoryMB: 512}, faas.AWSLambda,
			[]string{"(t4g.nano) costs 6.72 USD: less than aws-lambda, which is cheaper below"}},
		{"a machine that is always cheaper, too", profiled(small), cost.Input{CallsPerMonth: 1, KeepWarm: 10},
			faas.GCPFunctions, []string{"(t4g.nano) costs 6.72 USD: less than gcp-functions"}},
		{"none where a job fits nowhere", profiled(small, serverless.JobProfile{Stateful: true}),
			cost.Input{CallsPerMonth: 10}, "",
			[]string{"on no provider with a known price does every job fit", "azure-functions: 1 of 2 jobs fit"}},
		{"none where there is no job", &serverless.Metadata{}, cost.Input{CallsPerMonth: 10}, "",
			[]string{"there is no job"}},
		{"none without metadata", nil, cost.Input{CallsPerMonth: 10}, "", []string{"there is no job"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := cost.Compare(tt.meta, tt.in)
			if got.Recommended != tt.want {
				t.Errorf("recommended %q, want %q: %q", got.Recommended, tt.want, got.Reasons)
			}
			for _, words := range tt.reasons {
				if !slices.ContainsFunc(got.Reasons, func(r string) bool { return strings.Contains(r, words) }) {
					t.Errorf("no reason says %q: %q", words, got.Reasons)
				}
			}
			if tt.want != "" && !strings.HasPrefix(got.Reasons[0], tt.want+": every job fits") {
				t.Errorf("the first reason is not for what is recommended: %q", got.Reasons)
			}
			var names []string
			for _, a := range got.Analyses {
				names = append(names, a.Provider)
				want, err := serverless.AnalyzeFor(tt.meta, a.Provider, true)
				if diff := cmp.Diff(want, a); err != nil || diff != "" {
					t.Errorf("%s is analysed otherwise than alone: %v\n%s", a.Provider, err, diff)
				}
			}
			if diff := cmp.Diff(faas.KnownNames(), names); diff != "" {
				t.Errorf("the providers (-known +analysed):\n%s", diff)
			}
			for _, estimate := range got.Costs {
				want, err := cost.ForProvider(tt.meta, estimate.Provider, tt.in)
				if diff := cmp.Diff(want, estimate); err != nil || diff != "" {
					t.Errorf("%s costs otherwise than alone: %v\n%s", estimate.Provider, err, diff)
				}
			}
			if called := tt.in.CallsPerMonth+uint64(tt.in.KeepWarm) > 0; (len(got.Costs) > 0) != called &&
				len(got.Analyses[0].Jobs) > 0 {
				t.Errorf("%d costs", len(got.Costs))
			}
		})
	}
}

// The policy's limits are higher than the sizes sold and than what a front end waits for.
func TestAProviderThatWouldRefuseAJobIsNotRecommended(t *testing.T) {
	prices := cost.DefaultPrices()
	prices.Providers = map[string]cost.ProviderPrices{faas.AzureFunctions: prices.Providers[faas.AzureFunctions]}
	for _, tt := range []struct {
		profile serverless.JobProfile
		says    string
	}{
		{serverless.JobProfile{AvgDurationMS: 10, P95DurationMS: 10, PeakMemoryMB: 6000},
			"job 0 needs 7500 MB, and the largest instance that is sold has 4096"},
		{serverless.JobProfile{AvgDurationMS: 10, P95DurationMS: 231_000, PeakMemoryMB: 10},
			"job 0 takes up to 231 s, and callers are answered within 230 s only"},
	} {
		got := cost.Compare(profiled(tt.profile), cost.Input{CallsPerMonth: 5, Prices: prices})
		if got.Recommended != "" || !slices.ContainsFunc(
			got.Reasons, func(r string) bool { return r == "azure-functions: "+tt.says }) {
			t.Errorf("recommended %q: %q", got.Recommended, got.Reasons)
		}
	}
}

func TestAProviderWithAPriceFromAFileMayBeRecommended(t *testing.T) {
	prices := cost.DefaultPrices()
	prices.Providers[faas.Custom] = cost.ProviderPrices{
		Region: "cellar", StepMS: 1, PerMillionRequests: 0.01, GBSecond: []cost.Tier{{Price: 0}}}
	got := cost.Compare(priced0(), cost.Input{CallsPerMonth: 1e7, Prices: prices})
	if got.Recommended != faas.Custom {
		t.Errorf("recommended %q: %q", got.Recommended, got.Reasons)
	}
}

// priced0 is priced without the job that does not fit.
func priced0() *serverless.Metadata {
	return &serverless.Metadata{Jobs: priced.Jobs[:1]}
}

func ExampleCompare() {
	meta := &serverless.Metadata{Jobs: []serverless.Job{
		{ID: 0, Profile: &serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 400}},
		{ID: 1, Profile: &serverless.JobProfile{AvgDurationMS: 800_000, P95DurationMS: 1_200_000, PeakMemoryMB: 400}},
	}}
	all := cost.Compare(meta, cost.Input{CallsPerMonth: 1000})
	fmt.Println("recommended:", all.Recommended)
	for _, reason := range all.Reasons {
		fmt.Println("-", reason)
	}
	// Output:
	// recommended: gcp-functions
	// - gcp-functions: every job fits; a month costs 2.18 USD
	// - aws-lambda: 1 of 2 jobs fit
	// - azure-functions: 1 of 2 jobs fit
	// - custom: 1 of 2 jobs fit
	// - a machine for all jobs (t4g.micro) costs 9.78 USD: 4058 calls on gcp-functions cost as much
}
