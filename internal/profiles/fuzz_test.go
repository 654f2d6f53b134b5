package profiles

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

func seeds(f *testing.F, pattern string) {
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), 3)
	}
}

func checkSet(t *testing.T, set Set, warnings []string, jobCount int) {
	if len(warnings) > maxNotes+1 {
		t.Errorf("%d warnings", len(warnings))
	}
	for id := range set.Jobs {
		if int64(id) >= int64(jobCount) || id >= MaxJobs {
			t.Errorf("job %d of %d", id, jobCount)
		}
	}
}

// checkCost verifies that a decoder allocates at most a small multiple of its input or of the
// longest JSON that it unpacks.
func checkCost(t *testing.T, text string, decode func()) {
	if cost := alloctest.Roughly(decode); cost > 16*uint64(len(text))+4*MaxJSON+alloctest.Slack {
		t.Errorf("%d bytes were allocated for %d", cost, len(text))
	}
}

func FuzzDecodeFile(f *testing.F) {
	seeds(f, "profiles.json")
	f.Add(`{"jobs":{"0":{"avg_duration_ms":1,"p95_duration_ms":2,"peak_memory_mb":3,`+
		`"stateful":false,"persistent_connections":true}}}`, 256)
	f.Fuzz(func(t *testing.T, text string, jobCount int) {
		var set Set
		var warnings []string
		var err error
		checkCost(t, text, func() { set, warnings, err = DecodeFile([]byte(text), jobCount) })
		checkSet(t, set, warnings, jobCount)
		if err != nil {
			return
		}
		// A decoded set can be encoded, and decodes to the same set.
		file, err := EncodeFile(set)
		if err != nil {
			return // only where JSON escapes make it longer than the limit
		}
		again, _, err := DecodeFile(file, jobCount)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(set, again); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeProfilingData(f *testing.F) {
	seeds(f, "*.profilingData")
	f.Fuzz(func(t *testing.T, text string, jobCount int) {
		var set Set
		var warnings []string
		var err error
		checkCost(t, text, func() { set, _, warnings, err = DecodeProfilingData(text, jobCount) })
		checkSet(t, set, warnings, jobCount)
		if err != nil && set.Jobs != nil {
			t.Error("profiles beside an error")
		}
	})
}

func FuzzDecodeDescription(f *testing.F) {
	seeds(f, "*.description")
	f.Fuzz(func(t *testing.T, text string, jobCount int) {
		var set Set
		var found bool
		var warnings []string
		var err error
		checkCost(t, text, func() { set, found, warnings, err = DecodeDescription(text, jobCount) })
		checkSet(t, set, warnings, jobCount)
		if !found && (err != nil || set.Jobs != nil) {
			t.Error("something without a marker")
		}
	})
}
