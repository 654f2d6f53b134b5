// Package tangle reads what the Tangle contracts say of a blueprint, from nodes that it does not trust: each response is bounded, each offset
// checked, each retry counted. It reads every generation of the contracts by what the answers look like, because deployments are upgraded in
// place.
//
// What a node says of the chain is taken as it is: there is no light client here. Hashes show that an event belongs to the state that the
// same node reports, not that the node is honest.
package tangle

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Config says where and how to read.
type Config struct {
	URLs     []string // of nodes, http or https, tried in this order
	Contract *Address // nil: the known one of the node's chain
	ChainID  uint64   // nodes of other chains are refused; 0: any
	Block    uint64   // the block whose state is read; 0: the latest
	Client   *http.Client
	Timeout  time.Duration // of one response; 0: ten seconds

	// LogRange is how many blocks a query for logs spans, 0: 2000. LogQueries is how many such queries there are at the most; 0: none, so that
	// what only the events tell stays unknown.
	LogRange   uint64
	LogQueries int
	// LogTime is how long the walk over the logs may take; 0: ten seconds.
	LogTime time.Duration

	CacheDir string // where verified events are kept; empty: nowhere
}

// Blueprint is what the chain says of a blueprint.
type Blueprint struct {
	ID       uint64
	ChainID  uint64
	Contract Address
	Block    uint64 // whose state was read

	// Definition is the contract's answer. The jobs' names, descriptions and URIs, where the answer lacks them, are from the event.
	Definition *Definition
	// Texts are those of the definition, completed from the event like the jobs.
	Texts     Texts
	NamesFrom Origin
	// Sources are those of the definition or, where that has none, of the event.
	Sources     []Source
	SourcesFrom Origin

	Status       *Status       // nil where the contract did not say
	Requirements []Requirement // nil where there are none, or the contract did not say

	Warnings []string
}

// Origin says how a part became known.
type Origin string

// The origins.
const (
	FromNowhere Origin = ""
	FromCall    Origin = "call"
	FromEvent   Origin = "event" // verified against the hash that the contract keeps
	FromCache   Origin = "cache" // a verified event, kept from an earlier read and verified again
)

// Read reads one blueprint. The error is an *Error.
//
// The common case is one round trip: a batch of chain id, block number, all views at the latest block, and block number again. Where
// the two numbers agree, no block came between, and the views are of that block. Where they differ, and where the contract has to be
// looked up by chain id first, the views are called by number, in one more round trip. The comparison relies on one node answering the
// batch in order: a service that spreads it over nodes of different height can defeat it. Config.Block does not depend on it.
func Read(ctx context.Context, cfg Config, id uint64) (*Blueprint, error) {
	c, err := newClient(cfg.URLs, cfg.Client, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	r := &reader{cfg: cfg, client: c, blueprint: &Blueprint{ID: id, Block: cfg.Block}}
	if err := r.readViews(ctx); err != nil {
		return nil, err
	}
	r.readEvents(ctx)
	return r.blueprint, nil
}

type reader struct {
	cfg       Config
	client    *client
	blueprint *Blueprint

	definitionHash Word // zero where the contract did not say
	sourcesHash    Word
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

func viewCalls(contract Address, id uint64, block string) []call {
	calls := make([]call, len(views))
	for i, v := range views {
		calls[i] = call{
			method: "eth_call",
			params: []any{map[string]string{"to": contract.String(),
				"data": "0x" + hex.EncodeToString(callData(v.selector, id))}, block},
			required: v.required,
		}
	}
	return calls
}

// readViews reads everything that the contract answers itself.
func (r *reader) readViews(ctx context.Context) error {
	b := r.blueprint
	chainID := call{method: "eth_chainId", required: true}
	head := call{method: "eth_blockNumber"}
	var answers []answer
	switch {
	case r.cfg.Contract != nil && r.cfg.Block != 0:
		b.Contract = *r.cfg.Contract
	case r.cfg.Contract != nil:
		b.Contract = *r.cfg.Contract
		calls := append([]call{chainID, head}, viewCalls(b.Contract, b.ID, "latest")...)
		all, err := r.client.do(ctx, append(calls, head))
		if err != nil {
			return err
		}
		if err := r.setHead(ctx, all[0], all[1]); err != nil {
			return err
		}
		last := all[len(all)-1]
		if after, err := last.quantity(); err == nil && all[1].err == nil && after == b.Block {
			answers = all[2 : len(all)-1]
		}
	default:
		all, err := r.client.do(ctx, []call{chainID, head})
		if err != nil {
			return err
		}
		if err := r.setHead(ctx, all[0], all[1]); err != nil {
			return err
		}
		network, ok := KnownNetwork(b.ChainID)
		if !ok {
			return errorf(ErrUnknownNetwork, "node %s is of chain id %d, for which no contract is known: name its address",
				r.client.nodes[0], b.ChainID)
		}
		b.Contract = network.Contract
	}
	if answers == nil {
		all, err := r.client.do(ctx, append([]call{chainID}, viewCalls(b.Contract, b.ID, quantity(b.Block))...))
		if err != nil {
			return err
		}
		if err := r.setChain(all[0]); err != nil { // it may be another node now
			return err
		}
		answers = all[1:]
	}
	return r.setViews(answers)
}

// setHead takes the chain id, and the block number unless the configuration has one. A node that does not tell its block number is asked for the
// block.
func (r *reader) setHead(ctx context.Context, chainID, head answer) error {
	if err := r.setChain(chainID); err != nil || r.cfg.Block != 0 {
		return err
	}
	if head.err == nil {
		number, err := r.number("eth_blockNumber", head)
		r.blueprint.Block = number
		return err
	}
	const method = "eth_getBlockByNumber"
	answers, err := r.client.do(ctx, []call{{method: method, params: []any{"latest", false}, required: true}})
	if err != nil {
		return err
	}
	if r.blueprint.Block, err = blockMember(answers[0].result, "number"); err != nil {
		return errorf(ErrMalformed, "node %s: answer to %s malformed: %s", r.client.nodes[0], method,
			r.client.nodes[0].malformed(err))
	}
	return nil
}

func (r *reader) setChain(chainID answer) error {
	id, err := r.number("eth_chainId", chainID)
	if err != nil {
		return err
	}
	if want := max(r.cfg.ChainID, r.blueprint.ChainID); want != 0 && id != want {
		return errorf(ErrConfig, "node %s is of chain id %d, and %d is wanted", r.client.nodes[0], id, want)
	}
	r.blueprint.ChainID = id
	return nil
}

func (r *reader) number(method string, a answer) (uint64, error) {
	if a.err != nil { // it is required, so this is a revert, which makes no sense here
		return 0, r.client.nodes[0].rpcError(a.err, method)
	}
	n, err := a.quantity()
	if err != nil {
		return 0, errorf(ErrMalformed, "node %s: answer to %s malformed: %s", r.client.nodes[0], method,
			r.client.nodes[0].malformed(err))
	}
	return n, nil
}

// setViews decodes what the views returned. Only the definition has to be there.
func (r *reader) setViews(answers []answer) error {
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

func (r *reader) setDefinition(a answer) error {
	b := r.blueprint
	place := fmt.Sprintf("contract %s on chain id %d", b.Contract, b.ChainID)
	if a.err != nil {
		if a.err.selector() == errBlueprintNotFound {
			return errorf(ErrBlueprintNotFound, "blueprint %d is not found in %s", b.ID, place)
		}
		scrubbed := r.client.nodes[0].rpcError(a.err, views[0].name).RPC
		if a.err.selector() == errUnknownSelector {
			return errorf(ErrGeneration, "%s has no %s: its generation is not understood", place, views[0].name)
		}
		return errorf(ErrGeneration, "%s reverts %s: it is no Tangle contract, or of a generation that is not understood: %w", place, views[0].name, scrubbed)
	}
	data, err := a.bytes()
	if err != nil {
		return errorf(ErrMalformed, "node %s: answer to %s malformed: %w", r.client.nodes[0], views[0].name, err)
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

// optional returns what an optional view returned. A contract that does not have it is of an older generation, which is worth no warning.
func (r *reader) optional(answers []answer, i int) ([]byte, bool) {
	a := answers[i]
	if a.err != nil {
		if !a.err.reverted() {
			r.warn("%v", r.client.nodes[0].rpcError(a.err, views[i].name))
		}
		return nil, false
	}
	data, err := a.bytes()
	if err != nil {
		r.warnMalformed(views[i].name, err)
	}
	return data, len(data) > 0
}

// hash returns what an optional view of a hash returned, zero where it did not.
func (r *reader) hash(answers []answer, i int) Word {
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

// hasNames reports whether the contract returned the jobs' names. Contracts from 0.18 on return none of them.
func hasNames(def *Definition) bool {
	for i := range def.Jobs {
		if def.Jobs[i].Name != "" {
			return true
		}
	}
	return len(def.Jobs) == 0
}
