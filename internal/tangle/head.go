package tangle

import (
	"context"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// Head describes a node's chain and the contract at this moment.
type Head struct {
	Node    string // scheme and host, without secrets
	ChainID uint64
	Network string // the name of a known network, or empty
	Block   uint64 // the latest
	Time    time.Time

	Contract Address // the configured one, or else the known one of the chain; zero if there is neither
	Code     bool    // whether there is code at the contract's address
}

// ReadHead asks a node for the id and the latest block of its chain, and whether the contract
// exists. It uses only URLs, Contract, ChainID, Client and Timeout of the configuration. The error
// is an *Error. A missing contract is not an error, and neither is a chain without a known
// contract.
func ReadHead(ctx context.Context, cfg Config) (*Head, error) {
	r, err := newReader(cfg)
	if err != nil {
		return nil, err
	}
	calls := []rpc.Call{{Method: "eth_chainId", Required: true},
		{Method: "eth_getBlockByNumber", Params: []any{"latest", false}, Required: true}}
	if cfg.Contract != nil {
		calls = append(calls, codeCall(*cfg.Contract))
	}
	answers, err := r.do(ctx, calls)
	if err != nil {
		return nil, err
	}
	if err := r.setChain(answers[0]); err != nil {
		return nil, err
	}
	h := &Head{Node: r.nodes[0].String(), ChainID: r.blueprint.ChainID}
	known, isKnown := KnownNetwork(h.ChainID)
	h.Network = known.Name
	number, err := blockMember(answers[1].Result, "number")
	seconds, timeErr := blockMember(answers[1].Result, "timestamp")
	if err == nil {
		err = timeErr
	}
	if err != nil {
		return nil, nodeError(r.nodes[0].Malformed("eth_getBlockByNumber", err))
	}
	h.Block, h.Time = number, time.Unix(int64(min(seconds, 1<<40)), 0)
	switch {
	case cfg.Contract != nil:
		h.Contract = *cfg.Contract
		h.Code = hasCode(answers[2])
	case isKnown:
		h.Contract = known.Contract
		if answers, err = r.do(ctx, []rpc.Call{codeCall(h.Contract)}); err != nil {
			return nil, err
		}
		h.Code = hasCode(answers[0])
	}
	return h, nil
}

func codeCall(contract Address) rpc.Call {
	return rpc.Call{Method: "eth_getCode", Params: []any{contract.String(), "latest"}, Required: true}
}

func hasCode(a rpc.Answer) bool {
	code, err := a.Bytes()
	return a.Err == nil && err == nil && len(code) > 0
}
