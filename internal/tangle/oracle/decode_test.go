package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// definition is the type into which go-ethereum decodes getBlueprintDefinition. MetadataHash stays
// zero in layout A.
type definition struct {
	MetadataUri           string
	MetadataHash          [32]byte
	Manager               common.Address
	MasterManagerRevision uint32
	HasConfig             bool
	Config                struct {
		Membership, Pricing        uint8
		MinOperators, MaxOperators uint32
		SubscriptionRate           *big.Int
		SubscriptionInterval       uint64
		EventRate                  *big.Int
	}
	Metadata struct {
		Name, Description, Author, Category, CodeRepository, Logo, Website, License, ProfilingData string
	}
	Jobs []struct {
		Name, Description, MetadataUri string
		ParamsSchema, ResultSchema     []byte
	}
	RegistrationSchema, RequestSchema []byte
	Sources                           []source
	SupportedMemberships              []uint8
}

type source struct {
	Kind      uint8
	Container struct{ Registry, Image, Tag string }
	Wasm      struct {
		Runtime, Fetcher        uint8
		ArtifactUri, Entrypoint string
	}
	Native struct {
		Fetcher                 uint8
		ArtifactUri, Entrypoint string
	}
	Testing  struct{ CargoPackage, CargoBin, BasePath string }
	Binaries []struct {
		Arch, Os uint8
		Name     string
		Sha256   [32]byte
	}
}

// outputs returns the outputs of getBlueprintDefinition in a layout, as go-ethereum takes them.
func outputs(t testing.TB, layout tangle.Layout) abi.Arguments {
	t.Helper()
	raw, err := tangletest.ABI()
	if err != nil {
		t.Fatal(err)
	}
	if layout == tangle.LayoutA {
		var methods []map[string]any
		if err := json.Unmarshal(raw, &methods); err != nil {
			t.Fatal(err)
		}
		tuple := methods[0]["outputs"].([]any)[0].(map[string]any)
		components := tuple["components"].([]any)
		if name := components[1].(map[string]any)["name"]; name != "metadataHash" {
			t.Fatalf("the second member is %v", name)
		}
		tuple["components"] = append(components[:1:1], components[2:]...)
		if raw, err = json.Marshal(methods); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := abi.JSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Methods["getBlueprintDefinition"].Outputs
}

// unpack decodes with go-ethereum into the type of this library.
func unpack(arguments abi.Arguments, layout tangle.Layout, data []byte) (def *tangle.Definition, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("go-ethereum panicked: %v", r)
		}
	}()
	values, err := arguments.Unpack(data)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(values[0]) // its struct is anonymous and lacks metadataHash in layout A
	if err != nil {
		return nil, err
	}
	var d definition
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	def = &tangle.Definition{
		Layout: layout, MetadataURI: d.MetadataUri, MetadataHash: d.MetadataHash, Manager: tangle.Address(d.Manager),
		MasterManagerRevision: d.MasterManagerRevision,
		HasConfig:             d.HasConfig, RegistrationSchema: d.RegistrationSchema, RequestSchema: d.RequestSchema,
		SupportedMemberships: d.SupportedMemberships,
		Config: tangle.ServiceConfig{
			Membership: d.Config.Membership, Pricing: d.Config.Pricing, MinOperators: d.Config.MinOperators,
			MaxOperators:         d.Config.MaxOperators,
			SubscriptionInterval: d.Config.SubscriptionInterval,
		},
		Metadata: tangle.Texts(d.Metadata),
	}
	d.Config.SubscriptionRate.FillBytes(def.Config.SubscriptionRate[:])
	d.Config.EventRate.FillBytes(def.Config.EventRate[:])
	for _, j := range d.Jobs {
		def.Jobs = append(def.Jobs, tangle.Job{Name: j.Name, Description: j.Description, MetadataURI: j.MetadataUri,
			ParamsSchema: j.ParamsSchema, ResultSchema: j.ResultSchema})
	}
	for _, s := range d.Sources {
		converted := tangle.Source{
			Kind: tangle.SourceKind(s.Kind), Container: tangle.Container(s.Container), Testing: tangle.Testing(s.Testing),
			Wasm: tangle.Wasm{Runtime: s.Wasm.Runtime, Fetcher: s.Wasm.Fetcher, ArtifactURI: s.Wasm.ArtifactUri,
				Entrypoint: s.Wasm.Entrypoint},
			Native: tangle.Native{Fetcher: s.Native.Fetcher, ArtifactURI: s.Native.ArtifactUri, Entrypoint: s.Native.Entrypoint},
		}
		for _, b := range s.Binaries {
			converted.Binaries = append(converted.Binaries,
				tangle.Binary{Arch: tangle.Arch(b.Arch), OS: tangle.OS(b.Os), Name: b.Name, SHA256: b.Sha256})
		}
		def.Sources = append(def.Sources, converted)
	}
	return def, nil
}

func TestRecordedAnswersDecodeAlike(t *testing.T) {
	for _, generation := range tangletest.Generations() {
		recorded, err := tangletest.Read(generation)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recorded {
			for _, data := range [][]byte{r.Definition, r.Encoded} {
				if data == nil {
					continue
				}
				ours, err := tangle.DecodeDefinition(data)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := unpack(outputs(t, ours.Layout), ours.Layout, data)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s/%s: %s", generation, r.Name, diff)
				}
			}
		}
	}
}

// random returns definitions of every shape, from empty to larger than any real one.
func random(r *rand.Rand) *tangle.Definition {
	text := func(most int) string {
		const letters = "abcdefghij KLMNOP_-./:0123456789 äöü✓名前\"\\<>&"
		runes := []rune(letters)
		out := make([]rune, r.IntN(most))
		for i := range out {
			out[i] = runes[r.IntN(len(runes))]
		}
		return string(out)
	}
	blob := func(most int) []byte {
		out := make([]byte, r.IntN(most))
		for i := range out {
			out[i] = byte(r.Uint32())
		}
		return out
	}
	word := func() (w tangle.Word) { copy(w[:], blob(33)); return w }
	def := &tangle.Definition{
		Layout: tangle.LayoutB, MetadataURI: text(100), MetadataHash: word(), MasterManagerRevision: r.Uint32(),
		HasConfig:          r.IntN(2) == 1,
		RegistrationSchema: blob(100), RequestSchema: blob(100), SupportedMemberships: blob(5),
		Config: tangle.ServiceConfig{
			Membership: uint8(r.Uint32()), Pricing: uint8(r.Uint32()), MinOperators: r.Uint32(), MaxOperators: r.Uint32(),
			SubscriptionRate:     word(),
			SubscriptionInterval: r.Uint64(), EventRate: word(),
		},
		Metadata: tangle.Texts{
			Name: text(40), Description: text(200), Author: text(40), Category: text(40), CodeRepository: text(40),
			Logo: text(40), Website: text(40),
			License: text(40), ProfilingData: text(2000),
		},
	}
	copy(def.Manager[:], blob(21))
	for range r.IntN(6) {
		def.Jobs = append(def.Jobs, tangle.Job{Name: text(40), Description: text(100), MetadataURI: text(40),
			ParamsSchema: blob(100), ResultSchema: blob(100)})
	}
	for range r.IntN(4) {
		s := tangle.Source{
			Kind: tangle.SourceKind(r.IntN(4)), Container: tangle.Container{Registry: text(40), Image: text(40), Tag: text(40)},
			Wasm: tangle.Wasm{Runtime: uint8(r.Uint32()), Fetcher: uint8(r.Uint32()), ArtifactURI: text(40),
				Entrypoint: text(40)},
			Native:  tangle.Native{Fetcher: uint8(r.Uint32()), ArtifactURI: text(40), Entrypoint: text(40)},
			Testing: tangle.Testing{CargoPackage: text(40), CargoBin: text(40), BasePath: text(40)},
		}
		for range r.IntN(4) {
			s.Binaries = append(s.Binaries, tangle.Binary{
				Arch: tangle.Arch(r.Uint32()), OS: tangle.OS(r.Uint32()), Name: text(40), SHA256: word()})
		}
		def.Sources = append(def.Sources, s)
	}
	if r.IntN(2) == 1 {
		def.Layout, def.MetadataHash = tangle.LayoutA, tangle.Word{}
	}
	return def
}

func TestGeneratedDefinitionsDecodeAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	arguments := map[tangle.Layout]abi.Arguments{
		tangle.LayoutA: outputs(t, tangle.LayoutA), tangle.LayoutB: outputs(t, tangle.LayoutB)}
	for range 200 {
		def := random(r)
		data := tangletest.EncodeDefinition(def)
		ours, err := tangle.DecodeDefinition(data)
		if err != nil {
			t.Fatalf("%v: %+v", err, def)
		}
		theirs, err := unpack(arguments[def.Layout], def.Layout, data)
		if err != nil {
			t.Fatalf("go-ethereum: %v", err)
		}
		if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		// go-ethereum and the test encoder encode alike, so elsewhere the test encoder can replace it.
		values, err := arguments[def.Layout].Unpack(data)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := arguments[def.Layout].Pack(values...)
		if err != nil || !bytes.Equal(packed, data) {
			t.Fatalf("go-ethereum encodes it otherwise: %v", err)
		}
	}
}

// If this library accepts a damaged answer, go-ethereum decodes it to the same definition.
func TestDamagedAnswersAreRefusedOrDecodeAlike(t *testing.T) {
	recorded, err := tangletest.Read("gen-A")
	if err != nil {
		t.Fatal(err)
	}
	arguments := outputs(t, tangle.LayoutA)
	r := rand.New(rand.NewPCG(3, 4))
	accepted, refused := 0, 0
	for range 3000 {
		data := append([]byte(nil), recorded[r.IntN(len(recorded))].Definition...)
		at := r.IntN(len(data)/32) * 32
		switch r.IntN(4) {
		case 0:
			data[at+r.IntN(32)] = byte(r.Uint32())
		case 1:
			binary.BigEndian.PutUint64(data[at+24:], uint64(r.IntN(len(data))))
		case 2:
			binary.BigEndian.PutUint64(data[at+24:], binary.BigEndian.Uint64(data[at+24:])+32)
		case 3:
			data = data[:at]
		}
		ours, err := tangle.DecodeDefinition(data)
		if err != nil || ours.Layout != tangle.LayoutA {
			refused++
			continue
		}
		accepted++
		theirs, err := unpack(arguments, tangle.LayoutA, data)
		if err != nil {
			t.Errorf("accepted here, and go-ethereum says: %v", err)
			continue
		}
		for _, def := range []*tangle.Definition{ours, theirs} {
			cleanTexts(def)
		}
		if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 300 || refused < 300 {
		t.Errorf("%d accepted, %d refused: the damage does not try both", accepted, refused)
	}
}

// cleanTexts makes texts equal whether or not they went through JSON.
func cleanTexts(def *tangle.Definition) {
	text, err := json.Marshal(def)
	if err == nil {
		*def = tangle.Definition{}
		err = json.Unmarshal(text, def)
	}
	if err != nil {
		panic(err)
	}
}

// worstCase returns a blueprint with the maximum number of callable jobs.
func worstCase() []byte {
	def := random(rand.New(rand.NewPCG(5, 6)))
	def.Layout = tangle.LayoutB
	def.Jobs = nil
	for i := range tangle.MaxJobs {
		def.Jobs = append(def.Jobs, tangle.Job{
			Name: fmt.Sprintf("job-%d", i), Description: "a job of the worst case, with a description of usual length",
			MetadataURI:  "ipfs://bafy/job",
			ParamsSchema: make([]byte, 64), ResultSchema: make([]byte, 64),
		})
	}
	return tangletest.EncodeDefinition(def)
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestDecodingTakesAFractionOfTheMemory(t *testing.T) {
	data, arguments := worstCase(), outputs(t, tangle.LayoutB)
	ours := allocated(func() {
		if _, err := tangle.DecodeDefinition(data); err != nil {
			t.Error(err)
		}
	})
	theirs := allocated(func() {
		if _, err := arguments.Unpack(data); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d jobs in %d bytes: %d bytes allocated, go-ethereum %d (%.1f times)", tangle.MaxJobs, len(data), ours,
		theirs, float64(theirs)/float64(ours))
	if theirs < 5*ours {
		t.Errorf("%d bytes allocated, go-ethereum %d", ours, theirs)
	}
}

func BenchmarkDecodeWorstCase(b *testing.B) {
	data, arguments := worstCase(), outputs(b, tangle.LayoutB)
	b.Run("reader", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tangle.DecodeDefinition(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("accounts-abi", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := arguments.Unpack(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
