package serverless

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

var testLimits = faas.Limits{MaxMemoryMB: 1000, MaxTimeoutSecs: 60, MaxPayloadMB: 6}

func fitting() *JobProfile {
	return &JobProfile{AvgDurationMS: 5, P95DurationMS: 8, P99DurationMS: 10, PeakMemoryMB: 100, SampleSize: 10}
}

func changed(change func(*JobProfile)) *JobProfile {
	p := fitting()
	change(p)
	return p
}

func metadata(profiles ...*JobProfile) *Metadata {
	meta := &Metadata{BlueprintID: 7, Source: SourceChain}
	for i, p := range profiles {
		meta.Jobs = append(meta.Jobs, Job{ID: uint32(i), Profile: p})
	}
	return meta
}

func TestAnalyzeGivesEveryReasonThatApplies(t *testing.T) {
	const noProfile = "it was never profiled, and nothing untested is deployed: measure it with package profile, which " +
		"writes blueprint-profiles.json"
	for _, tc := range []struct {
		name    string
		profile *JobProfile
		exec    ExecutionProfile
		reasons []Reason
		text    []string
	}{
		{name: "a profile within the limits", profile: fitting()},
		{name: "no profile", reasons: []Reason{{Code: ReasonNoProfile}}, text: []string{noProfile}},
		{name: "p95 equal to the limit", profile: changed(func(p *JobProfile) { p.P95DurationMS = 60000 })},
		{
			name: "p95 above the limit", profile: changed(func(p *JobProfile) { p.P95DurationMS = 60001 }),
			reasons: []Reason{{ReasonTooSlow, 60001, 60000}},
			text:    []string{"95% of its runs take up to 60.001 s, longer than the timeout limit of 60 s"},
		},
		{name: "only p99 above the limit", profile: changed(func(p *JobProfile) { p.P99DurationMS = 60001 })},
		{name: "peak equal to the limit", profile: changed(func(p *JobProfile) { p.PeakMemoryMB = 1000 })},
		{
			name: "peak above the limit", profile: changed(func(p *JobProfile) { p.PeakMemoryMB = 1001 }),
			reasons: []Reason{{ReasonTooMuchMemory, 1001, 1000}},
			text:    []string{"its peak memory of 1001 MiB is above the limit of 1000 MiB"},
		},
		{
			name: "stateful", profile: changed(func(p *JobProfile) { p.Stateful = true }),
			reasons: []Reason{{Code: ReasonStateful}},
			text:    []string{"it is stateful: it keeps state between invocations, which may reach different instances"},
		},
		{
			name: "persistent connections", profile: changed(func(p *JobProfile) { p.PersistentConnections = true }),
			reasons: []Reason{{Code: ReasonPersistentConnections}},
			text:    []string{"it keeps persistent connections, which end with the instance"},
		},
		{
			name: "a TEE preferred", profile: fitting(),
			exec: ExecutionProfile{Confidentiality: "tee_preferred", GPU: GPURequirement{Policy: "preferred", MinCount: 1}},
		},
		{
			name: "a TEE demanded", profile: fitting(), exec: ExecutionProfile{Confidentiality: "tee_required"},
			reasons: []Reason{{Code: ReasonNeedsTEE}},
			text:    []string{"the blueprint needs a trusted execution environment (TEE), which functions do not have"},
		},
		{
			name: "a demand that is not known", profile: fitting(),
			exec:    ExecutionProfile{Confidentiality: "tee_mandatory", GPU: GPURequirement{Policy: "many"}},
			reasons: []Reason{{Code: ReasonNeedsTEE}, {Code: ReasonNeedsGPU, Value: 1}},
		},
		{
			name: "everything at once",
			profile: &JobProfile{P95DurationMS: math.MaxUint64, PeakMemoryMB: math.MaxUint32, Stateful: true,
				PersistentConnections: true},
			exec: ExecutionProfile{Confidentiality: "tee_required", GPU: GPURequirement{Policy: "required", MinCount: 2}},
			reasons: []Reason{
				{ReasonTooSlow, math.MaxUint64, 60000}, {ReasonTooMuchMemory, math.MaxUint32, 1000},
				{Code: ReasonStateful}, {Code: ReasonPersistentConnections}, {Code: ReasonNeedsTEE},
				{Code: ReasonNeedsGPU, Value: 2},
			},
		},
		{
			name: "no profile, on a GPU", exec: ExecutionProfile{GPU: GPURequirement{Policy: "required", MinCount: 1}},
			reasons: []Reason{{Code: ReasonNoProfile}, {Code: ReasonNeedsGPU, Value: 1}},
			text:    []string{noProfile, "the blueprint needs a GPU (at least 1), which functions do not have"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			meta := metadata(tc.profile)
			meta.Execution = tc.exec
			for _, enabled := range []bool{true, false} {
				got := Analyze(meta, testLimits, enabled).Jobs[0]
				if got.Compatible != (tc.reasons == nil) {
					t.Errorf("compatible = %v", got.Compatible)
				}
				if diff := cmp.Diff(tc.reasons, got.Reasons); diff != "" {
					t.Error(diff)
				}
				for i, text := range tc.text {
					if got := got.Reasons[i].String(); got != text {
						t.Errorf("reason %d prints %q, want %q", i, got, text)
					}
				}
			}
		})
	}
}

func TestAnalyzeRecommendsAStrategy(t *testing.T) {
	slow := changed(func(p *JobProfile) { p.P95DurationMS = 60001 })
	for _, tc := range []struct {
		name    string
		meta    *Metadata
		enabled bool
		want    Strategy
	}{
		{"all fit", metadata(fitting(), fitting()), true, Strategy{StrategyServerless, []uint32{0, 1}, []uint32{}}},
		{"some fit", metadata(nil, fitting(), slow, fitting()), true,
			Strategy{StrategyHybrid, []uint32{1, 3}, []uint32{0, 2}}},
		{"none fits", metadata(slow, nil), true, Strategy{StrategyTraditional, []uint32{}, []uint32{0, 1}}},
		{"serverless is off", metadata(fitting(), fitting()), false,
			Strategy{StrategyTraditional, []uint32{}, []uint32{0, 1}}},
		{"no job", metadata(), true, Strategy{StrategyTraditional, []uint32{}, []uint32{}}},
		{"nothing known", nil, true, Strategy{StrategyTraditional, []uint32{}, []uint32{}}},
		{
			"ids that are not in order", &Metadata{Jobs: []Job{
				{ID: 9, Profile: fitting()}, {ID: math.MaxUint32}, {ID: 4, Profile: fitting()}}}, true,
			Strategy{StrategyHybrid, []uint32{4, 9}, []uint32{math.MaxUint32}},
		},
		{
			"an id twice, once unprofiled", &Metadata{
				Jobs: []Job{{ID: 1, Profile: fitting()}, {ID: 0, Profile: fitting()}, {ID: 1}}}, true,
			Strategy{StrategyHybrid, []uint32{0}, []uint32{1}},
		},
		{
			"an id twice, once too slow", &Metadata{Jobs: []Job{{ID: 1, Profile: slow}, {ID: 1, Profile: fitting()}}}, true,
			Strategy{StrategyTraditional, []uint32{}, []uint32{1}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Analyze(tc.meta, testLimits, tc.enabled).Strategy); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSizingFollowsTheLargestPeak(t *testing.T) {
	for _, tc := range []struct{ peak, memory, cores uint32 }{
		{0, 512, 1}, {341, 512, 1}, {342, 513, 1}, {683, 1025, 1}, {1365, 2048, 1}, {1366, 2049, 2}, {4096, 6144, 3},
		{12288, 18432, 9},
		{math.MaxUint32, math.MaxUint32, 2097152},
	} {
		// The largest peak counts whether its job fits or not, and wherever it stands.
		meta := metadata(nil, changed(func(p *JobProfile) { p.PeakMemoryMB = 0 }),
			changed(func(p *JobProfile) { p.PeakMemoryMB = tc.peak }), fitting())
		meta.Jobs[3].Profile.PeakMemoryMB = 0
		want := Sizing{MemoryMB: tc.memory, CPUCores: tc.cores}
		if got := Analyze(meta, testLimits, true).Sizing; got != want {
			t.Errorf("peak %d: %+v, want %+v", tc.peak, got, want)
		}
	}
	if got, want := Analyze(nil, testLimits, true).Sizing, (Sizing{MemoryMB: 512, CPUCores: 1}); got != want {
		t.Errorf("no job: %+v, want %+v", got, want)
	}
}

func TestNeedsLeaveHeadroomWithinTheLimits(t *testing.T) {
	for _, tc := range []struct {
		provider string // empty: bare limits of 1000 MiB and 60 s
		peak     uint32
		p95, p99 uint64
		want     JobNeeds
	}{
		{"", 0, 0, 0, JobNeeds{128, 10}},
		{"", 102, 8, 10, JobNeeds{128, 10}},
		{"", 103, 5000, 5001, JobNeeds{192, 11}},
		{"", 500, 5000, 0, JobNeeds{640, 10}},
		{"", 900, 30000, 30001, JobNeeds{960, 60}},   // the headroom ends at the largest size
		{"", 1000, 60000, 90000, JobNeeds{1000, 60}}, // a peak that equals the limit still fits
		{"", 1001, 60001, 0, JobNeeds{1280, 121}},    // a job that does not fit still has its needs
		{"", math.MaxUint32, math.MaxUint64, 0, JobNeeds{math.MaxUint32, math.MaxUint32}},
		{faas.AWSLambda, 101, 450000, 500000, JobNeeds{128, 900}},
		{faas.AWSLambda, 1001, 8, 10, JobNeeds{1252, 10}},
		{faas.AWSLambda, 10240, 900000, 900000, JobNeeds{10240, 900}},
		{faas.GCPFunctions, 820, 8, 10, JobNeeds{2048, 10}},
		{faas.GCPFunctions, 30000, 8, 10, JobNeeds{32768, 10}},
		{faas.AzureFunctions, 100, 8, 10, JobNeeds{512, 10}},
		{faas.AzureFunctions, 4000, 8, 10, JobNeeds{4096, 10}}, // the headroom would exceed the sizes that are sold
		{faas.AzureFunctions, 8000, 8, 10, JobNeeds{10000, 10}},
		{faas.Custom, 2048, 300000, 300000, JobNeeds{2048, 300}},
	} {
		meta := metadata(&JobProfile{P95DurationMS: tc.p95, P99DurationMS: tc.p99, PeakMemoryMB: tc.peak})
		a := Analyze(meta, testLimits, true)
		if tc.provider != "" {
			var err error
			if a, err = AnalyzeFor(meta, tc.provider, true); err != nil {
				t.Fatal(err)
			}
		}
		if got := *a.Jobs[0].Needs; got != tc.want {
			t.Errorf("%s: peak %d, p95 %d, p99 %d: %+v, want %+v", tc.provider, tc.peak, tc.p95, tc.p99, got, tc.want)
		}
	}
	if needs := Analyze(metadata(nil), testLimits, true).Jobs[0].Needs; needs != nil {
		t.Errorf("an unprofiled job needs %+v, but nothing is known of it", needs)
	}
}

func TestAnalyzeForKnowsEveryProvider(t *testing.T) {
	for _, name := range []string{faas.AWSLambda, faas.GCPFunctions, faas.AzureFunctions, faas.Custom} {
		a, err := AnalyzeFor(metadata(fitting()), name, true)
		if err != nil {
			t.Fatal(err)
		}
		limits, _ := faas.ProviderLimits(name)
		if a.Provider != name || a.Limits != limits || a.Strategy.Kind != StrategyServerless {
			t.Errorf("%s: %+v", name, a)
		}
	}
	_, err := AnalyzeFor(metadata(), "nowhere", true)
	if faas.CodeOf(err) != faas.ErrInvalidArgument ||
		!strings.Contains(err.Error(), `"nowhere" (known: aws-lambda, azure-functions, custom, gcp-functions`) {
		t.Errorf("error = %v", err)
	}
}

func TestAnalyzeChangesAndKeepsNothing(t *testing.T) {
	meta := &Metadata{Jobs: []Job{{ID: 3, Profile: fitting()}, {ID: 1, Profile: fitting()},
		{ID: 3, Profile: changed(func(p *JobProfile) { p.Stateful = true })}}}
	before, _ := json.Marshal(meta)
	first := Analyze(meta, testLimits, true)
	if after, _ := json.Marshal(meta); string(before) != string(after) {
		t.Errorf("metadata became %s, was %s", after, before)
	}
	if diff := cmp.Diff(first, Analyze(meta, testLimits, true)); diff != "" {
		t.Error("a second analysis differs:\n" + diff)
	}
	slices.Reverse(meta.Jobs)
	if diff := cmp.Diff(first, Analyze(meta, testLimits, true)); diff != "" {
		t.Error("the order of the jobs matters:\n" + diff)
	}
	first.Jobs[0].Needs.MemoryMB = 1
	if first.Jobs[1].Needs.MemoryMB == 1 {
		t.Error("two jobs share their needs")
	}
}

// goldenAnalysis has every kind of member.
func goldenAnalysis(t *testing.T) *Analysis {
	meta := metadata(fitting(), nil, &JobProfile{
		P95DurationMS: 910000, PeakMemoryMB: 12288, Stateful: true, PersistentConnections: true})
	a, err := AnalyzeFor(meta, faas.AWSLambda, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnalysisJSONIsStable(t *testing.T) {
	for name, a := range map[string]*Analysis{
		"analysis.json":       goldenAnalysis(t),
		"analysis-empty.json": Analyze(nil, faas.Limits{}, false),
	} {
		got, err := json.MarshalIndent(a, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		var back Analysis
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, &back); diff != "" {
			t.Errorf("%s does not read back equal:\n%s", name, diff)
		}
	}
}

func TestAnalysisPrintsAsATable(t *testing.T) {
	const want = "hybrid on aws-lambda: 1 of 3 jobs fit; VM part: 18432 MiB, 9 cores\n" +
		"  job 0   fits: 128 MiB, 10 s\n" +
		"  job 1   does not fit: it was never profiled, and nothing untested is deployed: " +
		"measure it with package profile, which writes blueprint-profiles.json\n" +
		"  job 2   does not fit: 95% of its runs take up to 910 s, longer than the timeout limit of 900 s; " +
		"its peak memory of 12288 MiB is above the limit of 10240 MiB; " +
		"it is stateful: it keeps state between invocations, which may reach different instances; " +
		"it keeps persistent connections, which end with the instance"
	if diff := cmp.Diff(want, goldenAnalysis(t).String()); diff != "" {
		t.Error(diff)
	}
	if got, want := Analyze(nil, testLimits, false).String(),
		"traditional: 0 of 0 jobs fit, serverless is not enabled; VM part: 512 MiB, 1 core"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzAnalyze makes jobs of bytes, and checks what the analysis promises for any input.
func FuzzAnalyze(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 250, 5, 6, 7, 1, 0, 0, 255}, uint32(1000), uint32(60), true, "any", "none")
	f.Add([]byte{9, 9, 9, 9, 9, 9, 9, 9}, uint32(0), uint32(0), true, "tee_required", "required")
	f.Add([]byte{}, uint32(math.MaxUint32), uint32(math.MaxUint32), false, "", "")
	f.Fuzz(func(t *testing.T, data []byte, maxMB, maxSecs uint32, enabled bool, confidentiality, gpu string) {
		meta := &Metadata{Execution: ExecutionProfile{Confidentiality: confidentiality, GPU: GPURequirement{Policy: gpu}}}
		for ; len(data) >= 4; data = data[4:] {
			job := Job{ID: uint32(data[0])}
			if data[0] > 200 {
				job.ID = math.MaxUint32 - uint32(data[0])
			}
			if data[1]&1 == 0 {
				job.Profile = &JobProfile{
					P95DurationMS: 1 << (data[1] >> 2), P99DurationMS: 1<<(data[2]>>2) - 1,
					PeakMemoryMB: 1<<(data[3]>>3) + uint32(data[2]),
					Stateful:     data[3]&1 != 0, PersistentConnections: data[3]&2 != 0,
				}
			}
			meta.Jobs = append(meta.Jobs, job)
		}
		ids := map[uint32]bool{}
		for _, job := range meta.Jobs {
			ids[job.ID] = true
		}
		limits := faas.Limits{MaxMemoryMB: maxMB, MaxTimeoutSecs: maxSecs}
		a := Analyze(meta, limits, enabled)
		if len(a.Jobs) != len(ids) || len(a.Strategy.FaaSJobs)+len(a.Strategy.LocalJobs) != len(ids) {
			t.Fatalf("%d jobs became %d analysed, %d and %d placed", len(ids), len(a.Jobs), len(a.Strategy.FaaSJobs),
				len(a.Strategy.LocalJobs))
		}
		for _, list := range [][]uint32{a.Strategy.FaaSJobs, a.Strategy.LocalJobs} {
			if list == nil || !slices.IsSorted(list) {
				t.Errorf("list %v", list)
			}
			for _, id := range list {
				if !ids[id] {
					t.Errorf("job %d is placed twice, or does not exist", id)
				}
				delete(ids, id)
			}
		}
		for i, job := range a.Jobs {
			if i > 0 && a.Jobs[i-1].JobID >= job.JobID {
				t.Error("the jobs do not ascend")
			}
			if job.Compatible != (len(job.Reasons) == 0) {
				t.Errorf("job %d: compatible %v with reasons %v", job.JobID, job.Compatible, job.Reasons)
			}
			if job.Compatible && (job.Needs == nil || job.Needs.MemoryMB > maxMB || job.Needs.TimeoutSecs > maxSecs) {
				t.Errorf("job %d fits %+v and needs %+v", job.JobID, limits, job.Needs)
			}
			if slices.Contains(a.Strategy.FaaSJobs, job.JobID) != (job.Compatible && a.Strategy.Kind != StrategyTraditional) {
				t.Errorf("job %d is in the wrong list", job.JobID)
			}
		}
		switch nFaaS, nLocal := len(a.Strategy.FaaSJobs), len(a.Strategy.LocalJobs); a.Strategy.Kind {
		case StrategyServerless:
			if !enabled || nFaaS == 0 || nLocal != 0 {
				t.Errorf("serverless with %d and %d jobs", nFaaS, nLocal)
			}
		case StrategyHybrid:
			if !enabled || nFaaS == 0 || nLocal == 0 {
				t.Errorf("hybrid with %d and %d jobs", nFaaS, nLocal)
			}
		case StrategyTraditional:
			if nFaaS != 0 {
				t.Errorf("traditional with %d functions", nFaaS)
			}
		default:
			t.Errorf("strategy %q", a.Strategy.Kind)
		}
		if a.Sizing.MemoryMB < 512 || a.Sizing.CPUCores < 1 || uint64(a.Sizing.CPUCores)*2048 < uint64(a.Sizing.MemoryMB) {
			t.Errorf("sizing %+v", a.Sizing)
		}
		if a.String() == "" {
			t.Error("prints as nothing")
		}
	})
}

func BenchmarkAnalyze(b *testing.B) {
	for _, bc := range []struct {
		name string
		jobs int
	}{{"1", 1}, {"256", 256}, {"10000", 10000}} {
		profiles := make([]*JobProfile, bc.jobs)
		for i := range profiles {
			switch i % 4 {
			case 0, 1:
				profiles[i] = fitting()
			case 2:
				profiles[i] = changed(func(p *JobProfile) { p.Stateful = true })
			}
		}
		meta := metadata(profiles...)
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Analyze(meta, testLimits, true)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bc.jobs), "ns/job")
		})
	}
}
