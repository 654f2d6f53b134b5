package serverless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/profiles"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The environment variables that name the contract, where [WithContract] does not. The first that is set and not empty counts.
const (
	ContractEnv         = "TANGLE_CONTRACT"
	ContractFallbackEnv = "TANGLE_CONTRACT_ADDRESS"
)

const fetchOp = "fetch metadata"

// FetchOption configures [FetchMetadata].
type FetchOption interface{ applyFetch(*fetchOptions) }

type fetchOption func(*fetchOptions)

func (f fetchOption) applyFetch(o *fetchOptions) { f(o) }

type fetchOptions struct {
	rpc        []string // in the order to try them; empty: the default node
	contract   string   // 20 bytes in hex, with or without 0x; empty: the known contract of the node's chain
	binary     string
	mock       bool
	httpClient *http.Client // never nil once options are applied
	logger     *slog.Logger // never nil once options are applied

	chainID, block uint64 // 0: any, and the latest
	eventSearch    *int   // in queries; nil: the default
	cache          string // empty: none
}

// WithRPC names the nodes to ask, as http or https URLs, in the order in which they are tried. It makes [FetchMetadata] read the chain. Empty
// strings are skipped, so that the value of an unset flag may be passed.
func WithRPC(urls ...string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		for _, url := range urls {
			if url != "" {
				o.rpc = append(o.rpc, url)
			}
		}
	})
}

// WithContract gives the address of the Tangle contract, in place of the environment's. It makes [FetchMetadata] read the chain. The empty
// string changes nothing.
func WithContract(address string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		if address != "" {
			o.contract = address
		}
	})
}

// WithBinary names the blueprint's binary. Its profiles are read from blueprint-profiles.json beside it, or else from
// [ProfilesPath]. A file that names the SHA-256 of what was measured is compared with the binary: profiles of an older
// build are used with a warning, those of another blueprint are not used. The empty string changes nothing.
func WithBinary(path string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		if path != "" {
			o.binary = path
		}
	})
}

// WithMock asks for made-up metadata, also where a contract is configured.
func WithMock() FetchOption { return fetchOption(func(o *fetchOptions) { o.mock = true }) }

// WithHTTPClient sets the client for the calls to nodes. By default it is [http.DefaultClient].
func WithHTTPClient(c *http.Client) FetchOption {
	return fetchOption(func(o *fetchOptions) { o.httpClient = c })
}

// FetchMetadata says what is known of a blueprint: its jobs from the chain, and their profiles from the first source that has any: the
// profiles file of the binary (with [WithBinary]), then the definition's profilingData, then its description.
//
// The chain is read when a contract is configured, by [WithContract] or else by the environment variable TANGLE_CONTRACT or else
// TANGLE_CONTRACT_ADDRESS, or when [WithRPC] names a node. Only when nothing of that is configured, or [WithMock] asks for it, the metadata is
// made up: Source is SourceMock, and there are as many jobs as the profiles file speaks of, or two without one. Without a profiles file such
// metadata has no profiles, so that no analysis of it can recommend a serverless deployment.
//
// A source of profiles that is broken is skipped. What was skipped or ignored stands in Warnings, as does that metadata is made up, and is
// logged. What only events tell, the names of the jobs and the published binaries, is searched for within limits ([WithEventSearch]).
//
// A node is asked in one round trip where the contract is configured, and all it says is of one block. Where a node fails, those after it in [WithRPC]
// are asked, and after a pause those again where that may help, three times at the most. A response takes at most ten seconds and 4 MiB.
//
// Errors are *faas.Error: ErrInvalidArgument for an address or a URL that is none, ErrNotFound for a contract or a blueprint that does not
// exist, ErrUnsupported for a contract that is not understood, ErrUnavailable, ErrThrottled or ErrPermissionDenied for a node that does
// not answer as it should, ErrTooLarge for one that says too much, and ErrTimeout. A [ChainError] says more. No error shows more of a
// node's URL than its scheme and host. There is metadata exactly when the error is nil.
func FetchMetadata(ctx context.Context, blueprintID uint64, opts ...FetchOption) (*Metadata, error) {
	o := newFetchOptions(opts)
	if err := ctx.Err(); err != nil {
		return nil, faas.Errorf(faas.ErrTimeout, fetchOp, "", "blueprint %d: %w", blueprintID, err)
	}
	var meta *Metadata
	var err error
	if o.mock {
		meta = mockMetadata(blueprintID, o, "it was asked for")
	} else if o.contract, err = contractAddress(o.contract); err != nil {
		return nil, err
	} else if o.contract == "" && len(o.rpc) == 0 {
		meta = mockMetadata(blueprintID, o, "no contract is configured (WithContract, "+ContractEnv+" or "+
			ContractFallbackEnv+")")
	} else {
		def, err := fetchChain(ctx, blueprintID, o)
		if err != nil {
			return nil, err
		}
		meta = def.assemble(o)
	}
	for _, warning := range meta.Warnings {
		o.logger.LogAttrs(ctx, slog.LevelWarn, warning, slog.Uint64("blueprint_id", blueprintID),
			slog.String("source", string(meta.Source)))
	}
	return meta, nil
}

func newFetchOptions(opts []FetchOption) *fetchOptions {
	o := &fetchOptions{}
	apply(opts, func(opt FetchOption) { opt.applyFetch(o) })
	if o.httpClient == nil {
		o.httpClient = http.DefaultClient
	}
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// contractAddress returns the configured address, or the empty string where none is. given is that of WithContract.
func contractAddress(given string) (string, error) {
	address, origin := given, "WithContract"
	for _, name := range []string{ContractEnv, ContractFallbackEnv} {
		if address == "" {
			address, origin = strings.TrimSpace(os.Getenv(name)), "environment variable "+name
		}
	}
	if address == "" {
		return "", nil
	}
	if _, err := tangle.ParseAddress(address); err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, fetchOp, "",
			"%s is not the address of a contract: it must be 0x and 40 hexadecimal digits, and is %d characters long", origin,
			len(address))
	}
	return address, nil
}

// mockMetadata makes metadata up. Its number of jobs follows the profiles file, because no chain says how many there are.
func mockMetadata(blueprintID uint64, o *fetchOptions, because string) *Metadata {
	const jobs = 2
	meta := &Metadata{BlueprintID: blueprintID, Source: SourceMock, Jobs: makeJobs(jobs)}
	meta.Warnings = append(meta.Warnings, "the metadata is made up (mock), because "+because+": "+
		"the blueprint's real jobs are not known")
	set, path, ok := readProfiles(meta, o, profiles.MaxJobs)
	if !ok {
		return meta
	}
	if len(set.Jobs) > 0 {
		highest := slices.Max(slices.Collect(maps.Keys(set.Jobs))) // below profiles.MaxJobs, by the decoder's promise
		meta.Jobs = makeJobs(int(highest) + 1)
	}
	meta.Warnings = append(meta.Warnings, fmt.Sprintf("the number of jobs, %d, was taken from %s", len(meta.Jobs), path))
	meta.setProfiles(set, ProfileFromFile)
	return meta
}

func makeJobs(n int) []Job {
	jobs := make([]Job, n)
	for i := range jobs {
		jobs[i].ID = uint32(i)
	}
	return jobs
}

// assemble completes the metadata with profiles and execution profile.
func (def *chainDefinition) assemble(o *fetchOptions) *Metadata {
	meta := &def.Metadata
	if meta.Jobs == nil {
		meta.Jobs = []Job{}
	}
	jobCount := len(meta.Jobs)
	if set, _, ok := readProfiles(meta, o, jobCount); ok {
		meta.setProfiles(set, ProfileFromFile)
		exec, warnings, err := profiles.DecodeExecution(def.ProfilingData)
		meta.setExecution(exec)
		meta.warn("", warnings, err, "it is not known whether the jobs need a TEE or a GPU")
		return meta
	}
	set, exec, warnings, err := profiles.DecodeProfilingData(def.ProfilingData, jobCount)
	meta.setExecution(exec)
	meta.warn("profilingData: ", warnings, err, "its profiles were ignored")
	if err == nil && len(set.Jobs) > 0 {
		meta.setProfiles(set, ProfileFromChain)
		return meta
	}
	set, _, warnings, err = profiles.DecodeDescription(def.Description, jobCount)
	meta.warn("description: ", warnings, err, "its profiles were ignored")
	if err == nil && len(set.Jobs) > 0 {
		meta.setProfiles(set, ProfileFromDescription)
	}
	return meta
}

// warn records what a decoder said. The decoder's error names its source itself.
func (m *Metadata) warn(prefix string, warnings []string, err error, consequence string) {
	for _, warning := range warnings {
		m.Warnings = append(m.Warnings, prefix+warning)
	}
	if err != nil {
		m.Warnings = append(m.Warnings, err.Error()+": "+consequence)
	}
}

func (m *Metadata) setProfiles(set profiles.Set, source ProfileSource) {
	for i := range m.Jobs {
		if measured, ok := set.Jobs[m.Jobs[i].ID]; ok {
			m.Jobs[i].Profile, m.Jobs[i].ProfileSource = new(JobProfile(measured)), source
		}
	}
}

func (m *Metadata) setExecution(exec profiles.Execution) {
	m.Execution = ExecutionProfile{Confidentiality: exec.Confidentiality, GPU: GPURequirement(exec.GPU)}
}

// readProfiles reads the profiles file of the binary, if there is one, and returns its path. It returns false, and
// where something is wrong adds a warning, when no file gives a profile.
func readProfiles(meta *Metadata, o *fetchOptions, jobCount int) (profiles.Set, string, bool) {
	if o.binary == "" {
		return profiles.Set{}, "", false
	}
	above := ProfilesPath(o.binary)
	var found profiles.Set
	var from string
	var notes []string
	for _, path := range []string{filepath.Join(filepath.Dir(o.binary), filepath.Base(above)), above} {
		data, err := profiles.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			o.logger.Debug("no profiles file", "path", path)
			continue
		}
		if err != nil {
			meta.Warnings = append(meta.Warnings, "the profiles file could not be read and was ignored: "+err.Error())
			continue
		}
		set, warnings, err := profiles.DecodeFile(data, jobCount)
		var older string
		if err == nil && len(set.Jobs) == 0 {
			err = errors.New("no job has a usable profile")
		} else if err == nil {
			older, err = compareMeasured(set, o.binary)
		}
		if err != nil {
			meta.warn(path+": ", warnings, fmt.Errorf("%s: %w", path, err), "the file was ignored")
			continue
		}
		if older != "" {
			warnings = append(warnings, older)
		}
		own := set.BinarySHA256 != "" && older == ""
		if own || from == "" {
			found, from, notes = set, path, warnings
		}
		if own {
			break // nothing fits better
		}
	}
	meta.warn(from+": ", notes, nil, "")
	return found, from, from != ""
}

// compareMeasured says, as a warning, that profiles are of another build of the binary, and, as an error, that they are
// of another blueprint. A file that does not tell what was measured is taken for the binary's.
func compareMeasured(set profiles.Set, binary string) (warning string, err error) {
	if set.BinarySHA256 == "" {
		return "", nil
	}
	file, err := faas.InspectBinary(binary)
	switch {
	case err == nil && file.SHA256 == set.BinarySHA256:
		return "", nil
	case set.BlueprintName != profiles.BlueprintName(binary):
		return "", fmt.Errorf("these are the profiles of another blueprint, %q: profile %s itself", set.BlueprintName, binary)
	case err != nil:
		return fmt.Sprintf("it could not be compared with the binary: %v", err), nil
	}
	return fmt.Sprintf("these are the profiles of another build of %s: profile it again", binary), nil
}

// ProfilesPath returns where the existing tools keep the profiles of a blueprint's binary: blueprint-profiles.json in the
// directory above the binary's, so that for target/release/x it is target/blueprint-profiles.json. A file of that name
// beside the binary comes first; see [WithBinary].
func ProfilesPath(binary string) string {
	// else the parent of a bare name would be the working directory itself
	if abs, err := filepath.Abs(binary); err == nil {
		binary = abs
	}
	return filepath.Join(filepath.Dir(filepath.Dir(binary)), "blueprint-profiles.json")
}
