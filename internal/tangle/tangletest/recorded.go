package tangletest

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// files holds answers of the genuine contracts, recorded on a local chain. gen-A is of the
// contracts up to 0.10.8, gen-D of today's, 0.19.
//
//go:embed testdata
var files embed.FS

// Recorded is a recorded blueprint with its entry in the index: the input of the genuine contract,
// and its output.
type Recorded struct {
	ID           uint64
	Name         string
	EthCallBytes int // length of Definition
	Got          struct {
		Name, Description, Job0, Author string
		Jobs, Sources, ProfilingBytes   int
		HasConfig                       bool
		Pricing                         uint8
		EventRate                       string
	}
	Event struct {
		Emitter  string
		EncBytes int // length of Encoded
		JobNames []string
		Desc     string
		Sources  int
	}
	Definition []byte `json:"-"` // the result of getBlueprintDefinition
	Encoded    []byte `json:"-"` // the definition in the event; nil if the event was not recorded
}

// Generations returns the recorded generations.
func Generations() []string { return []string{"gen-A", "gen-D"} }

// Read returns all blueprints of a generation, by ascending id.
func Read(generation string) ([]Recorded, error) {
	dir, err := fs.Sub(files, "testdata/"+generation)
	if err != nil {
		return nil, err
	}
	index, err := fs.ReadFile(dir, "index.json")
	if err != nil {
		return nil, err
	}
	var parsed struct{ Blueprints []Recorded }
	if err := json.Unmarshal(index, &parsed); err != nil {
		return nil, err
	}
	for i := range parsed.Blueprints {
		b := &parsed.Blueprints[i]
		if b.Definition, err = readHex(dir, fmt.Sprintf("%d-*.eth_call.hex", b.ID)); err != nil {
			return nil, err
		}
		if b.Definition == nil {
			return nil, fmt.Errorf("%s: blueprint %d has no recorded answer", generation, b.ID)
		}
		if b.Encoded, err = readHex(dir, fmt.Sprintf("%d-*.event-definition.hex", b.ID)); err != nil {
			return nil, err
		}
	}
	return parsed.Blueprints, nil
}

// ABI returns the interface of the contract in the JSON of compilers: getBlueprintDefinition of
// today's generation.
func ABI() ([]byte, error) { return files.ReadFile("testdata/abi.json") }

// readHex reads the only file that matches, or returns nil if there is none.
func readHex(dir fs.FS, pattern string) ([]byte, error) {
	paths, err := fs.Glob(dir, pattern)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	content, err := fs.ReadFile(dir, paths[0])
	if err != nil {
		return nil, err
	}
	data, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(content)), "0x"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", paths[0], err)
	}
	return data, nil
}

// The accounts of a recorded chain.
var (
	Owner   = tangle.Address{0: 0x0a, 19: 1}
	Manager = tangle.Address{0: 0x0b, 19: 1}
	Tangle  = tangle.Address{0: 0x0c, 19: 1}
)

// NewNode returns a node that serves the blueprints of one generation from the contract Tangle.
// They are active, were created at block 40 of 100, and have the recorded events and the sources
// in these.
func NewNode(recorded []Recorded) (*Node, error) {
	n := &Node{ChainID: 31338, Block: 100, Contract: Tangle, Blueprints: map[uint64]*Blueprint{}}
	const created = 40
	for _, r := range recorded {
		b := &Blueprint{
			Definition: r.Definition,
			Status:     EncodeStatus(tangle.Status{Owner: Owner, Manager: Manager, CreatedAt: 2 * created, Active: true}),
		}
		n.Blueprints[r.ID] = b
		if r.Encoded == nil {
			continue
		}
		def, err := tangle.DecodeDefinition(r.Encoded)
		if err != nil {
			return nil, err
		}
		sources := EncodeSources(def.Sources)
		definitionHash, sourcesHash := tangle.Keccak256(r.Encoded), tangle.Keccak256(sources)
		b.DefinitionHash, b.SourcesHash, b.Requirements = definitionHash[:], sourcesHash[:], EncodeRequirements(nil)
		n.Logs = append(n.Logs,
			Log{Block: created, Address: Manager, Topics: []tangle.Word{Topic(TopicDefinition), ID(r.ID), {12: 0x0a, 31: 1}},
				Data: EncodeBytes(r.Encoded)},
			Log{Block: created, Address: Tangle, Topics: []tangle.Word{Topic(TopicSources), ID(r.ID), sourcesHash},
				Data: sources},
		)
	}
	return n, nil
}
