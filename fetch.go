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

// The environment variables that name the contract if [WithContract] does not. The first one that
// is not empty counts.
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
	rpc        []string // tried in this order; empty for the default node
	contract   string   // 20 bytes in hex, with or without 0x; empty for the known contract of the node's chain
	binary     string
	mock       bool
	httpClient *http.Client // not nil after newFetchOptions
	logger     *slog.Logger // not nil after newFetchOptions

	chainID, block uint64 // 0 for any chain, and for the latest block
	eventSearch    *int   // in queries; nil for the default
	cache          string // empty for none
}

// WithRPC sets the http or https URLs of the nodes, which [FetchMetadata] tries in this order. It
// makes FetchMetadata read the chain. Empty strings are skipped, so the value of an unset flag may
// be passed.
func WithRPC(urls ...string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		for _, url := range urls {
			if url != "" {
				o.rpc = append(o.rpc, url)
			}
		}
	})
}

// WithContract sets the address of the Tangle contract instead of the environment's. It makes
// [FetchMetadata] read the chain. The empty string has no effect.
func WithContract(address string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		if address != "" {
			o.contract = address
		}
	})
}

// WithBinary names the blueprint's binary. Its profiles are read from blueprint-profiles.json in
// the same directory, or else from [ProfilesPath]. If the file names the SHA-256 of the profiled
// binary, it is compared with this one: profiles of an older build are used with a warning,
// profiles of another blueprint are not used. The empty string has no effect.
func WithBinary(path string) FetchOption {
	return fetchOption(func(o *fetchOptions) {
		if path != "" {
			o.binary = path
		}
	})
}

// WithMock makes FetchMetadata make the metadata up even if a contract is configured.
func WithMock() FetchOption { return fetchOption(func(o *fetchOptions) { o.mock = true }) }

// WithHTTPClient sets the client for calls to nodes. The default is [http.DefaultClient].
func WithHTTPClient(c *http.Client) FetchOption {
	return fetchOption(func(o *fetchOptions) { o.httpClient = c })
}

// FetchMetadata returns the jobs of a blueprint and their profiles. The jobs come from the chain.
// The profiles come from the first source that has any: the profiles file of the binary (see
// [WithBinary]), the definition's profilingData, the definition's description.
//
// FetchMetadata reads the chain if a contract is configured, by [WithContract] or by the
// environment variable TANGLE_CONTRACT or TANGLE_CONTRACT_ADDRESS, or if [WithRPC] names a node.
// Otherwise, and with [WithMock], it makes the metadata up: Source is SourceMock, and there are as
// many jobs as the profiles file describes, or two without such a file. Made-up metadata without a
// profiles file has no profiles, so no analysis of it recommends a serverless deployment.
//
// A broken source of profiles is skipped. Everything that was skipped or ignored is in Warnings
// and in the log, and so is the fact that metadata is made up. The names of the jobs and the
// published binaries may only be in events; the search for them is limited (see
// [WithEventSearch]).
//
// If a contract is configured, FetchMetadata asks a node in one round trip, and all answers
// describe one block. If a node fails, FetchMetadata asks the next one of WithRPC. It tries all
// nodes again, up to three times with pauses, if that may help. A response may take ten seconds
// and 4 MiB.
//
// Errors are *faas.Error: ErrInvalidArgument for a malformed address or URL, ErrNotFound if the
// contract or the blueprint does not exist, ErrUnsupported for a contract of an unknown kind,
// ErrUnavailable, ErrThrottled or ErrPermissionDenied if a node fails, ErrTooLarge for an answer
// that is too long, and ErrTimeout. A [ChainError] in the chain gives details. No error shows more
// of a node's URL than its scheme and host. The metadata is nil if and only if the error is not.
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
	for _, opt := range opts {
		if opt != nil {
			opt.applyFetch(o)
		}
	}
	if o.httpClient == nil {
		o.httpClient = http.DefaultClient
	}
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// contractAddress returns the configured address, or the empty string if there is none. The
// argument is that of WithContract.
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

// mockMetadata makes metadata up. The number of jobs is that of the profiles file, because no
// chain gives it.
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
		highest := slices.Max(slices.Collect(maps.Keys(set.Jobs))) // the decoder promises less than profiles.MaxJobs
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

// assemble adds the profiles and the execution profile to the metadata.
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

// warn records the warnings and the error of a decoder. The error names its source itself.
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

// readProfiles reads the profiles file of the binary and returns its path. If no file has usable
// profiles, it returns false; it adds a warning for each broken file.
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
			break // no file can fit better
		}
	}
	meta.warn(from+": ", notes, nil, "")
	return found, from, from != ""
}

// compareMeasured returns a warning if the profiles are of another build of the binary, and an
// error if they are of another blueprint. A file that does not say which binary was profiled is
// taken to fit.
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

// ProfilesPath returns where the existing tools keep the profiles of a blueprint's binary:
// blueprint-profiles.json in the directory above that of the binary. For target/release/x it is
// target/blueprint-profiles.json. A file of that name beside the binary takes precedence; see
// [WithBinary].
func ProfilesPath(binary string) string {
	// the parent of a bare name would be the working directory itself
	if abs, err := filepath.Abs(binary); err == nil {
		binary = abs
	}
	return filepath.Join(filepath.Dir(filepath.Dir(binary)), "blueprint-profiles.json")
}
