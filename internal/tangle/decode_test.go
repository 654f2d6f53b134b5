package tangle_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// readRecorded reads all blueprints of a generation.
func readRecorded(t testing.TB, generation string) []tangletest.Recorded {
	t.Helper()
	recorded, err := tangletest.Read(generation)
	if err != nil {
		t.Fatal(err)
	}
	return recorded
}

func TestRecordedAnswersDecodeToWhatWentIn(t *testing.T) {
	for generation, layout := range map[string]tangle.Layout{"gen-A": tangle.LayoutA, "gen-D": tangle.LayoutB} {
		for _, b := range readRecorded(t, generation) {
			t.Run(generation+"/"+b.Name, func(t *testing.T) {
				def, err := tangle.DecodeDefinition(b.Definition)
				if err != nil {
					t.Fatal(err)
				}
				got := b.Got
				got.Name, got.Description, got.Author = def.Metadata.Name, clipLike(def.Metadata.Description, b.Got.Description),
					def.Metadata.Author
				got.Job0, got.Jobs, got.Sources = def.Jobs[0].Name, len(def.Jobs), len(def.Sources)
				got.ProfilingBytes, got.HasConfig = len(def.Metadata.ProfilingData), def.HasConfig
				got.Pricing, got.EventRate = def.Config.Pricing, def.Config.EventRate.Big().String()
				if def.Layout != layout {
					t.Errorf("layout %s, want %s", def.Layout, layout)
				}
				if diff := cmp.Diff(b.Got, got); diff != "" {
					t.Error(diff)
				}
				if len(b.Definition) != b.EthCallBytes {
					t.Errorf("%d bytes, and the index says %d", len(b.Definition), b.EthCallBytes)
				}
			})
		}
	}
}

// clipLike cuts text where the index is cut.
func clipLike(text, cut string) string {
	if strings.HasPrefix(text, cut) && strings.HasPrefix(cut, "[PROFILING_DATA_V1]") {
		return cut
	}
	return text
}

func TestRecordedEventsDecodeToWhatWentIn(t *testing.T) {
	events := 0
	for _, b := range readRecorded(t, "gen-D") {
		if b.Encoded == nil {
			continue // only some were recorded
		}
		events++
		t.Run(b.Name, func(t *testing.T) {
			def, err := tangle.DecodeDefinition(b.Encoded)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, job := range def.Jobs {
				names = append(names, job.Name)
			}
			if diff := cmp.Diff(b.Event.JobNames, names); diff != "" {
				t.Error(diff)
			}
			if got := clipLike(def.Metadata.Description, b.Event.Desc); got != b.Event.Desc ||
				len(def.Sources) != b.Event.Sources || len(b.Encoded) != b.Event.EncBytes {
				t.Errorf("description %q, %d sources, %d bytes; the index says %+v", got, len(def.Sources), len(b.Encoded), b.Event)
			}
			published := 0
			for _, source := range def.Sources {
				for _, binary := range source.Binaries {
					if binary.SHA256.IsZero() {
						t.Errorf("no hash for %+v", binary)
					}
					published++
				}
			}
			if published == 0 {
				t.Error("no binary is published")
			}
		})
	}
	if events != 3 {
		t.Errorf("%d events, want 3", events)
	}
}

// Encoding the decoded definition returns the answer of the genuine contract, byte for byte:
// nothing is lost, moved or invented.
func TestDecodingLosesNothing(t *testing.T) {
	for _, generation := range []string{"gen-A", "gen-D"} {
		for _, b := range readRecorded(t, generation) {
			for _, data := range [][]byte{b.Definition, b.Encoded} {
				if data == nil {
					continue
				}
				def, err := tangle.DecodeDefinition(data)
				if err != nil {
					t.Fatal(err)
				}
				if again := tangletest.EncodeDefinition(def); hex.EncodeToString(again) != hex.EncodeToString(data) {
					t.Errorf("%s/%s is not the same when encoded again", generation, b.Name)
				}
			}
		}
	}
}
