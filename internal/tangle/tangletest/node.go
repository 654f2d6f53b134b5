package tangletest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// Blueprint is a blueprint in the contract. A nil answer means that the facet with that view is
// not installed.
type Blueprint struct {
	Definition     []byte // result of getBlueprintDefinition
	Status         []byte // result of getBlueprint
	Requirements   []byte // result of getBlueprintResourceRequirements
	DefinitionHash []byte // result of blueprintDefinitionHash
	SourcesHash    []byte // result of blueprintSourcesHash
}

// Log is an event on the chain.
type Log struct {
	Block   uint64
	Address tangle.Address
	Topics  []tangle.Word
	Data    []byte
}

// The topics of the events.
const (
	TopicDefinition = "e0bc1e42405ffea94dcef03a915081f9674bc9eea38d46bad147b5cce7438e3e"
	TopicSources    = "68554f1241fea0bb1dd1abad2eef6cb250c1de4ed6404474c046251ccc3ca64c"
)

// Topic returns an event's topic from its digits.
func Topic(digits string) (w tangle.Word) {
	_, _ = hex.Decode(w[:], []byte(digits)) // the digits are constants
	return w
}

// ID returns a blueprint's id as a topic.
func ID(id uint64) (w tangle.Word) {
	copy(w[:], number(id).head)
	return w
}

// Node simulates a JSON-RPC node whose chain has one contract. Its fields must be set before it
// serves.
type Node struct {
	ChainID    uint64
	Block      uint64
	Contract   tangle.Address
	Blueprints map[uint64]*Blueprint
	Logs       []Log
	// BlockTime returns the time of a block. If it is nil, a block takes 2 seconds.
	BlockTime func(block uint64) uint64
	// MaxLogRange limits how many blocks a query for logs may span; 0 means no limit.
	MaxLogRange uint64
	// NoBatch makes the node refuse batches, as simple servers do.
	NoBatch bool
	// Before is called before each call, never concurrently. It may change the node.
	Before func(n *Node, method string)

	mu       sync.Mutex
	requests int
	calls    []string
}

// Requests returns how many HTTP requests were answered, and their calls in order, each with
// method and block.
func (n *Node) Requests() (int, []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.requests, append([]string(nil), n.calls...)
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data,omitempty"`
}

type rpcCall struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

// ServeHTTP answers a call or a batch of calls.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "POST a JSON-RPC call", http.StatusMethodNotAllowed)
		return
	}
	var reply any
	if strings.HasPrefix(strings.TrimSpace(string(body)), "[") {
		var calls []rpcCall
		switch err := json.Unmarshal(body, &calls); {
		case err != nil:
			reply = answer(nil, nil, &rpcError{Code: -32700, Message: "parse error"})
		case n.NoBatch:
			reply = answer(nil, nil, &rpcError{Code: -32600, Message: "batches are not supported"})
		default:
			replies := make([]any, len(calls))
			for i, c := range calls { // in reverse order: clients must not rely on the order
				replies[len(calls)-1-i] = n.reply(c)
			}
			reply = replies
		}
	} else {
		var c rpcCall
		if err := json.Unmarshal(body, &c); err != nil {
			reply = answer(nil, nil, &rpcError{Code: -32700, Message: "parse error"})
		} else {
			reply = n.reply(c)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply) // the client may be gone
}

func answer(id json.RawMessage, result any, err *rpcError) any {
	if id == nil {
		id = json.RawMessage("null")
	}
	reply := map[string]any{"jsonrpc": "2.0", "id": id}
	if err != nil {
		reply["error"] = err
	} else {
		reply["result"] = result
	}
	return reply
}

func (n *Node) reply(c rpcCall) any {
	if n.Before != nil {
		n.Before(n, c.Method)
	}
	trace := c.Method
	var block string
	if len(c.Params) > 0 && json.Unmarshal(c.Params[len(c.Params)-1], &block) == nil {
		trace += " " + block
	}
	n.calls = append(n.calls, trace)
	result, err := n.call(c)
	return answer(c.ID, result, err)
}

func (n *Node) call(c rpcCall) (any, *rpcError) {
	switch c.Method {
	case "eth_chainId":
		return hexNumber(n.ChainID), nil
	case "eth_blockNumber":
		return hexNumber(n.Block), nil
	case "eth_getBlockByNumber":
		return n.block(c.Params)
	case "eth_getCode":
		var address, tag string
		if len(c.Params) != 2 || json.Unmarshal(c.Params[0], &address) != nil || json.Unmarshal(c.Params[1], &tag) != nil {
			return nil, &rpcError{Code: -32602, Message: "invalid params"}
		}
		if to, err := tangle.ParseAddress(address); err != nil || to != n.Contract {
			return "0x", nil
		}
		return "0x6080604052", nil
	case "eth_getLogs":
		return n.logs(c.Params)
	case "eth_call":
		return n.ethCall(c.Params)
	}
	return nil, &rpcError{Code: -32601, Message: "the method " + c.Method + " does not exist/is not available"}
}

func hexNumber(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

func parseNumber(s string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
}

func (n *Node) block(params []json.RawMessage) (any, *rpcError) {
	var tag string
	if len(params) != 2 || json.Unmarshal(params[0], &tag) != nil {
		return nil, &rpcError{Code: -32602, Message: "invalid params"}
	}
	at, err := parseNumber(tag)
	if tag == "latest" {
		at, err = n.Block, nil
	}
	if err != nil || at > n.Block {
		return nil, nil
	}
	seconds := at * 2
	if n.BlockTime != nil {
		seconds = n.BlockTime(at)
	}
	return map[string]any{"number": hexNumber(at), "timestamp": hexNumber(seconds), "transactions": []string{}}, nil
}

func (n *Node) ethCall(params []json.RawMessage) (any, *rpcError) {
	var msg struct{ To, Data, Input string } // clients use either name
	var tag string
	if len(params) != 2 || json.Unmarshal(params[0], &msg) != nil || json.Unmarshal(params[1], &tag) != nil {
		return nil, &rpcError{Code: -32602, Message: "invalid params"}
	}
	if tag != "latest" {
		if at, err := parseNumber(tag); err != nil || at > n.Block {
			return nil, &rpcError{Code: -32000, Message: "header not found"}
		}
	}
	if to, err := tangle.ParseAddress(msg.To); err != nil || to != n.Contract {
		return "0x", nil // no code there
	}
	data, err := hex.DecodeString(strings.TrimPrefix(msg.Data+msg.Input, "0x"))
	if err != nil || len(data) != 4+wordSize {
		return nil, &rpcError{Code: 3, Message: "execution reverted", Data: "0x"}
	}
	id, _ := parseNumber(hex.EncodeToString(data[len(data)-8:]))
	b := n.Blueprints[id]
	selector := hex.EncodeToString(data[:4])
	if b == nil {
		switch selector {
		case "b7696dbb": // getBlueprint
			return "0x" + hex.EncodeToString(EncodeStatus(tangle.Status{})), nil
		case "349e961a":
			return "0x" + hex.EncodeToString(EncodeRequirements(nil)), nil
		case "35257ef4", "8f78b256":
			return "0x" + strings.Repeat("00", wordSize), nil
		}
		return nil, &rpcError{Code: 3, Message: "execution reverted", Data: "0x5fd248ec" + hex.EncodeToString(data[4:])}
	}
	result := map[string][]byte{
		"6171fea8": b.Definition, "b7696dbb": b.Status, "349e961a": b.Requirements, "35257ef4": b.DefinitionHash,
		"8f78b256": b.SourcesHash,
	}[selector]
	if result == nil {
		return nil, &rpcError{Code: 3, Message: "execution reverted",
			Data: "0xc2a825f5" + selector + strings.Repeat("00", wordSize-4)}
	}
	return "0x" + hex.EncodeToString(result), nil
}

func (n *Node) logs(params []json.RawMessage) (any, *rpcError) {
	var filter struct {
		FromBlock, ToBlock string
		Topics             []json.RawMessage
	}
	if len(params) != 1 || json.Unmarshal(params[0], &filter) != nil {
		return nil, &rpcError{Code: -32602, Message: "invalid params"}
	}
	from, err1 := parseNumber(filter.FromBlock)
	to, err2 := parseNumber(filter.ToBlock)
	if err1 != nil || err2 != nil || from > to {
		return nil, &rpcError{Code: -32602, Message: "invalid block range"}
	}
	if n.MaxLogRange != 0 && to-from+1 > n.MaxLogRange {
		return nil, &rpcError{Code: -32602, Message: fmt.Sprintf("block range is limited to %d", n.MaxLogRange)}
	}
	n.calls[len(n.calls)-1] += fmt.Sprintf(" %d-%d", from, to)
	logs := []any{}
	for i, log := range n.Logs {
		if log.Block < from || log.Block > to || !matches(log.Topics, filter.Topics) {
			continue
		}
		topics := make([]string, len(log.Topics))
		for j, topic := range log.Topics {
			topics[j] = topic.String()
		}
		logs = append(logs, map[string]any{
			"address": log.Address.String(), "topics": topics, "data": "0x" + hex.EncodeToString(log.Data),
			"blockNumber": hexNumber(log.Block), "logIndex": hexNumber(uint64(i)), "removed": false,
		})
	}
	return logs, nil
}

// matches reports whether topics match a filter: null for any, a topic, or a list of alternatives.
func matches(topics []tangle.Word, filter []json.RawMessage) bool {
	if len(filter) > len(topics) {
		return false
	}
	for i, raw := range filter {
		var one string
		var several []string
		switch {
		case string(raw) == "null":
			continue
		case json.Unmarshal(raw, &one) == nil:
			several = []string{one}
		case json.Unmarshal(raw, &several) != nil:
			return false
		}
		found := false
		for _, want := range several {
			found = found || strings.EqualFold(want, topics[i].String())
		}
		if !found {
			return false
		}
	}
	return true
}
