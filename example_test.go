package serverless_test

import (
	"context"
	"fmt"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func ExampleAnalyze() {
	meta := &serverless.Metadata{
		BlueprintID: 7,
		Source:      serverless.SourceChain,
		Jobs: []serverless.Job{
			{ID: 0, Profile: &serverless.JobProfile{AvgDurationMS: 40, P95DurationMS: 55, P99DurationMS: 70, PeakMemoryMB: 180}},
			{ID: 1, Profile: &serverless.JobProfile{AvgDurationMS: 290000, P95DurationMS: 310000, PeakMemoryMB: 600}},
		},
	}
	limits, _ := faas.ProviderLimits(faas.Custom)
	analysis := serverless.Analyze(meta, limits, true)
	fmt.Println(analysis.Strategy.Kind, analysis.Strategy.FaaSJobs, analysis.Strategy.LocalJobs)
	for _, job := range analysis.Jobs {
		for _, reason := range job.Reasons {
			fmt.Printf("job %d does not fit: %v\n", job.JobID, reason)
		}
	}
	// Output:
	// hybrid [0] [1]
	// job 1 does not fit: 95% of its runs take up to 310 s, longer than the timeout limit of 300 s
}

func ExampleAnalyzeFor() {
	meta := &serverless.Metadata{Jobs: []serverless.Job{
		{ID: 0, Profile: &serverless.JobProfile{AvgDurationMS: 40, P95DurationMS: 55, P99DurationMS: 70, PeakMemoryMB: 180}},
	}}
	analysis, err := serverless.AnalyzeFor(meta, faas.GCPFunctions, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(analysis)
	// Output:
	// serverless on gcp-functions: 1 of 1 job fit; VM part: 512 MiB, 1 core
	//   job 0   fits: 256 MiB, 10 s
}

func ExampleFetchMetadata() {
	// Without WithMock, the contract is that of WithContract or the environment, and the profiles are
	// those beside the binary of WithBinary.
	meta, err := serverless.FetchMetadata(context.Background(), 7, serverless.WithMock())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(meta.Source, len(meta.Jobs), len(meta.Warnings))
	// Output: mock 2 1
}
