// Package tangle reads blueprints from the Tangle contracts through nodes that it does not trust:
// it limits every response, checks every offset and counts every retry. It supports all
// generations of the contracts and recognises them by their answers, because deployments are
// upgraded in place.
//
// The package is not a light client: it takes a node's view of the chain as given. Hashes prove
// that an event belongs to the state that the same node reports; they do not prove that the node
// is honest.
package tangle

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// MaxResponse is the maximum length of an unpacked response in bytes.
const MaxResponse = 4 << 20

// Config says where and how to read.
type Config struct {
	URLs     []string // http or https URLs of nodes, tried in this order
	Contract *Address // nil for the known one of the node's chain
	ChainID  uint64   // refuse nodes of other chains; 0 for any
	Block    uint64   // the block whose state is read; 0 for the latest
	Client   *http.Client
	Timeout  time.Duration // per response; 0 for ten seconds

	// LogRange is how many blocks a query for logs spans; 0 means 2000. LogQueries is the maximum
	// number of such queries; if it is 0, what only the events contain stays unknown.
	LogRange   uint64
	LogQueries int
	// LogTime limits the time of the search in the logs; 0 means ten seconds.
	LogTime time.Duration

	CacheDir string // directory for verified events; empty for none
}

// Blueprint is a blueprint as the chain describes it.
type Blueprint struct {
	ID       uint64
	ChainID  uint64
	Contract Address
	Block    uint64 // the block whose state was read

	// Definition is the contract's answer. Names, descriptions and URIs of jobs that it lacks come
	// from the event.
	Definition *Definition
	// Texts are those of the definition, completed from the event like the jobs.
	Texts     Texts
	NamesFrom Origin
	// Sources are those of the definition or, if it has none, those of the event.
	Sources     []Source
	SourcesFrom Origin

	Status       *Status       // nil if the contract did not return it
	Requirements []Requirement // nil if there are none or the contract did not return them

	Warnings []string
}

// Origin is where a part of a blueprint comes from.
type Origin string

// The origins.
const (
	FromNowhere Origin = ""
	FromCall    Origin = "call"
	FromEvent   Origin = "event" // verified against the hash that the contract stores
	FromCache   Origin = "cache" // an event that an earlier read verified, verified again
)

// Read reads a blueprint. The error is an *Error.
//
// Usually Read needs one round trip: a batch of the chain id, the block number, all views at the
// latest block, and the block number again. If the two numbers agree, the views are of that block.
// If they differ, or if the contract must first be looked up by chain id, a second round trip
// calls the views by block number. The comparison requires that one node answers the batch in
// order; a service that spreads a batch over nodes of different height can defeat it. With
// Config.Block there is no comparison.
func Read(ctx context.Context, cfg Config, id uint64) (*Blueprint, error) {
	r, err := newReader(cfg)
	if err != nil {
		return nil, err
	}
	r.blueprint.ID, r.blueprint.Block = id, cfg.Block
	if err := r.readViews(ctx); err != nil {
		return nil, err
	}
	r.readEvents(ctx)
	return r.blueprint, nil
}

type reader struct {
	cfg       Config
	client    *rpc.Client
	nodes     []*rpc.Node // the one that answered last is first, so that a conversation stays with one
	blueprint *Blueprint

	definitionHash Word // zero if the contract did not return it
	sourcesHash    Word
}

func newReader(cfg Config) (*reader, error) {
	c, err := rpc.New(rpc.Config{URLs: cfg.URLs, HTTP: cfg.Client, Timeout: cfg.Timeout, MaxResponse: MaxResponse})
	if err != nil {
		return nil, nodeError(err)
	}
	return &reader{cfg: cfg, client: c, nodes: c.Nodes(), blueprint: &Blueprint{}}, nil
}

// do sends the calls to one of the nodes.
func (r *reader) do(ctx context.Context, calls []rpc.Call) ([]rpc.Answer, error) {
	answers, node, err := r.client.Do(ctx, calls, r.nodes...)
	if err != nil {
		return nil, nodeError(err)
	}
	i := slices.Index(r.nodes, node)
	copy(r.nodes[1:i+1], r.nodes[:i])
	r.nodes[0] = node
	return answers, nil
}

// view is a view function of the contract.
type view struct {
	name     string
	selector uint32
	required bool
}

// views are called in this order.
var views = [...]view{
	{"getBlueprintDefinition", selDefinition, true},
	{"getBlueprint", selBlueprint, false},
	{"getBlueprintResourceRequirements", selRequirements, false},
	{"blueprintDefinitionHash", selDefinitionHash, false},
	{"blueprintSourcesHash", selSourcesHash, false},
}

func viewCalls(contract Address, id uint64, block string) []rpc.Call {
	calls := make([]rpc.Call, len(views))
	for i, v := range views {
		calls[i] = rpc.Call{
			Method: "eth_call",
			Params: []any{map[string]string{"to": contract.String(),
				"data": "0x" + hex.EncodeToString(callData(v.selector, id))}, block},
			Required: v.required,
		}
	}
	return calls
}

// readViews reads everything that the contract itself returns.
func (r *reader) readViews(ctx context.Context) error {
	b := r.blueprint
	chainID := rpc.Call{Method: "eth_chainId", Required: true}
	head := rpc.Call{Method: "eth_blockNumber"}
	var answers []rpc.Answer
	switch {
	case r.cfg.Contract != nil && r.cfg.Block != 0:
		b.Contract = *r.cfg.Contract
	case r.cfg.Contract != nil:
		b.Contract = *r.cfg.Contract
		calls := append([]rpc.Call{chainID, head}, viewCalls(b.Contract, b.ID, "latest")...)
		all, err := r.do(ctx, append(calls, head))
		if err != nil {
			return err
		}
		if err := r.setHead(ctx, all[0], all[1]); err != nil {
			return err
		}
		last := all[len(all)-1]
		if after, err := last.Quantity(); err == nil && all[1].Err == nil && after == b.Block {
			answers = all[2 : len(all)-1]
		}
	default:
		all, err := r.do(ctx, []rpc.Call{chainID, head})
		if err != nil {
			return err
		}
		if err := r.setHead(ctx, all[0], all[1]); err != nil {
			return err
		}
		network, ok := KnownNetwork(b.ChainID)
		if !ok {
			return errorf(ErrUnknownNetwork, "node %s is of chain id %d, for which no contract is known: name its address",
				r.nodes[0], b.ChainID)
		}
		b.Contract = network.Contract
	}
	if answers == nil {
		all, err := r.do(ctx, append([]rpc.Call{chainID}, viewCalls(b.Contract, b.ID, rpc.Quantity(b.Block))...))
		if err != nil {
			return err
		}
		if err := r.setChain(all[0]); err != nil { // another node may answer now
			return err
		}
		answers = all[1:]
	}
	return r.setViews(answers)
}

// setHead sets the chain id and, unless it is configured, the block number. If a node does not
// return its block number, setHead asks it for the block.
func (r *reader) setHead(ctx context.Context, chainID, head rpc.Answer) error {
	if err := r.setChain(chainID); err != nil || r.cfg.Block != 0 {
		return err
	}
	if head.Err == nil {
		number, err := r.number("eth_blockNumber", head)
		r.blueprint.Block = number
		return err
	}
	const method = "eth_getBlockByNumber"
	answers, err := r.do(ctx, []rpc.Call{{Method: method, Params: []any{"latest", false}, Required: true}})
	if err != nil {
		return err
	}
	if r.blueprint.Block, err = blockMember(answers[0].Result, "number"); err != nil {
		return nodeError(r.nodes[0].Malformed(method, err))
	}
	return nil
}

func (r *reader) setChain(chainID rpc.Answer) error {
	id, err := r.number("eth_chainId", chainID)
	if err != nil {
		return err
	}
	if want := max(r.cfg.ChainID, r.blueprint.ChainID); want != 0 && id != want {
		return errorf(ErrConfig, "node %s is of chain id %d, and %d is wanted", r.nodes[0], id, want)
	}
	r.blueprint.ChainID = id
	return nil
}

func (r *reader) number(method string, a rpc.Answer) (uint64, error) {
	if a.Err != nil { // the call is required, so this is a revert, which makes no sense here
		return 0, nodeError(r.nodes[0].RPCError(a.Err, method))
	}
	n, err := a.Quantity()
	if err != nil {
		return 0, nodeError(r.nodes[0].Malformed(method, err))
	}
	return n, nil
}

// setViews decodes the results of the views. Only the definition is required.
func (r *reader) setViews(answers []rpc.Answer) error {
	b := r.blueprint
	if err := r.setDefinition(answers[0]); err != nil {
		return err
	}
	if data, ok := r.optional(answers, 1); ok {
		status, err := DecodeStatus(data)
		switch {
		case err != nil:
			r.warnMalformed(views[1].name, err)
		case status == Status{}:
			r.warn("%s knows nothing of the blueprint, although it has a definition: its owner, and whether it is active, "+
				"are unknown", views[1].name)
		default:
			b.Status = &status
		}
	}
	if data, ok := r.optional(answers, 2); ok {
		requirements, err := DecodeRequirements(data)
		if err != nil {
			r.warnMalformed(views[2].name, err)
		}
		b.Requirements = requirements
	}
	r.definitionHash, r.sourcesHash = r.hash(answers, 3), r.hash(answers, 4)
	b.Texts, b.NamesFrom, b.SourcesFrom = b.Definition.Metadata, FromCall, FromCall
	if b.Sources = b.Definition.Sources; len(b.Sources) == 0 {
		b.SourcesFrom = FromNowhere
	}
	if !hasNames(b.Definition) {
		b.NamesFrom = FromNowhere
	}
	if b.Contract == superseded && b.ChainID == networks[0].ChainID {
		r.warn("the contract %s on %s is superseded by %s", b.Contract, networks[0].Name, networks[0].Contract)
	}
	return nil
}

func (r *reader) setDefinition(a rpc.Answer) error {
	b := r.blueprint
	place := fmt.Sprintf("contract %s on chain id %d", b.Contract, b.ChainID)
	if a.Err != nil {
		if selector(a.Err) == errBlueprintNotFound {
			return errorf(ErrBlueprintNotFound, "blueprint %d is not found in %s", b.ID, place)
		}
		scrubbed := r.nodes[0].RPCError(a.Err, views[0].name).RPC
		if selector(a.Err) == errUnknownSelector {
			return errorf(ErrGeneration, "%s has no %s: its generation is not understood", place, views[0].name)
		}
		return errorf(ErrGeneration, "%s reverts %s: it is not a Tangle contract, or of an unknown generation: %w",
			place, views[0].name, scrubbed)
	}
	data, err := a.Bytes()
	if err != nil {
		return nodeError(r.nodes[0].Malformed(views[0].name, err))
	}
	if len(data) == 0 {
		return errorf(ErrNoContract, "no contract at address %s on chain id %d", b.Contract, b.ChainID)
	}
	def, err := DecodeDefinition(data)
	var layout *UnknownLayoutError
	switch {
	case errors.As(err, &layout):
		return errorf(ErrGeneration, "%s: its generation is not understood: %w", place, err)
	case err != nil:
		return errorf(ErrMalformed, "%s: answer to %s %w", place, views[0].name, err)
	}
	b.Definition = def
	return nil
}

// optional returns the result of an optional view. A contract without it is of an older
// generation, which causes no warning.
func (r *reader) optional(answers []rpc.Answer, i int) ([]byte, bool) {
	a := answers[i]
	if a.Err != nil {
		if !a.Err.Reverted() {
			r.warn("%v", r.nodes[0].RPCError(a.Err, views[i].name))
		}
		return nil, false
	}
	data, err := a.Bytes()
	if err != nil {
		r.warnMalformed(views[i].name, err)
	}
	return data, len(data) > 0
}

// hash returns the result of an optional view that returns a hash, or zero.
func (r *reader) hash(answers []rpc.Answer, i int) Word {
	data, ok := r.optional(answers, i)
	if !ok {
		return Word{}
	}
	hash, err := decodeWord(data, views[i].name)
	if err != nil {
		r.warnMalformed(views[i].name, err)
	}
	return hash
}

func (r *reader) warn(format string, args ...any) {
	r.blueprint.Warnings = append(r.blueprint.Warnings, fmt.Sprintf(format, args...))
}

func (r *reader) warnMalformed(name string, err error) {
	r.warn("the answer to %s was ignored: %v", name, err)
}

// hasNames reports whether the contract returned the names of the jobs. Contracts from 0.18 on do
// not return them.
func hasNames(def *Definition) bool {
	for i := range def.Jobs {
		if def.Jobs[i].Name != "" {
			return true
		}
	}
	return len(def.Jobs) == 0
}
