package serverless

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// noContract clears the machine's own configuration for a test.
func noContract(t *testing.T) {
	t.Setenv(ContractEnv, "")
	t.Setenv(ContractFallbackEnv, "")
}

// binaryWithProfiles writes a profiles file, and returns the path of a binary beside it. The
// binary does not exist.
func binaryWithProfiles(t *testing.T, content string) string {
	t.Helper()
	target := t.TempDir()
	if err := os.WriteFile(filepath.Join(target, "blueprint-profiles.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(target, "release", "blueprint")
}

func profileSample(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("internal", "profiles", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sampleProfiles returns the profiles of every valid sample.
func sampleProfiles() []*JobProfile {
	return []*JobProfile{
		{AvgDurationMS: 5, P95DurationMS: 8, P99DurationMS: 10, PeakMemoryMB: 256, SampleSize: 10},
		{AvgDurationMS: 1450, P95DurationMS: 2100, P99DurationMS: 2600, PeakMemoryMB: 1024, Stateful: true, SampleSize: 20},
		{AvgDurationMS: 420000, P95DurationMS: 910000, P99DurationMS: 930000, PeakMemoryMB: 12288,
			PersistentConnections: true, SampleSize: 3},
	}
}

func sampleJobs(source ProfileSource) []Job {
	var jobs []Job
	for i, p := range sampleProfiles() {
		jobs = append(jobs, Job{ID: uint32(i), Profile: p, ProfileSource: source})
	}
	return jobs
}

const (
	askedFor      = "the metadata is made up (mock), because it was asked for: the blueprint's real jobs are not known"
	notConfigured = "the metadata is made up (mock), because no contract is configured (WithContract, TANGLE_CONTRACT " +
		"or TANGLE_CONTRACT_ADDRESS): " +
		"the blueprint's real jobs are not known"
)

func TestMockMetadataIsMarkedAndNeverServerless(t *testing.T) {
	noContract(t)
	for name, tc := range map[string]struct {
		opts    []FetchOption
		warning string
	}{
		"asked for":          {[]FetchOption{WithMock()}, askedFor},
		"nothing configured": {nil, notConfigured},
		"unset flags":        {[]FetchOption{WithRPC(""), WithContract(""), WithBinary("")}, notConfigured},
		"asked for beside a contract": {[]FetchOption{
			WithContract("0x0165878A594ca255338adfa4d48449f69242Eb8F"), WithMock()}, askedFor},
		"a binary without profiles": {[]FetchOption{WithMock(), WithBinary(filepath.Join(t.TempDir(), "a", "b"))},
			askedFor},
		"asked for beside a bad option": {[]FetchOption{WithMock(), WithContract("bogus"), nil}, askedFor},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			opts := append([]FetchOption{WithLogger(slog.New(slog.NewTextHandler(&log, nil)))}, tc.opts...)
			meta, err := FetchMetadata(t.Context(), 42, opts...)
			if err != nil {
				t.Fatal(err)
			}
			want := &Metadata{BlueprintID: 42, Source: SourceMock, Jobs: []Job{{ID: 0}, {ID: 1}}, Warnings: []string{tc.warning}}
			if diff := cmp.Diff(want, meta); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "made up (mock)") {
				t.Errorf("the log is %q, want a warning", log.String())
			}
			for _, provider := range []string{faas.AWSLambda, faas.GCPFunctions, faas.AzureFunctions, faas.Custom} {
				if a, _ := AnalyzeFor(meta, provider, true); a.Strategy.Kind != StrategyTraditional {
					t.Errorf("%s: %v", provider, a.Strategy)
				}
			}
		})
	}
}

func TestMockTakesProfilesFromTheFile(t *testing.T) {
	noContract(t)
	binary := binaryWithProfiles(t, profileSample(t, "profiles.json"))
	meta, err := FetchMetadata(t.Context(), 42, WithBinary(binary))
	if err != nil {
		t.Fatal(err)
	}
	want := &Metadata{
		BlueprintID: 42, Source: SourceMock, Jobs: sampleJobs(ProfileFromFile),
		Warnings: []string{notConfigured, "the number of jobs, 3, was taken from " + ProfilesPath(binary)},
	}
	if diff := cmp.Diff(want, meta); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var back Metadata
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(meta, &back); diff != "" {
		t.Error("does not read back equal:\n" + diff)
	}
}

func TestTheNumberOfMockJobsIsBounded(t *testing.T) {
	noContract(t)
	const p = `{"avg_duration_ms":1,"p95_duration_ms":2,"peak_memory_mb":3,"stateful":false,` +
		`"persistent_connections":false}`
	for content, want := range map[string]int{
		`{"jobs":{"0":` + p + `}}`:                        1, // a blueprint with one job
		`{"jobs":{"4":` + p + `}}`:                        5,
		`{"jobs":{"255":` + p + `,"256":` + p + `}}`:      256,
		`{"jobs":{"1":` + p + `,"4294967295":` + p + `}}`: 2,
		`{"jobs":{"9":{},"1":` + p + `}}`:                 2,
	} {
		meta, err := FetchMetadata(t.Context(), 1, WithMock(), WithBinary(binaryWithProfiles(t, content)))
		if err != nil {
			t.Fatal(err)
		}
		if len(meta.Jobs) != want {
			t.Errorf("%s: %d jobs, want %d", content, len(meta.Jobs), want)
		}
	}
}

func TestABrokenProfilesFileIsReportedAndIgnored(t *testing.T) {
	noContract(t)
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"empty": {func(path string) error { return os.WriteFile(path, nil, 0o600) },
			"not JSON: unexpected end of JSON input"},
		"not JSON": {func(path string) error { return os.WriteFile(path, []byte("jobs:\n"), 0o600) },
			"not JSON: invalid character 'j'"},
		"no usable job": {func(path string) error { return os.WriteFile(path, []byte(`{"jobs":{"0":{}}}`), 0o600) },
			"no job has a usable profile"},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"too long": {
			func(path string) error {
				return os.WriteFile(path, []byte(`{"jobs":{},"x":"`+strings.Repeat("x", 1<<20)+`"}`), 0o600)
			}, "more than the limit of 1048576",
		},
	} {
		t.Run(name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "release", "blueprint")
			if err := tc.make(ProfilesPath(binary)); err != nil {
				t.Fatal(err)
			}
			meta, err := FetchMetadata(t.Context(), 1, WithMock(), WithBinary(binary))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Job{{ID: 0}, {ID: 1}}, meta.Jobs); diff != "" {
				t.Error(diff)
			}
			last := meta.Warnings[len(meta.Warnings)-1]
			if !strings.Contains(last, tc.want) || !strings.Contains(last, ProfilesPath(binary)) ||
				!strings.Contains(last, "ignored") {
				t.Errorf("warnings = %q, want one with %q and the path", meta.Warnings, tc.want)
			}
		})
	}
}

// The profiles file belongs to one binary. It is in the binary's directory or above it.
func TestProfilesAreUsedForTheirOwnBinaryOnly(t *testing.T) {
	noContract(t)
	const here = "blueprint" // the file name of the binary
	content := func(name, sha string) string {
		member := ""
		if sha != "" {
			member = `"binary_sha256":"` + sha + `",`
		}
		return `{"blueprint_name":"` + name + `",` + member + `"jobs":{"0":` +
			`{"avg_duration_ms":1,"p95_duration_ms":2,"peak_memory_mb":3,"stateful":false,"persistent_connections":false}}}`
	}
	other := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		beside, above func(own string) string
		from          string // the directory whose file is used; empty for none
		warns         string
	}{
		"its own, above": {above: func(own string) string { return content(here, own) }, from: "target"},
		"its own, in capitals": {above: func(own string) string { return content(here, strings.ToUpper(own)) },
			from: "target"},
		"its own by another name":  {above: func(own string) string { return content("chosen", own) }, from: "target"},
		"of a tool without hashes": {above: func(string) string { return content("crate", "") }, from: "target"},
		"of an older build": {above: func(string) string { return content(here, other) }, from: "target",
			warns: "another build"},
		"of another blueprint": {above: func(string) string { return content("neighbour", other) },
			warns: "another blueprint, \"neighbour\": profile "},
		"a hash that is none": {above: func(string) string { return content("crate", "abc") }, from: "target",
			warns: "binary_sha256 was ignored"},
		"beside comes first": {
			beside: func(own string) string { return content(here, own) },
			above:  func(string) string { return content("neighbour", other) }, from: "release",
		},
		"its own comes before an older build's": {
			beside: func(string) string { return content(here, other) },
			above:  func(own string) string { return content(here, own) }, from: "target",
		},
		"another's beside": {
			beside: func(string) string { return content("neighbour", other) },
			above:  func(own string) string { return content(here, own) },
			from:   "target", warns: "another blueprint",
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			binary := filepath.Join(target, "release", here)
			write(t, binary, "#!/bin/sh\n")
			file, err := faas.InspectBinary(binary)
			if err != nil {
				t.Fatal(err)
			}
			for dir, make := range map[string]func(string) string{filepath.Dir(binary): tc.beside, target: tc.above} {
				if make != nil {
					write(t, filepath.Join(dir, "blueprint-profiles.json"), make(file.SHA256))
				}
			}
			meta, err := FetchMetadata(t.Context(), 1, WithMock(), WithBinary(binary))
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(meta.Warnings, "\n")
			if used := meta.Jobs[0].Profile != nil; used != (tc.from != "") ||
				used && !strings.Contains(all, filepath.Join(tc.from, "blueprint-profiles.json")) {
				t.Errorf("used: %t, want those in %q; warnings:\n%s", used, tc.from, all)
			}
			if !strings.Contains(all, tc.warns) || tc.warns == "" && len(meta.Warnings) != 2 {
				t.Errorf("want a warning of %q:\n%s", tc.warns, all)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProfilesPathIsTwoDirectoriesUp(t *testing.T) {
	root := t.TempDir()
	if got, want := ProfilesPath(filepath.Join(root, "target", "release", "x")),
		filepath.Join(root, "target", "blueprint-profiles.json"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	release := filepath.Join(root, "release")
	if err := os.Mkdir(release, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(release)
	// The path of a temporary directory may contain a link, which the working directory has resolved.
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ProfilesPath("x"), filepath.Join(filepath.Dir(wd), "blueprint-profiles.json"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestProfilesComeFromTheFirstSourceThatHasAny(t *testing.T) {
	valid, broken := profileSample(t, "valid.profilingData"), profileSample(t, "corrupt-crc.profilingData")
	tee := profileSample(t, "valid-gpu-tee.profilingData")
	legacy := profileSample(t, "valid.description")
	teeProfile := ExecutionProfile{Confidentiality: "tee_required",
		GPU: GPURequirement{Policy: "required", MinCount: 2, MinVRAMGB: 40}}
	file := binaryWithProfiles(t, profileSample(t, "profiles.json"))
	for _, tc := range []struct {
		name                               string
		binary, profilingData, description string
		source                             ProfileSource // empty for no profiles
		exec                               ExecutionProfile
		warnings                           []string // a part of each warning
	}{
		{name: "nothing"},
		{name: "the file first", binary: file, profilingData: valid, description: legacy, source: ProfileFromFile,
			exec: ExecutionProfile{Confidentiality: "any"}},
		{name: "the file does not hide what the chain demands", binary: file, profilingData: tee, source: ProfileFromFile,
			exec: teeProfile},
		{name: "then profilingData", profilingData: tee, description: legacy, source: ProfileFromChain, exec: teeProfile},
		{name: "then the description", description: legacy, source: ProfileFromDescription},
		{
			name: "a broken file is skipped", binary: binaryWithProfiles(t, "{"), profilingData: valid, source: ProfileFromChain,
			exec: ExecutionProfile{Confidentiality: "any"}, warnings: []string{"blueprint-profiles.json: not JSON"},
		},
		{
			name: "broken profilingData is skipped", profilingData: broken, description: legacy, source: ProfileFromDescription,
			warnings: []string{"profilingData: job_profiles_b64_gzip: broken gzip: gzip: invalid checksum: its profiles " +
				"were ignored"},
		},
		{
			name: "all broken", binary: binaryWithProfiles(t, "{"), profilingData: broken, description: "[PROFILING_DATA_V1]?",
			warnings: []string{"not JSON", "invalid checksum", "description: not standard base64"},
		},
		{
			name: "profilingData broken beside a good file", binary: file, profilingData: "?", source: ProfileFromFile,
			warnings: []string{`profilingData is not a JSON object but begins with "?": it is not known whether the jobs ` +
				`need a TEE or a GPU`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			def := chainDefinition{
				Metadata:      Metadata{BlueprintID: 3, Source: SourceChain, Jobs: makeJobs(3)},
				ProfilingData: tc.profilingData, Description: tc.description,
			}
			meta := def.assemble(&fetchOptions{binary: tc.binary, logger: slog.New(slog.DiscardHandler)})
			want := makeJobs(3)
			if tc.source != "" {
				want = sampleJobs(tc.source)
			}
			if diff := cmp.Diff(want, meta.Jobs); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.exec, meta.Execution); diff != "" {
				t.Error(diff)
			}
			if len(meta.Warnings) != len(tc.warnings) {
				t.Fatalf("warnings = %q, want %d", meta.Warnings, len(tc.warnings))
			}
			for i, part := range tc.warnings {
				if !strings.Contains(meta.Warnings[i], part) {
					t.Errorf("warning %d = %q, want one with %q", i, meta.Warnings[i], part)
				}
			}
		})
	}
}

func TestTheContractIsConfiguredByOptionThenEnvironment(t *testing.T) {
	const a, b = "0x0165878A594ca255338adfa4d48449f69242Eb8F", "8299d60f373f3a4a8c4878e335cb9d840e6e3730"
	for _, tc := range []struct{ option, first, second, want, err string }{
		{"", "", "", "", ""},
		{a, "bogus", "bogus", a, ""},
		{"", a, "bogus", a, ""},
		{"", "", b, b, ""},
		{"", " ", " " + b + "\n", b, ""},
		{"bogus", a, a, "", "WithContract is not the address of a contract: it must be 0x and 40 hexadecimal digits, and " +
			"is 5 characters long"},
		{"", a + "0", b, "", "environment variable TANGLE_CONTRACT is not the address"},
		{"", "", "0x" + strings.Repeat("g", 40), "", "environment variable TANGLE_CONTRACT_ADDRESS is not the address"},
	} {
		t.Setenv(ContractEnv, tc.first)
		t.Setenv(ContractFallbackEnv, tc.second)
		got, err := contractAddress(tc.option)
		if got != tc.want {
			t.Errorf("%+v: %q", tc, got)
		}
		if (err == nil) != (tc.err == "") || err != nil &&
			(!strings.Contains(err.Error(), tc.err) || faas.CodeOf(err) != faas.ErrInvalidArgument) {
			t.Errorf("%+v: error %v", tc, err)
		}
	}
}

func TestFetchMetadataNeverMocksWhatIsConfigured(t *testing.T) {
	noContract(t)
	const dead = "http://127.0.0.1:1"
	for name, opts := range map[string][]FetchOption{
		"contract":       {WithContract("0x0165878A594ca255338adfa4d48449f69242Eb8F"), WithRPC(dead)},
		"node":           {WithRPC(dead)},
		"broken address": {WithContract("0x01")},
	} {
		if meta, err := FetchMetadata(t.Context(), 1, opts...); err == nil || meta != nil {
			t.Errorf("%s: metadata %v, error %v", name, meta, err)
		}
	}
	t.Setenv(ContractFallbackEnv, "0x01")
	if meta, err := FetchMetadata(t.Context(), 1); faas.CodeOf(err) != faas.ErrInvalidArgument || meta != nil {
		t.Errorf("environment: metadata %v, error %v", meta, err)
	}
}

func TestFetchMetadataRespectsItsContext(t *testing.T) {
	noContract(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if meta, err := FetchMetadata(ctx, 1, WithMock()); !errors.Is(err, context.Canceled) ||
		faas.CodeOf(err) != faas.ErrTimeout || meta != nil {
		t.Errorf("metadata %v, error %v", meta, err)
	}
}

func TestMetadataPrintsInALine(t *testing.T) {
	meta := &Metadata{
		BlueprintID: 7, Source: SourceChain, Name: "x", Jobs: []Job{{Profile: fitting()}, {ID: 1}},
		Execution: ExecutionProfile{Confidentiality: "tee_required"}, Warnings: []string{"something."},
	}
	const want = "blueprint 7 \"x\" (chain): 2 jobs, 1 profiled, needs a TEE\n  warning: something."
	if got := meta.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (*Metadata)(nil).String(); got != "no metadata" {
		t.Errorf("%q", got)
	}
}

func TestAProfilesFileThatBlocksIsNotOpened(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no named pipes in directories")
	}
	noContract(t)
	binary := filepath.Join(t.TempDir(), "release", "blueprint")
	if err := os.Symlink("/dev/zero", ProfilesPath(binary)); err != nil {
		t.Fatal(err)
	}
	meta, err := FetchMetadata(t.Context(), 1, WithMock(), WithBinary(binary))
	if err != nil || !strings.Contains(strings.Join(meta.Warnings, "\n"), "not a regular file") {
		t.Errorf("metadata %v, error %v", meta, err)
	}
}

// A program that passes nil instead of an option gets the default, for every kind of option.
func TestNilOptionsAreSkipped(t *testing.T) {
	noContract(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.json")
	if _, err := FetchMetadata(t.Context(), 1, nil, WithMock(), nil, WithHTTPClient(nil),
		WithLogger(nil)); err != nil {
		t.Error(err)
	}
	policy, err := LoadPolicy(nil, WithPolicyPath(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := policy.Save(nil, WithPolicyPath(path)); err != nil {
		t.Error(err)
	}
	if _, err := OpenService(t.Context(), "missing", nil, WithStateDir(dir), nil, WithLogger(nil), WithEvents(nil),
		WithOrchestrator(nil)); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
	if _, err := Recover(t.Context(), "missing", nil, WithStateDir(dir), nil); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
	_, err = NewPlan(t.Context(), ServiceSpec{}, nil, WithStateDir(dir), nil)
	if !errors.Is(err, faas.ErrInvalidArgument) {
		t.Error(err)
	}
}
