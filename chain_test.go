package serverless

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// recordedNode serves all recorded blueprints of a generation. It clears the environment's
// contract.
func recordedNode(t testing.TB, generation string) (*tangletest.Node, string) {
	t.Helper()
	t.Setenv(ContractEnv, "")
	t.Setenv(ContractFallbackEnv, "")
	t.Setenv(LogRangeEnv, "")
	recorded, err := tangletest.Read(generation)
	if err != nil {
		t.Fatal(err)
	}
	n, err := tangletest.NewNode(recorded)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	return n, server.URL
}

func contractOption() FetchOption { return WithContract(tangletest.Tangle.String()) }

func fetch(t testing.TB, id uint64, opts ...FetchOption) *Metadata {
	t.Helper()
	meta, err := FetchMetadata(t.Context(), id, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func TestMetadataOfTheChainIsComplete(t *testing.T) {
	_, url := recordedNode(t, "gen-D")
	meta := fetch(t, 0, WithRPC(url), contractOption())
	sources, warnings := meta.Sources, meta.Warnings
	meta.Sources = nil
	want := &Metadata{
		BlueprintID: 0, Source: SourceChain, Name: "three-jobs-valid", Description: "Three jobs, profiled",
		Jobs:      sampleJobs(ProfileFromChain),
		Execution: ExecutionProfile{Confidentiality: "any"},
		OnChain: &OnChain{
			ChainID: 31338, Contract: tangletest.Tangle.String(), Block: 100, Owner: tangletest.Owner.String(),
			Manager:   tangletest.Manager.String(),
			CreatedAt: 80, Active: new(true), NamesFrom: "event", SourcesFrom: "event",
		},
	}
	for i := range want.Jobs {
		want.Jobs[i].Name = fmt.Sprintf("job-%d", i)
	}
	if diff := cmp.Diff(want, meta); diff != "" || len(warnings) != 0 {
		t.Error(diff, warnings)
	}
	hashes := 0
	for _, source := range sources {
		for _, binary := range source.Binaries {
			if len(binary.SHA256) == 64 && binary.Arch != "" && binary.OS != "" {
				hashes++
			}
		}
	}
	if len(sources) != 2 || hashes == 0 {
		t.Errorf("%+v", sources)
	}
	text, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var back *Metadata
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(meta, back); diff != "" {
		t.Error("it does not read back equal: " + diff)
	}
}

// All recorded blueprints, of the oldest and of today's generation, match their names.
func TestEveryRecordedBlueprintIsUnderstood(t *testing.T) {
	type outcome struct {
		profiled int
		source   ProfileSource
		tee, gpu bool
		warning  string // a part of one warning
	}
	wants := map[string]outcome{
		"three-jobs-valid": {3, ProfileFromChain, false, false, ""}, "gpu-tee": {3, ProfileFromChain, true, true, ""},
		"raw-base64": {0, "", false, false, "profilingData"}, "no-profiles": {0, "", false, false, ""},
		"corrupt-truncated":        {0, "", false, false, "profilingData"},
		"partial-badjob":           {2, ProfileFromChain, false, false, "profilingData"},
		"hostile-jobid":            {0, "", false, false, "4294967295"},
		"fewer-profiles-than-jobs": {3, ProfileFromChain, false, false, ""},
		"unicode-naïve-✓":          {0, "", false, false, ""},
		"no-sources":               {1, ProfileFromChain, false, false, "jobs 1, 2 were dropped"},
	}
	for _, generation := range tangletest.Generations() {
		n, url := recordedNode(t, generation)
		recorded, err := tangletest.Read(generation)
		if err != nil {
			t.Fatal(err)
		}
		// Contracts from 0.18 on do not return the description, so the profiles in it are lost.
		wants["legacy-description"] = outcome{profiled: 3, source: ProfileFromDescription}
		wants["corrupt-then-description"] = outcome{3, ProfileFromDescription, false, false, "profilingData"}
		if generation == "gen-D" {
			wants["legacy-description"] = outcome{}
			wants["corrupt-then-description"] = outcome{warning: "profilingData"}
		}
		for _, r := range recorded {
			t.Run(generation+"/"+r.Name, func(t *testing.T) {
				meta := fetch(t, r.ID, WithRPC(url), contractOption())
				got := outcome{tee: meta.Execution.NeedsTEE(), gpu: meta.Execution.NeedsGPU()}
				for _, job := range meta.Jobs {
					if job.Profile != nil {
						got.profiled++
						got.source = job.ProfileSource
					}
				}
				want := wants[r.Name]
				all := strings.Join(meta.Warnings, "\n")
				if !strings.Contains(all, want.warning) || want.warning == "" && strings.Contains(all, "rofil") {
					t.Errorf("warnings: %s", all)
				}
				want.warning = ""
				if got != want {
					t.Errorf("got %+v, want %+v (%s)", got, want, all)
				}
				if meta.Name != r.Name || len(meta.Jobs) != r.Got.Jobs || meta.OnChain.ChainID != n.ChainID {
					t.Errorf("%+v", meta)
				}
			})
		}
	}
}

func TestAFileIsPreferredToTheChain(t *testing.T) {
	_, url := recordedNode(t, "gen-D")
	binary := binaryWithProfiles(t,
		`{"jobs":{"1":{"avg_duration_ms":1,"p95_duration_ms":2,"peak_memory_mb":3,"stateful":false,`+
			`"persistent_connections":false}}}`)
	meta := fetch(t, 1, WithRPC(url), contractOption(), WithBinary(binary))
	if meta.Jobs[0].Profile != nil || meta.Jobs[1].ProfileSource != ProfileFromFile || meta.Jobs[2].Profile != nil {
		t.Errorf("%+v", meta.Jobs)
	}
	if !meta.Execution.NeedsTEE() || !meta.Execution.NeedsGPU() {
		t.Error("what the chain demands of where the jobs run was lost")
	}
}

func TestTheContractOfTheEnvironmentIsRead(t *testing.T) {
	_, url := recordedNode(t, "gen-D")
	t.Setenv(ContractFallbackEnv, tangletest.Tangle.String())
	if meta := fetch(t, 0, WithRPC(url)); meta.Source != SourceChain {
		t.Errorf("%+v", meta)
	}
	t.Setenv(ContractEnv, "0x12")
	if _, err := FetchMetadata(t.Context(), 0, WithRPC(url)); faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Errorf("%v", err)
	}
}

func TestTheContractIsFoundByChainID(t *testing.T) {
	n, url := recordedNode(t, "gen-D")
	_, err := FetchMetadata(t.Context(), 0, WithRPC(url))
	const want = " is of chain id 31338, for which no contract is known: name its address (WithContract or " +
		"TANGLE_CONTRACT)"
	if !errors.Is(err, ErrUnknownNetwork) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v", err)
	}
	n.ChainID = 31337
	if n.Contract, err = tangle.ParseAddress("0x0165878A594ca255338adfa4d48449f69242Eb8F"); err != nil {
		t.Fatal(err)
	}
	if meta := fetch(t, 0, WithRPC(url)); meta.Source != SourceChain || meta.OnChain.Contract != n.Contract.String() {
		t.Errorf("%+v", meta)
	}
}

// errorTransport answers every request with an error, so that no test depends on what listens on
// the default port.
type errorTransport struct{ asked []string }

func (e *errorTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	e.asked = append(e.asked, r.URL.String())
	return nil, errors.New("refused")
}

func TestTheDefaultNodeIsAskedWhereOnlyAContractIsConfigured(t *testing.T) {
	recordedNode(t, "gen-D")
	transport := &errorTransport{}
	meta, err := FetchMetadata(t.Context(), 0, contractOption(), WithHTTPClient(&http.Client{Transport: transport}))
	const want = "faas: fetch metadata: node http://localhost:9944 is unreachable: refused (the default node; WithRPC " +
		"names another)"
	if meta != nil || err == nil || err.Error() != want || faas.CodeOf(err) != faas.ErrUnavailable ||
		!errors.Is(err, ErrNodeUnreachable) {
		t.Errorf("metadata %v, error %v", meta, err)
	}
	if len(transport.asked) != 3 || transport.asked[0] != DefaultRPC {
		t.Errorf("%q", transport.asked)
	}
}

func TestChainErrorsHaveAKindACodeAndAText(t *testing.T) {
	_, url := recordedNode(t, "gen-D")
	answering := func(status int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	for _, tc := range []struct {
		id   uint64
		opts []FetchOption
		kind ChainError
		code faas.Code
		text string // NODE stands for the node's host
	}{
		{0, []FetchOption{WithRPC(url), WithContract("0x00000000000000000000000000000000000000AA")}, ErrNoContract,
			faas.ErrNotFound,
			"faas: fetch metadata: no contract at address 0x00000000000000000000000000000000000000aa on chain id 31338: " +
				"check the address (WithContract, TANGLE_CONTRACT), and that the node is of the chain that is meant"},
		{99, []FetchOption{WithRPC(url), contractOption()}, ErrBlueprintNotFound, faas.ErrNotFound,
			"faas: fetch metadata: blueprint 99 is not found in contract 0x0c00000000000000000000000000000000000001 on " +
				"chain id 31338"},
		{0, []FetchOption{WithRPC(url), contractOption(), WithChainID(1)}, ChainError(tangle.ErrConfig),
			faas.ErrInvalidArgument,
			"faas: fetch metadata: node NODE is of chain id 31338, and 1 is wanted"},
		{0, []FetchOption{WithRPC(url), contractOption(), WithBlock(1000)}, ErrNodeRPC, faas.ErrUnavailable,
			"faas: fetch metadata: node NODE answered eth_call with JSON-RPC error -32000: header not found"},
		{0, []FetchOption{WithRPC("node.example:8545"), contractOption()}, ChainError(tangle.ErrConfig),
			faas.ErrInvalidArgument,
			"faas: fetch metadata: RPC URL 1 of 1 must begin with http:// or https:// and name a host"},
		{0, []FetchOption{WithRPC(answering(401, "")), contractOption()}, ErrNodeHTTP, faas.ErrPermissionDenied,
			"faas: fetch metadata: node NODE answered with HTTP 401 Unauthorized"},
		{0, []FetchOption{WithRPC(answering(200, "hello")), contractOption()}, ErrNodeMalformed, faas.ErrUnavailable,
			`faas: fetch metadata: node NODE: answer malformed: the response is not JSON: it begins with "hello"`},
		{0, []FetchOption{WithRPC(answering(200, strings.Repeat("x", 4<<20+1))), contractOption()}, ErrNodeTooLarge,
			faas.ErrTooLarge,
			"faas: fetch metadata: node NODE: the answer is larger than 4194304 bytes"},
	} {
		meta, err := FetchMetadata(t.Context(), tc.id, tc.opts...)
		if meta != nil || err == nil || !errors.Is(err, tc.kind) || faas.CodeOf(err) != tc.code {
			t.Errorf("metadata %v, error %v", meta, err)
			continue
		}
		got := err.Error()
		for _, field := range strings.Fields(got) {
			if strings.HasPrefix(field, "http://127.0.0.1:") {
				got = strings.Replace(got, strings.TrimRight(field, ":"), "NODE", 1)
			}
		}
		if got != tc.text {
			t.Errorf("got  %s\nwant %s", got, tc.text)
		}
	}
}

func TestWhatEventsTellIsOptional(t *testing.T) {
	n, url := recordedNode(t, "gen-D")
	meta := fetch(t, 0, WithRPC(url), contractOption(), WithEventSearch(0))
	if requests, _ := n.Requests(); requests != 1 || meta.Jobs[0].Name != "" || meta.Jobs[0].Profile == nil ||
		len(meta.Sources) != 0 {
		t.Errorf("%d requests, %+v", requests, meta)
	}
	dir := t.TempDir()
	fetch(t, 0, WithRPC(url), contractOption(), WithCache(dir))
	n.Logs = nil
	meta = fetch(t, 0, WithRPC(url), contractOption(), WithCache(dir), WithEventSearch(0))
	if meta.Jobs[2].Name != "job-2" || meta.OnChain.NamesFrom != "cache" || len(meta.Sources) != 2 {
		t.Errorf("%+v", meta)
	}
}

func TestTheRangeOfTheEnvironmentIsUsed(t *testing.T) {
	n, url := recordedNode(t, "gen-D")
	n.Logs = nil
	t.Setenv(LogRangeEnv, "30")
	fetch(t, 0, WithRPC(url), contractOption(), WithEventSearch(1))
	if _, calls := n.Requests(); !slices.Contains(calls, "eth_getLogs 71-100") {
		t.Error(calls)
	}
	t.Setenv(LogRangeEnv, "many")
	meta := fetch(t, 0, WithRPC(url), contractOption())
	if got := meta.Warnings[len(meta.Warnings)-1]; got != "the environment variable MAX_GETLOGS_RANGE was ignored: it "+
		"must be a number of blocks" {
		t.Error(got)
	}
}

func TestAnInactiveBlueprintIsReported(t *testing.T) {
	n, url := recordedNode(t, "gen-D")
	n.Blueprints[0].Status = tangletest.EncodeStatus(tangle.Status{Owner: tangletest.Owner})
	meta := fetch(t, 0, WithRPC(url), contractOption())
	if *meta.OnChain.Active || len(meta.Warnings) != 1 ||
		meta.Warnings[0] != "the blueprint is not active: its owner has switched it off" {
		t.Errorf("%+v", meta)
	}
}

func TestRequirementsAreRead(t *testing.T) {
	n, url := recordedNode(t, "gen-D")
	n.Blueprints[0].Requirements = tangletest.EncodeRequirements(
		[]tangle.Requirement{{Kind: 0, Count: 4}, {Kind: 1, Count: 9000}, {Kind: 2, Count: 3}, {Kind: 3, Count: 2},
			{Kind: 4, Count: 1}, {Kind: 5, Count: 1<<64 - 1}, {Kind: 0, Count: 2}, {Kind: 77, Count: 1}})
	meta := fetch(t, 0, WithRPC(url), contractOption())
	want := Resources{CPUCores: 4, MemoryMB: 9000, StorageMB: 3, EgressMB: 2, IngressMB: 1, GPUs: 1<<63 - 1}
	if diff := cmp.Diff(want, meta.Requirements); diff != "" || len(meta.Warnings) != 1 ||
		meta.Warnings[0] != "a requirement of the unknown kind 77 was ignored" {
		t.Error(diff, meta.Warnings)
	}
}

// The bomb was stored on the genuine contract: 64 MiB that compress to 87 kB.
func TestABombOnTheChainCostsLittle(t *testing.T) {
	n, _ := recordedNode(t, "gen-D")
	def, err := tangle.DecodeDefinition(n.Blueprints[0].Definition)
	if err != nil {
		t.Fatal(err)
	}
	def.Metadata.ProfilingData = profileSample(t, "bomb-64MiB.profilingData")
	n.Blueprints[0].Definition = tangletest.EncodeDefinition(def)
	// The node repeats its previous answer, because its own allocations must not count.
	var said []byte
	parrot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if said == nil {
			recorder := httptest.NewRecorder()
			n.ServeHTTP(recorder, r)
			said = recorder.Body.Bytes()
		}
		_, _ = w.Write(said)
	}))
	defer parrot.Close()
	opts := []FetchOption{WithRPC(parrot.URL), contractOption(), WithEventSearch(0)}
	fetch(t, 0, opts...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	meta := fetch(t, 0, opts...)
	runtime.ReadMemStats(&after)
	cost := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes allocated for a response of %d", cost, len(said))
	if cost > 4<<20 || meta.Jobs[0].Profile != nil || len(meta.Warnings) != 1 {
		t.Errorf("%d bytes allocated, %+v", cost, meta)
	}
}

func TestVerifyBinary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := faas.InspectBinary(self)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("ab", 32)
	publishes := func(binaries ...PublishedBinary) *Metadata {
		return &Metadata{Source: SourceChain, Sources: []BlueprintSource{
			{Kind: "container"}, {Kind: "native", Binaries: binaries}}}
	}
	arch := string(file.Arch)
	for name, tc := range map[string]struct {
		meta *Metadata
		path string
		want BinaryVerdict
	}{
		"its own": {publishes(PublishedBinary{arch, file.OS, "x", strings.ToUpper(file.SHA256)}), self,
			BinaryMatches},
		"its own, of any system": {publishes(PublishedBinary{arch, "unknown", "x", file.SHA256}), self, BinaryMatches},
		"one of several": {publishes(PublishedBinary{arch, file.OS, "x", other},
			PublishedBinary{arch, file.OS, "y", file.SHA256}), self, BinaryMatches},
		"another": {publishes(PublishedBinary{arch, file.OS, "x", other}), self, BinaryDiffers},
		"its own, for another": {publishes(PublishedBinary{"riscv64", file.OS, "x", file.SHA256},
			PublishedBinary{arch, file.OS, "x", other}), self, BinaryDiffers},
		"only another architecture's": {publishes(PublishedBinary{"riscv64", file.OS, "x", other}), self, BinaryUnpublished},
		"no hash":                     {publishes(PublishedBinary{arch, file.OS, "x", ""}), self, BinaryUnpublished},
		"no binary":                   {publishes(), self, BinaryUnpublished},
		"no source":                   {&Metadata{Source: SourceChain}, self, BinaryUnpublished},
		"mock":                        {&Metadata{Source: SourceMock}, self, BinaryUnpublished},
		"no metadata":                 {nil, self, BinaryUnpublished},
		"a script":                    {publishes(PublishedBinary{arch, file.OS, "x", other}), script, BinaryDiffers},
	} {
		check, err := VerifyBinary(tc.meta, tc.path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if check.Verdict != tc.want || check.Why == "" || len(check.SHA256) != 64 ||
			(check.Err() != nil) != (tc.want == BinaryDiffers) {
			t.Errorf("%s: %v", name, check)
		}
		if tc.want == BinaryUnpublished && !strings.Contains(check.Why, "nothing to compare") {
			t.Errorf("%s: it does not say clearly that there is nothing to compare with: %v", name, check)
		}
	}
	if check, err := VerifyBinary(nil, filepath.Join(t.TempDir(), "none")); check != nil ||
		faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("%v, %v", check, err)
	}
}

func TestDeclaredResourcesRaiseTheSizing(t *testing.T) {
	for _, tc := range []struct {
		peak     uint32
		declared Resources
		want     Sizing
	}{
		{0, Resources{}, Sizing{512, 1}},
		{2000, Resources{MemoryMB: 1024, CPUCores: 1}, Sizing{3000, 2}},
		{2000, Resources{MemoryMB: 8192, CPUCores: 4}, Sizing{8192, 4}},
		{2000, Resources{MemoryMB: 8193}, Sizing{8193, 5}},
		{2000, Resources{MemoryMB: 16384, CPUCores: 3}, Sizing{16384, 3}},
		{0, Resources{CPUCores: 1 << 40, MemoryMB: 1 << 40}, Sizing{1<<32 - 1, 1<<32 - 1}},
	} {
		profile := fitting()
		profile.PeakMemoryMB = tc.peak
		got := Analyze(&Metadata{Jobs: []Job{{Profile: profile}}, Requirements: tc.declared},
			faas.Limits{MaxMemoryMB: 4096, MaxTimeoutSecs: 900}, true)
		if got.Sizing != tc.want || got.Strategy.Kind != StrategyServerless {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}

func TestDeclaredGPUsDoNotFit(t *testing.T) {
	meta := &Metadata{Jobs: []Job{{Profile: fitting()}}, Requirements: Resources{GPUs: 2}}
	got := Analyze(meta, faas.Limits{MaxMemoryMB: 4096, MaxTimeoutSecs: 900}, true)
	if diff := cmp.Diff([]Reason{{Code: ReasonNeedsGPU, Value: 2}}, got.Jobs[0].Reasons); diff != "" ||
		got.Strategy.Kind != StrategyTraditional {
		t.Error(diff)
	}
	meta.Execution.GPU = GPURequirement{Policy: "required", MinCount: 4}
	got = Analyze(meta, faas.Limits{}, true)
	reasons := got.Jobs[0].Reasons
	if reasons[len(reasons)-1] != (Reason{Code: ReasonNeedsGPU, Value: 4}) {
		t.Errorf("%+v", got.Jobs[0].Reasons)
	}
}

func BenchmarkFetchMetadata(b *testing.B) {
	_, url := recordedNode(b, "gen-D")
	b.ReportAllocs()
	for b.Loop() {
		fetch(b, 0, WithRPC(url), contractOption(), WithEventSearch(0))
	}
}
