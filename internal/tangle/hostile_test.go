package tangle_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// words builds hostile data word by word.
type words []byte

func (w *words) put(values ...uint64) {
	for _, v := range values {
		*w = append(*w, make([]byte, 24)...)
		*w = binary.BigEndian.AppendUint64(*w, v)
	}
}

// overlapping returns a definition whose jobs all refer to the same place, with a large string
// that every job contains five times. A decoder that follows offsets without counting would
// allocate thousands of times the answer's size.
func overlapping(jobs int, text int) []byte {
	var w words
	w.put(32)                                     // the definition
	w.put(0x240, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // metadataUri, then the inline members
	w.put(0x240, 0x260+9*32+32)                   // metadata, jobs
	w.put(0x240, 0x240, 0x240, 0x240)             // the rest
	w.put(0)                                      // metadataUri and all other empty members
	for len(w) < 32+0x260 {                       // where metadata would begin
		w.put(0)
	}
	for range 9 {
		w.put(9 * 32)
	}
	w.put(0)
	w.put(uint64(jobs))
	for range jobs {
		w.put(uint64(jobs) * 32)
	}
	for range 5 {
		w.put(5 * 32)
	}
	w.put(uint64(text))
	return append(w, make([]byte, text)...)
}

func TestHostileAnswersCostNoMoreThanTheirSize(t *testing.T) {
	genuine := readRecorded(t, "gen-A")[0].Definition
	hostile := map[string][]byte{
		"jobs that overlap":        overlapping(256, 100<<10),
		"many jobs of nothing":     overlapping(256, 0),
		"a million zeros":          make([]byte, 1<<20),
		"a million ones":           []byte(strings.Repeat("\xff", 1<<20)),
		"offsets to the beginning": append(append(words(nil), genuine[:64]...), make([]byte, 1<<20)...),
	}
	// Replace every word of a genuine answer with values that break arithmetic.
	for at := 0; at+32 <= len(genuine); at += 32 {
		for i, value := range []uint64{1<<64 - 1, 1<<63 - 1, 1 << 31, 1 << 20, 256, 32} {
			data := append([]byte(nil), genuine...)
			binary.BigEndian.PutUint64(data[at+24:], value)
			if i == 0 {
				copy(data[at:], strings.Repeat("\xff", 24))
			}
			hostile[fmt.Sprintf("word %d is %d", at/32, value)] = data
		}
	}
	for name, data := range hostile {
		cost := alloctest.Bytes(func() {
			_, _ = tangle.DecodeDefinition(data)
			_, _ = tangle.DecodeSources(data)
			_, _ = tangle.DecodeRequirements(data)
			_, _ = tangle.DecodeStatus(data)
		})
		if limit := uint64(2*len(data)) + 16<<10; cost > limit { // four decoders
			t.Errorf("%s: %d bytes allocated for an answer of %d", name, cost, len(data))
		}
	}
}

func TestOverlapIsRefusedByName(t *testing.T) {
	_, err := tangle.DecodeDefinition(overlapping(256, 100<<10))
	var malformed *tangle.DecodeError
	if !errors.As(err, &malformed) || !strings.Contains(err.Error(), "more than once") ||
		!strings.HasPrefix(malformed.Field, "jobs[0].") {
		t.Errorf("%v", err)
	}
}

func TestTheNumberOfJobsIsBounded(t *testing.T) {
	def := worstCase()
	if decoded, err := tangle.DecodeDefinition(tangletest.EncodeDefinition(def)); err != nil ||
		len(decoded.Jobs) != tangle.MaxJobs {
		t.Errorf("256 jobs: %v", err)
	}
	def.Jobs = append(def.Jobs, tangle.Job{})
	_, err := tangle.DecodeDefinition(tangletest.EncodeDefinition(def))
	if err == nil || !strings.Contains(err.Error(), "jobs (byte") ||
		!strings.Contains(err.Error(), "257 elements, more than the limit of 256") {
		t.Errorf("257 jobs: %v", err)
	}
}

// worstCase returns a definition with the maximum number of callable jobs.
func worstCase() *tangle.Definition {
	def := &tangle.Definition{
		Layout: tangle.LayoutB, MetadataURI: "ipfs://worst", Manager: manager, HasConfig: true,
		Metadata: tangle.Texts{Name: "worst case", Description: strings.Repeat("d", 500),
			ProfilingData: strings.Repeat("p", 40<<10)},
	}
	for i := range tangle.MaxJobs {
		def.Jobs = append(def.Jobs, tangle.Job{
			Name: fmt.Sprintf("job-%d", i), Description: strings.Repeat("x", 100), MetadataURI: "ipfs://job",
			ParamsSchema: []byte(strings.Repeat("\x01", 64)), ResultSchema: []byte(strings.Repeat("\x02", 64)),
		})
	}
	for i := range 10 {
		source := tangle.Source{Kind: tangle.SourceNative,
			Native: tangle.Native{ArtifactURI: "https://example.com/artifact", Entrypoint: "run"}}
		for arch := range 6 {
			source.Binaries = append(source.Binaries, tangle.Binary{
				Arch: tangle.Arch(arch), OS: 1, Name: "runner", SHA256: tangle.Word{byte(i + 1)}})
		}
		def.Sources = append(def.Sources, source)
	}
	return def
}

func TestEncodedDefinitionsDecodeToThemselves(t *testing.T) {
	def := worstCase()
	def.Jobs, def.Sources = def.Jobs[:3], def.Sources[:2] // comparing more would take seconds
	for _, layout := range []tangle.Layout{tangle.LayoutA, tangle.LayoutB} {
		def.Layout = layout
		got, err := tangle.DecodeDefinition(tangletest.EncodeDefinition(def))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(def, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
	sources, err := tangle.DecodeSources(tangletest.EncodeSources(def.Sources))
	if diff := cmp.Diff(def.Sources, sources); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// A response of many small answers would cost a decoder that builds values many times its size.
func TestHostileResponsesCostNoMoreThanTheirSize(t *testing.T) {
	const size = 1 << 20
	for name, body := range map[string]string{
		"many answers":      "[" + strings.Repeat("0,", size/2) + "0]",
		"many empty ones":   "[" + strings.Repeat("{},", size/3) + "{}]",
		"deep nesting":      strings.Repeat("[", size),
		"a long error":      `{"id":null,"error":{"code":-32600,"message":"` + strings.Repeat("m", size) + `"}}`,
		"a long error data": `[{"id":1,"error":{"code":3,"message":"m","data":"0x` + strings.Repeat("00", size/2) + `"}}]`,
		"a long number":     `[{"id":1,"result":` + strings.Repeat("9", size) + `}]`,
		"a long id":         `[{"id":` + strings.Repeat("9", size) + `,"result":"0x1"}]`,
		"many members":      `[{` + strings.Repeat(`"a":1,`, size/6) + `"id":1,"result":"0x1"}]`,
	} {
		server := httptest.NewServer(answering(200, body))
		cfg := tangle.Config{URLs: []string{server.URL}, Contract: &contract}
		cost := alloctest.Bytes(func() {
			if _, err := tangle.Read(context.Background(), cfg, 0); err == nil || len(err.Error()) > 1000 {
				t.Errorf("%s: %v", name, err)
			}
		})
		server.Close()
		// The cost includes the server's side, and a refused batch is repeated call by call.
		if cost > 20*size {
			t.Errorf("%s: %d bytes allocated for a response of %d", name, cost, len(body))
		}
	}
}

func FuzzDecodeDefinition(f *testing.F) {
	for _, generation := range []string{"gen-A", "gen-D"} {
		for _, b := range readRecorded(f, generation) {
			f.Add(b.Definition)
			if b.Encoded != nil {
				f.Add(b.Encoded)
			}
		}
	}
	f.Add(overlapping(3, 32))
	f.Fuzz(func(t *testing.T, data []byte) {
		def, err := tangle.DecodeDefinition(data)
		_, _ = tangle.DecodeSources(data)
		_, _ = tangle.DecodeRequirements(data)
		_, _ = tangle.DecodeStatus(data)
		if err != nil {
			return
		}
		// The decoded definition is no larger than the data, and does not change when it is encoded and
		// decoded again.
		again := tangletest.EncodeDefinition(def)
		second, err := tangle.DecodeDefinition(again)
		if err != nil {
			t.Fatalf("%v: %s", err, hex.EncodeToString(again))
		}
		if !bytes.Equal(again, tangletest.EncodeDefinition(second)) {
			t.Errorf("%x is not the same when it is decoded and encoded again", again)
		}
		size := 0
		for _, job := range def.Jobs {
			size += len(job.Name) + len(job.Description) + len(job.MetadataURI) + len(job.ParamsSchema) + len(job.ResultSchema)
		}
		if size > len(data) || len(def.Jobs) > tangle.MaxJobs {
			t.Errorf("%d bytes in %d jobs from an answer of %d", size, len(def.Jobs), len(data))
		}
	})
}

func BenchmarkDecodeWorstCase(b *testing.B) {
	data := tangletest.EncodeDefinition(worstCase())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tangle.DecodeDefinition(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	cfg := serve(b, newNode(b))
	cfg.LogQueries = 0
	b.ReportAllocs()
	for b.Loop() {
		read(b, cfg, 0)
	}
}
