package profiles

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

func sample(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// validSet returns the set that most samples hold.
func validSet() Set {
	return Set{BlueprintName: "chain-sample", ProfiledAt: "2026-08-20T10:00:00.123456789+00:00", Jobs: map[uint32]Job{
		0: {AvgDurationMS: 5, P95DurationMS: 8, P99DurationMS: 10, PeakMemoryMB: 256, SampleSize: 10},
		1: {AvgDurationMS: 1450, P95DurationMS: 2100, P99DurationMS: 2600, PeakMemoryMB: 1024, Stateful: true,
			SampleSize: 20},
		2: {AvgDurationMS: 420000, P95DurationMS: 910000, P99DurationMS: 930000, PeakMemoryMB: 12288,
			PersistentConnections: true, SampleSize: 3},
	}}
}

func TestProfilingDataSamples(t *testing.T) {
	withoutOptional := validSet()
	for id, job := range withoutOptional.Jobs {
		job.P99DurationMS, job.SampleSize = 0, 0
		withoutOptional.Jobs[id] = job
	}
	partial := validSet()
	delete(partial.Jobs, 1)
	empty := validSet()
	empty.Jobs = map[uint32]Job{}
	for _, tc := range []struct {
		name     string
		set      Set
		exec     Execution
		warnings []string
		err      string
	}{
		{name: "valid", set: validSet(), exec: Execution{Confidentiality: ConfidentialityAny}},
		{name: "valid-gpu-tee", set: validSet(), exec: Execution{ConfidentialityTEE, GPU{GPURequired, 2, 40}}},
		{name: "no-p99-no-samples", set: withoutOptional},
		{name: "multistream", set: validSet(), warnings: []string{"28 bytes behind the compressed profiles were ignored"}},
		{name: "partial-badjob", set: partial, warnings: []string{
			"job 1 counts as unprofiled: stateful is missing",
			`the profile of job "abc" was ignored: its id is not a decimal number of 32 bits`,
		}},
		{name: "hostile-jobid-4e9", set: empty, warnings: []string{
			"the profile of job 4000000000 was dropped, because the blueprint has 3 jobs"}},
		{name: "hostile-jobid-u32max", set: empty, warnings: []string{
			"the profile of job 4294967295 was dropped, because the blueprint has 3 jobs"}},
		{name: "bomb-64MiB", err: "profilingData: job_profiles_b64_gzip: the profiles unpack to more than 1048576 bytes"},
		{name: "corrupt-base64", err: "profilingData: job_profiles_b64_gzip: not standard base64 with padding: illegal " +
			"base64 data at input byte 40"},
		{name: "url-safe-nopad", err: "profilingData: job_profiles_b64_gzip: not standard base64 with padding: illegal " +
			"base64 data at input byte 32"},
		{name: "corrupt-crc", err: "profilingData: job_profiles_b64_gzip: broken gzip: gzip: invalid checksum"},
		{name: "corrupt-truncated", err: "profilingData: job_profiles_b64_gzip: broken gzip: unexpected EOF"},
		{name: "corrupt-json", err: "profilingData: job_profiles_b64_gzip: not JSON: unexpected end of JSON input (at " +
			"byte 570 of 570)"},
		{name: "corrupt-nojobs", err: `profilingData: job_profiles_b64_gzip: the member "jobs" is missing`},
		{name: "raw-base64-not-accepted", err: `profilingData is not a JSON object but begins with "H4sIAAAAAAACA5WQ"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, exec, warnings, err := DecodeProfilingData("  \n"+sample(t, tc.name+".profilingData")+"\n", 3)
			if got := errorText(err); got != tc.err {
				t.Errorf("error = %q, want %q", got, tc.err)
			}
			if diff := cmp.Diff(tc.set, set); diff != "" {
				t.Error("profiles (-want +got):\n" + diff)
			}
			if diff := cmp.Diff(tc.exec, exec); diff != "" {
				t.Error("execution profile (-want +got):\n" + diff)
			}
			if diff := cmp.Diff(tc.warnings, warnings); diff != "" {
				t.Error("warnings (-want +got):\n" + diff)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestProfilesBeyondTheJobCountAreDropped(t *testing.T) {
	set, _, warnings, err := DecodeProfilingData(sample(t, "valid.profilingData"), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := validSet()
	delete(want.Jobs, 1)
	delete(want.Jobs, 2)
	if diff := cmp.Diff(want, set); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"the profiles of jobs 1, 2 were dropped, because the blueprint has 1 jobs"},
		warnings); diff != "" {
		t.Error(diff)
	}
}

func TestStrictJSON(t *testing.T) {
	const good = `{"avg_duration_ms":1,"p95_duration_ms":2,"peak_memory_mb":3,` +
		`"stateful":false,"persistent_connections":true}`
	job := Job{AvgDurationMS: 1, P95DurationMS: 2, PeakMemoryMB: 3, PersistentConnections: true}
	edit := func(old, new string) string { return `{"jobs":{"0":` + strings.Replace(good, old, new, 1) + `}}` }
	for _, tc := range []struct {
		name, text string
		jobs       map[uint32]Job // nil: an error
		message    string         // in the error, or else in the first warning
	}{
		{"accepted", edit("", ""), map[uint32]Job{0: job}, ""},
		{"unknown members are skipped", edit("{", `{"new":[{"a":"]}"}],`), map[uint32]Job{0: job}, ""},
		{"escaped names are the same names", edit("stateful", `\u0073tateful`), map[uint32]Job{0: job}, ""},
		{"null stands for an absent optional", edit("{", `{"sample_size":null,`), map[uint32]Job{0: job}, ""},
		{"upper case is another name", edit("stateful", "Stateful"), map[uint32]Job{}, "stateful is missing"},
		{"upper case beside the name changes nothing", edit("{", `{"STATEFUL":true,`), map[uint32]Job{0: job}, ""},
		{"a member twice", edit("{", `{"peak_memory_mb":1,`), map[uint32]Job{}, "peak_memory_mb is there twice"},
		{"a member twice, once escaped", edit("{", `{"peak_memory\u005fmb":1,`), map[uint32]Job{},
			"peak_memory_mb is there twice"},
		{"null for a required member", edit(`"peak_memory_mb":3`, `"peak_memory_mb":null`), map[uint32]Job{},
			"peak_memory_mb is null, not a number"},
		{"fraction", edit(`"peak_memory_mb":3`, `"peak_memory_mb":3.5`), map[uint32]Job{},
			"peak_memory_mb is 3.5, not an integer between 0 and 4294967295"},
		{"exponent", edit(`"peak_memory_mb":3`, `"peak_memory_mb":3e2`), map[uint32]Job{}, "peak_memory_mb is 3e2, not"},
		{"negative", edit(`"avg_duration_ms":1`, `"avg_duration_ms":-1`), map[uint32]Job{},
			"avg_duration_ms is -1, not an integer between 0 and 18446744073709551615"},
		{"32 bits exceeded", edit(`"peak_memory_mb":3`, `"peak_memory_mb":4294967296`), map[uint32]Job{},
			"peak_memory_mb is 4294967296, not"},
		{"number as string", edit(`"avg_duration_ms":1`, `"avg_duration_ms":"1"`), map[uint32]Job{},
			"avg_duration_ms is a string, not a number"},
		{"number as boolean", edit(`"stateful":false`, `"stateful":0`), map[uint32]Job{},
			"stateful is a number, not a boolean"},
		{"profile of the wrong kind", `{"jobs":{"0":[]}}`, map[uint32]Job{}, "its profile is an array, not an object"},
		{"a job twice", `{"jobs":{"0":` + good + `,"0":` + good + `}}`, map[uint32]Job{},
			"job 0 counts as unprofiled: it is there twice"},
		{"a job thrice", `{"jobs":{"0":` + good + `,"0":` + good + `,"0":` + good + `}}`, map[uint32]Job{},
			"job 0 counts as unprofiled: it is there twice"},
		{"id with a zero before", `{"jobs":{"00":` + good + `}}`, map[uint32]Job{}, `job "00" was ignored`},
		{"id with a sign", `{"jobs":{"+0":` + good + `}}`, map[uint32]Job{}, `job "+0" was ignored`},
		{"id beyond 32 bits", `{"jobs":{"4294967296":` + good + `}}`, map[uint32]Job{}, `job "4294967296" was ignored`},
		{"white space", " {\n \"jobs\" : { \"0\" :\t" + good + " } } ", map[uint32]Job{0: job}, ""},
		{"no job", `{"jobs":{}}`, map[uint32]Job{}, ""},
		{"jobs twice", `{"jobs":{},"jobs":{}}`, nil, `the member "jobs" is there twice`},
		{"JOBS", `{"JOBS":{}}`, nil, `the member "jobs" is missing`},
		{"jobs of the wrong kind", `{"jobs":[]}`, nil, `the member "jobs" is an array, not an object`},
		{"jobs null", `{"jobs":null}`, nil, `the member "jobs" is null, not an object`},
		{"empty", "", nil, "not JSON: unexpected end of JSON input"},
		{"array", "[]", nil, "the JSON is an array, not an object"},
		{"trailing text", `{"jobs":{}} x`, nil, "not JSON: invalid character 'x' after top-level value (at byte 13 of 13)"},
		{"byte order mark", "\ufeff{}", nil, "byte order mark"},
		{"invalid UTF-8", "{\"jobs\":{},\"a\":\"\xff\"}", nil, "not valid UTF-8"},
		{"deep nesting", `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, nil, "exceeded max depth"},
		{"too long", `{"jobs":{},"a":"` + strings.Repeat("a", MaxJSON) + `"}`, nil, "more than the limit of 1048576"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, warnings, err := DecodeFile([]byte(tc.text), 2)
			if tc.jobs == nil {
				if err == nil || !strings.Contains(err.Error(), tc.message) {
					t.Fatalf("error = %v, want one with %q", err, tc.message)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.jobs, set.Jobs); diff != "" {
				t.Error(diff)
			}
			if tc.message == "" {
				if warnings != nil {
					t.Errorf("warnings = %q, want none", warnings)
				}
			} else if len(warnings) == 0 || !strings.Contains(warnings[0], tc.message) {
				t.Errorf("warnings = %q, want one with %q", warnings, tc.message)
			}
		})
	}
}

func TestDescription(t *testing.T) {
	valid := sample(t, "valid.description")
	t.Run("the marker with profiles", func(t *testing.T) {
		set, found, warnings, err := DecodeDescription(valid, 3)
		if err != nil || !found || warnings != nil {
			t.Fatalf("found %v, warnings %q, error %v", found, warnings, err)
		}
		if diff := cmp.Diff(validSet(), set); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("out of range is dropped, not fatal", func(t *testing.T) {
		set, _, warnings, err := DecodeDescription(valid, 2)
		if err != nil || len(set.Jobs) != 2 || len(warnings) != 1 {
			t.Errorf("set %v, warnings %q, error %v", set, warnings, err)
		}
	})
	for _, text := range []string{"", "A blueprint.", " " + valid, "[PROFILING_DATA_V2]", strings.ToLower(Marker)} {
		if _, found, warnings, err := DecodeDescription(text, 3); found || warnings != nil || err != nil {
			t.Errorf("%q: found %v, warnings %q, error %v, want nothing", text, found, warnings, err)
		}
	}
	blob := func(sampleName string) string {
		_, rest, _ := strings.Cut(sample(t, sampleName), `"job_profiles_b64_gzip": "`)
		text, _, _ := strings.Cut(rest, `"`)
		return text
	}
	for name, tc := range map[string]struct{ text, message string }{
		"one job lacks a member": {Marker + blob("partial-badjob.profilingData"),
			"description: job 1: stateful is missing"},
		"an optional member is not": {Marker + blob("no-p99-no-samples.profilingData"),
			"description: job 0: p99_duration_ms is missing"},
		"a space behind the marker":   {strings.Replace(valid, "]", "] ", 1), "not standard base64"},
		"a line break at the end":     {valid + "\n", "line break at byte"},
		"the marker alone":            {Marker, "not gzip: unexpected EOF"},
		"the object of profilingData": {Marker + sample(t, "valid.profilingData"), "not standard base64"},
	} {
		set, found, _, err := DecodeDescription(tc.text, 3)
		if err == nil || !found || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: found %v, error %v, want one with %q", name, found, err, tc.message)
		}
		if set.Jobs != nil {
			t.Errorf("%s: profiles beside the error: %v", name, set)
		}
	}
}

func TestWhatCannotBeReadOfAnExecutionProfileIsARequirement(t *testing.T) {
	all := Execution{Unreadable, GPU{Policy: Unreadable, MinCount: 1}}
	for _, tc := range []struct {
		text     string
		want     Execution
		warnings int
	}{
		{`{}`, Execution{}, 0},
		{`{"confidentiality":null,"gpu":null}`, Execution{}, 0},
		{`{"confidentiality":"standard_required"}`, Execution{Confidentiality: ConfidentialityStandard}, 0},
		{`{"confidentiality":"tee_preferred","gpu":{"policy":"preferred"}}`,
			Execution{ConfidentialityTEEFirst, GPU{Policy: GPUPreferred, MinCount: 1}}, 0},
		{`{"gpu":{"policy":"required","min_count":0,"min_vram_gb":24}}`, Execution{GPU: GPU{GPURequired, 1, 24}}, 0},
		{`{"gpu":{"policy":"none","min_count":0}}`, Execution{GPU: GPU{Policy: GPUNone}}, 0},
		{`{"gpu":{}}`, Execution{}, 0},
		{`{"Confidentiality":"tee_required"}`, Execution{}, 1},
		{`{"confidentiality":"tee_mandatory"}`, Execution{Confidentiality: "tee_mandatory"}, 1},
		{`{"confidentiality":true}`, Execution{Confidentiality: Unreadable}, 1},
		{`{"confidentiality":"any","confidentiality":"tee_required"}`, all, 1},
		{`{"gpu":true}`, Execution{GPU: GPU{Policy: Unreadable, MinCount: 1}}, 1},
		{`{"gpu":{"policy":"many"}}`, Execution{GPU: GPU{Policy: "many", MinCount: 1}}, 1},
		{`{"gpu":{"policy":"required","min_count":-1}}`, Execution{GPU: GPU{Policy: Unreadable, MinCount: 1}}, 1},
		{`"tee_required"`, all, 1},
		{`null`, all, 1},
	} {
		set, exec, warnings, err := DecodeProfilingData(`{"execution_profile":`+tc.text+`}`, 1)
		if err != nil || set.Jobs != nil {
			t.Errorf("%s: set %v, error %v", tc.text, set, err)
		}
		if diff := cmp.Diff(tc.want, exec); diff != "" {
			t.Errorf("%s:\n%s", tc.text, diff)
		}
		if len(warnings) != tc.warnings {
			t.Errorf("%s: warnings %q, want %d", tc.text, warnings, tc.warnings)
		}
	}
	const broken = `{"execution_profile":{"confidentiality":"tee_required"},"job_profiles_b64_gzip":"?"}`
	_, exec, _, err := DecodeProfilingData(broken, 1)
	if err == nil || exec.Confidentiality != ConfidentialityTEE {
		t.Errorf("broken profiles hide the demand for a TEE: %v, %v", exec, err)
	}
	_, exec, _, _ = DecodeProfilingData(`{"execution_profile":{},"execution_profile":{}}`, 1)
	if exec != all {
		t.Errorf("two execution profiles: %v, want the strictest", exec)
	}
}

func TestProfilingDataWithoutProfiles(t *testing.T) {
	for _, text := range []string{"", " \n", "{}", `{"schema":"x"}`} {
		set, exec, warnings, err := DecodeProfilingData(text, 3)
		if err != nil || set.Jobs != nil || exec != (Execution{}) || warnings != nil {
			t.Errorf("%q: %v, %v, %q, %v", text, set, exec, warnings, err)
		}
	}
	for text, message := range map[string]string{
		`{"job_profiles_b64_gzip":1}`:                             "is a number, not a string",
		`{"job_profiles_b64_gzip":""}`:                            "not gzip",
		`{"job_profiles_b64_gzip":"","job_profiles_b64_gzip":""}`: "twice",
		`{"job_profiles_b64_gzip":"\n"}`:                          "line break",
		`[]`:                                                      "not a JSON object",
		`{`:                                                       "not JSON",
	} {
		if _, _, _, err := DecodeProfilingData(text, 3); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: error %v, want one with %q", text, err, message)
		}
	}
}

// TestMemoryIsBounded measures all allocations, garbage included. The peak can only be lower.
func TestMemoryIsBounded(t *testing.T) {
	fill := func(member string) string {
		return `{"jobs":{` + strings.TrimSuffix(strings.Repeat(member+",", (MaxJSON-16)/(len(member)+1)), ",") + `}}`
	}
	bomb, id4e9, idMax := sample(t, "bomb-64MiB.profilingData"), sample(t, "hostile-jobid-4e9.profilingData"),
		sample(t, "hostile-jobid-u32max.profilingData")
	for name, tc := range map[string]struct {
		limit uint64
		run   func()
	}{
		"64 MiB bomb": {4 << 20, func() { DecodeProfilingData(bomb, 256) }},
		"4e9":         {1 << 20, func() { DecodeProfilingData(id4e9, 256) }},
		"u32max":      {1 << 20, func() { DecodeProfilingData(idMax, 256) }},
	} {
		got := alloctest.Bytes(tc.run)
		t.Logf("%s: %d bytes", name, got)
		if got > tc.limit {
			t.Errorf("%s: %d bytes allocated, more than %d", name, got, tc.limit)
		}
	}
	for name, text := range map[string]string{
		"many ids out of range": fill(`"9999":{}`),
		"one id again":          fill(`"0":{}`),
		"bad ids":               fill(`"x":{}`),
		"escaped names":         fill(`"\u0030":{}`),
		"backslashes":           `{"jobs":{},"a":"` + strings.Repeat(`\\`, MaxJSON/2-10) + `"}`,
		"backslashes in a name": `{"jobs":{"` + strings.Repeat(`\\`, MaxJSON/2-20) + `":{}}}`,
		"one long string":       `{"jobs":{},"a":"` + strings.Repeat("a", MaxJSON-20) + `"}`,
	} {
		data := []byte(text)
		got := alloctest.Bytes(func() { DecodeFile(data, 256) })
		t.Logf("%s: %d bytes for %d", name, got, len(data))
		if got > 16*uint64(len(data)) {
			t.Errorf("%s: %d bytes allocated for %d", name, got, len(data))
		}
	}
}

func TestRoundTripThroughEveryFormat(t *testing.T) {
	for name, set := range map[string]Set{
		"the sample": validSet(),
		"extremes": {BlueprintName: "naïve <✓> \"quoted\"", ProfiledAt: "x", Jobs: map[uint32]Job{
			10:  {},
			2:   {^uint64(0), ^uint64(0), ^uint64(0), ^uint32(0), true, true, ^uint32(0)},
			255: {AvgDurationMS: 1},
		}},
		"empty": {Jobs: map[uint32]Job{}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := EncodeFile(set)
			if err != nil {
				t.Fatal(err)
			}
			got, warnings, err := DecodeFile(file, MaxJobs)
			check(t, set, got, warnings, err)
			for range 3 {
				if again, _ := EncodeFile(set); !bytes.Equal(file, again) {
					t.Error("the bytes differ from one encoding to the next")
				}
			}
			for _, exec := range []*Execution{nil, {}, {ConfidentialityTEE, GPU{GPURequired, 2, 40}}} {
				text, err := EncodeProfilingData(set, exec)
				if err != nil {
					t.Fatal(err)
				}
				got, gotExec, warnings, err := DecodeProfilingData(text, MaxJobs)
				check(t, set, got, warnings, err)
				want := Execution{}
				if exec != nil {
					want = *exec
					if want.Confidentiality == "" {
						want.Confidentiality = ConfidentialityAny
					}
				}
				if gotExec != want {
					t.Errorf("execution profile = %v, want %v", gotExec, want)
				}
			}
			text, err := EncodeDescription(set)
			if err != nil {
				t.Fatal(err)
			}
			got, found, warnings, err := DecodeDescription(text, MaxJobs)
			if !found {
				t.Error("the marker was not found")
			}
			check(t, set, got, warnings, err)
		})
	}
}

func check(t *testing.T, want, got Set, warnings []string, err error) {
	t.Helper()
	if err != nil || warnings != nil {
		t.Errorf("warnings %q, error %v", warnings, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEncodersWriteNothingThatReadersRefuse(t *testing.T) {
	for name, set := range map[string]Set{
		"id too high":   {Jobs: map[uint32]Job{256: {}}},
		"name too long": {BlueprintName: strings.Repeat("a", MaxJSON)},
	} {
		if _, err := EncodeFile(set); err == nil {
			t.Errorf("%s: no error from EncodeFile", name)
		}
		if _, err := EncodeProfilingData(set, nil); err == nil {
			t.Errorf("%s: no error from EncodeProfilingData", name)
		}
		if _, err := EncodeDescription(set); err == nil {
			t.Errorf("%s: no error from EncodeDescription", name)
		}
	}
}

func TestTheFileLooksAsExistingToolsWriteIt(t *testing.T) {
	file, err := EncodeFile(validSet())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(sample(t, "profiles.json")), strings.TrimSpace(string(file))); diff != "" {
		t.Error(diff)
	}
}
