package serverless

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// DefaultRPC is the node that is asked if only a contract is configured.
const DefaultRPC = "http://localhost:9944"

// LogRangeEnv names the environment variable that sets how many blocks one query for events spans.
const LogRangeEnv = "MAX_GETLOGS_RANGE"

// defaultEventSearch suffices for a blueprint whose creation can be found by its time, and for a
// blueprint of the last days on a chain with a block every two seconds. It is small enough not to
// matter to those who pay for calls.
const defaultEventSearch = 16

// WithCache stores verified events in a directory, which is created if it does not exist. A later
// [FetchMetadata] of the same definition reads them instead of searching again. Entries are keyed
// by chain, contract, blueprint and hash, and are verified when they are read. So a changed
// blueprint or a changed file is never taken from the cache. Entries are never removed.
func WithCache(dir string) FetchOption { return fetchOption(func(o *fetchOptions) { o.cache = dir }) }

// WithChainID refuses nodes of any other chain. The default, 0, accepts all.
func WithChainID(id uint64) FetchOption { return fetchOption(func(o *fetchOptions) { o.chainID = id }) }

// WithBlock reads the state of the block with this number instead of the latest. A node can answer
// for an old block only if it has kept that state.
func WithBlock(number uint64) FetchOption {
	return fetchOption(func(o *fetchOptions) { o.block = number })
}

// WithEventSearch limits the search for the events that contain what newer contracts no longer
// return: the names of the jobs and the published binaries. The limit is a number of queries, each
// over as many blocks as MAX_GETLOGS_RANGE says (default 2000). The default is 16; 0 turns the
// search off. The search takes at most ten seconds, and at most half of the time until the
// context's deadline. If something is not found, a warning says so.
func WithEventSearch(queries int) FetchOption {
	return fetchOption(func(o *fetchOptions) { o.eventSearch = &queries })
}

// ChainError says why the chain could not be read, in more detail than the code of a [faas.Error].
// It is an error for use with errors.Is: errors.Is(err, serverless.ErrNoContract).
type ChainError string

// The reasons why the chain could not be read.
const (
	// ErrNoContract means that there is nothing at the contract's address on this chain.
	ErrNoContract = ChainError(tangle.ErrNoContract)
	// ErrUnknownNetwork means that no contract was named and that none is known for the node's chain.
	ErrUnknownNetwork = ChainError(tangle.ErrUnknownNetwork)
	// ErrBlueprintNotFound means that the contract has no such blueprint.
	ErrBlueprintNotFound = ChainError(tangle.ErrBlueprintNotFound)
	// ErrContractUnknown means that the contract is of an unknown generation.
	ErrContractUnknown = ChainError(tangle.ErrGeneration)
	ErrNodeUnreachable = ChainError(tangle.ErrUnreachable)
	ErrNodeHTTP        = ChainError(tangle.ErrHTTP)      // the node answered with an HTTP error
	ErrNodeRPC         = ChainError(tangle.ErrRPC)       // the node answered with a JSON-RPC error
	ErrNodeMalformed   = ChainError(tangle.ErrMalformed) // an answer cannot be decoded; the error names the field
	ErrNodeTooLarge    = ChainError(tangle.ErrTooLarge)  // an answer is larger than 4 MiB
	ErrNodeTimeout     = ChainError(tangle.ErrTimeout)
)

// Error returns the reason.
func (e ChainError) Error() string { return string(e) }

// chainFailure is an error with a ChainError that errors.Is finds.
type chainFailure struct {
	error
	kind ChainError
}

func (f chainFailure) Unwrap() []error { return []error{f.kind, f.error} }

// chainDefinition is a blueprint as the chain defines it.
type chainDefinition struct {
	// Metadata lacks only what comes from the two strings below and from the profiles file: the
	// profiles of the jobs, and Execution.
	Metadata      Metadata
	ProfilingData string
	Description   string
}

// fetchChain reads the definition of a blueprint from the contract o.contract, through the nodes
// o.rpc. One of them may be empty.
func fetchChain(ctx context.Context, blueprintID uint64, o *fetchOptions) (*chainDefinition, error) {
	cfg, err := o.chain()
	if err != nil {
		return nil, err
	}
	var rangeErr error
	cfg.LogRange, rangeErr = logRange(os.Getenv(LogRangeEnv))
	b, err := tangle.Read(ctx, cfg, blueprintID)
	if err != nil {
		return nil, o.chainFailed(err)
	}
	def := &chainDefinition{
		Metadata:      chainMetadata(b),
		ProfilingData: b.Definition.Metadata.ProfilingData,
		// Not the description in the event: which jobs have a profile must not depend on how far back a
		// node searches.
		Description: b.Definition.Metadata.Description,
	}
	if rangeErr != nil {
		def.Metadata.Warnings = append(def.Metadata.Warnings, rangeErr.Error())
	}
	return def, nil
}

// chain returns the configuration of the reader.
func (o *fetchOptions) chain() (tangle.Config, error) {
	cfg := tangle.Config{
		URLs: o.rpc, ChainID: o.chainID, Block: o.block, Client: o.httpClient, CacheDir: o.cache,
		LogQueries: defaultEventSearch,
	}
	if len(cfg.URLs) == 0 {
		cfg.URLs = []string{DefaultRPC}
	}
	if o.eventSearch != nil {
		cfg.LogQueries = *o.eventSearch
	}
	if o.contract != "" {
		address, err := tangle.ParseAddress(o.contract)
		if err != nil {
			return cfg, faas.Errorf(faas.ErrInvalidArgument, fetchOp, "", "%w", err)
		}
		cfg.Contract = &address
	}
	return cfg, nil
}

// chainFailed wraps an error of the reader.
func (o *fetchOptions) chainFailed(err error) error {
	code, hint := faas.ErrInternal, ""
	var chainErr *tangle.Error
	if errors.As(err, &chainErr) {
		code = chainErr.Code()
		hint = hintFor(chainErr.Kind, o)
		err = chainFailure{err, ChainError(chainErr.Kind)}
	}
	return faas.Errorf(code, fetchOp, "", "%w%s", err, hint)
}

// hintFor returns what to do about an error, or the empty string if that is obvious.
func hintFor(kind tangle.Kind, o *fetchOptions) string {
	switch kind {
	case tangle.ErrNoContract:
		return ": check the address (WithContract, " + ContractEnv + "), and that the node is of the chain that is meant"
	case tangle.ErrUnknownNetwork:
		return " (WithContract or " + ContractEnv + ")"
	case tangle.ErrUnreachable:
		if len(o.rpc) == 0 {
			return " (the default node; WithRPC names another)"
		}
	}
	return ""
}

// logRange parses the environment's range. It returns 0 for an empty text.
func logRange(text string) (uint64, error) {
	if text = strings.TrimSpace(text); text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("the environment variable %s was ignored: it must be a number of blocks", LogRangeEnv)
	}
	return n, nil
}

// chainMetadata converts the reader's result. It makes texts valid UTF-8, so that metadata
// survives being stored as JSON.
func chainMetadata(b *tangle.Blueprint) Metadata {
	meta := Metadata{
		BlueprintID: b.ID, Source: SourceChain, Name: valid(b.Texts.Name), Description: valid(b.Texts.Description),
		Jobs:     makeJobs(len(b.Definition.Jobs)),
		Warnings: b.Warnings,
	}
	for i, job := range b.Definition.Jobs {
		meta.Jobs[i].Name = valid(job.Name)
	}
	meta.OnChain = &OnChain{
		ChainID: b.ChainID, Contract: b.Contract.String(), Block: b.Block,
		NamesFrom: string(b.NamesFrom), SourcesFrom: string(b.SourcesFrom),
	}
	if s := b.Status; s != nil {
		meta.OnChain.Owner, meta.OnChain.Manager, meta.OnChain.CreatedAt = s.Owner.String(), s.Manager.String(), s.CreatedAt
		meta.OnChain.Active = new(s.Active)
		if !s.Active {
			meta.Warnings = append(meta.Warnings, "the blueprint is not active: its owner has switched it off")
		}
	}
	meta.Requirements = resources(b.Requirements, &meta.Warnings)
	for _, source := range b.Sources {
		meta.Sources = append(meta.Sources, chainSource(source))
	}
	return meta
}

// resources collects the requirements. If a kind appears more than once, the largest counts.
func resources(list []tangle.Requirement, warnings *[]string) Resources {
	var r Resources
	for _, req := range list {
		var into *uint64
		switch req.Kind {
		case tangle.ResourceCPU:
			into = &r.CPUCores
		case tangle.ResourceMemoryMB:
			into = &r.MemoryMB
		case tangle.ResourceStorageMB:
			into = &r.StorageMB
		case tangle.ResourceEgressMB:
			into = &r.EgressMB
		case tangle.ResourceIngressMB:
			into = &r.IngressMB
		case tangle.ResourceGPU:
			into = &r.GPUs
		default:
			*warnings = append(*warnings, fmt.Sprintf("a requirement of the unknown kind %d was ignored", req.Kind))
			continue
		}
		*into = max(*into, min(req.Count, math.MaxInt64)) // for readers of JSON with signed integers
	}
	return r
}

func chainSource(s tangle.Source) BlueprintSource {
	out := BlueprintSource{Kind: s.Kind.String()}
	switch s.Kind {
	case tangle.SourceContainer:
		out.Image = valid(s.Container.Image)
		if s.Container.Registry != "" {
			out.Image = valid(s.Container.Registry) + "/" + out.Image
		}
		if s.Container.Tag != "" {
			out.Image += ":" + valid(s.Container.Tag)
		}
	case tangle.SourceWasm:
		out.ArtifactURI, out.Entrypoint = valid(s.Wasm.ArtifactURI), valid(s.Wasm.Entrypoint)
	case tangle.SourceNative:
		out.ArtifactURI, out.Entrypoint = valid(s.Native.ArtifactURI), valid(s.Native.Entrypoint)
	}
	for _, b := range s.Binaries {
		published := PublishedBinary{Arch: b.Arch.String(), OS: b.OS.String(), Name: valid(b.Name)}
		if !b.SHA256.IsZero() {
			published.SHA256 = strings.TrimPrefix(b.SHA256.String(), "0x")
		}
		out.Binaries = append(out.Binaries, published)
	}
	return out
}

// valid returns the text as valid UTF-8. It returns a copy, so that metadata does not keep the
// whole answer in memory.
func valid(s string) string { return strings.Clone(strings.ToValidUTF8(s, "\uFFFD")) }
