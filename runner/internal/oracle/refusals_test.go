package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
)

// reply is the part of an answer that a client may act on.
type reply struct {
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
	}
}

// post sends a body as it is, and returns the status of HTTP and what kind of answer came.
func (w *world) post(body string) (status int, r reply) {
	w.Helper()
	response, err := http.Post(w.url, "application/json", strings.NewReader(body))
	must(w.T, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(w.T, err)
	if len(raw) > 0 && raw[0] == '[' {
		var list []reply
		must(w.T, json.Unmarshal(raw, &list))
		return response.StatusCode, list[0]
	}
	if json.Unmarshal(raw, &r) != nil {
		return response.StatusCode, reply{}
	}
	return response.StatusCode, r
}

func (w *world) rpc(method string, params ...any) reply {
	w.Helper()
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	must(w.T, err)
	_, r := w.post(string(body))
	return r
}

// stricter are the questions that anvil answers and the model refuses, as go-ethereum does.
var stricter = []string{
	"eth_getBlockByNumber[0x01 false]", "eth_call[map[data:5c975abb to:CONTRACT] latest]", "less gas than the floor",
	"more gas than a transaction may have", "too large", "eth_feeHistory[0x2 0x77777 [50]]",
}

// kind is an answer without what differs between chains: the code of an error and the beginning of
// its message, or the shape of a result.
func (r reply) kind() string {
	if r.Error != nil {
		message, _, _ := strings.Cut(r.Error.Message, ":")
		message, _, _ = strings.Cut(message, " (")
		return fmt.Sprintf("error %d %s", r.Error.Code, message)
	}
	return "result " + shape(r.Result)
}

// malformed reports whether both say that the question is malformed: anvil has many words for it.
func malformed(a, b reply) bool {
	const request, params = -32600, -32602
	return a.Error != nil && b.Error != nil && a.Error.Code == b.Error.Code &&
		(a.Error.Code == request || a.Error.Code == params)
}

func shape(raw json.RawMessage) string {
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch raw = bytes.TrimSpace(raw); {
	case len(raw) == 0:
		return "missing"
	case raw[0] == '{':
		mustParse(json.Unmarshal(raw, &object))
		return fmt.Sprint(slices.Sorted(maps.Keys(object)))
	case raw[0] == '[':
		mustParse(json.Unmarshal(raw, &list))
		if len(list) == 0 {
			return "[]"
		}
		return "[" + shape(list[0]) + "...]"
	case raw[0] == '"' && len(raw) > 20:
		return "long text"
	case raw[0] == '"':
		return "text"
	}
	return string(raw)
}

func mustParse(err error) {
	if err != nil {
		panic(err)
	}
}

// dynamic signs a transaction with go-ethereum.
func (w *world) dynamic(account int, change func(*types.DynamicFeeTx)) string {
	w.Helper()
	key, err := crypto.ToECDSA(devchain.Key(account))
	must(w.T, err)
	id, err := w.client.ChainID(w.Context())
	must(w.T, err)
	const gwei = 1_000_000_000
	to := common.Address(devchain.Account(9))
	tx := &types.DynamicFeeTx{ChainID: id, GasTipCap: big.NewInt(gwei), GasFeeCap: big.NewInt(10 * gwei), Gas: 21_000,
		To: &to, Value: new(big.Int)}
	change(tx)
	signed, err := types.SignNewTx(key, types.LatestSignerForChainID(tx.ChainID), tx)
	must(w.T, err)
	raw, err := signed.MarshalBinary()
	must(w.T, err)
	return hexutil.Encode(raw)
}

// question is one that is asked of a model and of the real node.
type question struct {
	name string
	ask  func(w *world) reply
}

func questions() (list []question) {
	body := func(text string) {
		list = append(list, question{name: text, ask: func(w *world) reply { _, r := w.post(text); return r }})
	}
	call := func(method string, params ...any) {
		list = append(list, question{name: fmt.Sprint(method, params), ask: func(w *world) reply {
			own := make([]any, len(params))
			for i, p := range params { // CONTRACT stands for the contract
				raw, err := json.Marshal(p)
				must(w.T, err)
				own[i] = json.RawMessage(strings.ReplaceAll(string(raw), "CONTRACT", w.contract.Hex()))
			}
			return w.rpc(method, own...)
		}})
	}
	body(`{`)
	body(`[]`)
	body(`{"jsonrpc":"2.0","id":1}`)
	hash := common.BigToHash(big.NewInt(170)).Hex()
	for _, method := range []string{"eth_chainId", "eth_blockNumber", "eth_gasPrice", "eth_maxPriorityFeePerGas",
		"net_version", "web3_clientVersion", "eth_syncing", "eth_nosuch"} {
		call(method)
	}
	call("eth_getBlockByNumber", "latest", false)
	call("eth_getBlockByNumber", "0x77777", false)
	call("eth_getBlockByNumber", "earliest", false)
	call("eth_getBlockByNumber", "0x01", false)
	call("eth_getBlockByNumber", "newest", false)
	call("eth_getBlockByNumber")
	call("eth_getBlockByHash", hash, false)
	call("eth_getBlockByHash", "0xaa", false)
	call("eth_getTransactionReceipt", hash)
	call("eth_getTransactionReceipt", "0xaa")
	call("eth_getTransactionByHash", hash)
	call("eth_getBalance", "CONTRACT", "latest")
	call("eth_getBalance", "CONTRACT", "0x77777")
	call("eth_getBalance", "0x12", "latest")
	call("eth_getTransactionCount", "CONTRACT", "pending")
	call("eth_getCode", "CONTRACT", "latest")
	call("eth_feeHistory", "0x2", "latest", []float64{50})
	call("eth_feeHistory", "0x2", "0x77777", []float64{50})
	to := func(data string) map[string]any { return map[string]any{"to": "CONTRACT", "data": data} }
	call("eth_call", to("0x5c975abb"), "latest")
	call("eth_call", to("0x5c975abb"), "0x77777")
	call("eth_call", to("0x5c975ab"), "latest")
	call("eth_call", to("5c975abb"), "latest")
	call("eth_call", to("0x01020304"), "latest")
	call("eth_call", to("0x3dc0d5fe"), "latest")
	call("eth_call", map[string]any{"to": "0x00000000000000000000000000000000000000aa", "data": "0x3dc0d5fe"}, "latest")
	call("eth_call", map[string]any{"to": "CONTRACT", "data": "0x5c975abb", "input": "0x01020304"}, "latest")
	call("eth_call", to("0x5c975abb"), map[string]any{"blockHash": hash})
	call("eth_estimateGas", to("0x01020304"))
	call("eth_estimateGas", map[string]any{"to": "CONTRACT", "data": "0x5c975abb", "gas": "0x5300"})
	call("eth_estimateGas", map[string]any{"to": "CONTRACT", "data": "0x5c975abb", "value": "0x1000000000000000000000000"})
	logs := func(filter map[string]any) { call("eth_getLogs", filter) }
	logs(map[string]any{"address": "CONTRACT", "fromBlock": "0x0", "toBlock": "latest"})
	logs(map[string]any{"address": []any{"CONTRACT"}, "fromBlock": "0x0", "toBlock": "latest",
		"topics": []any{nil, []any{hash}}})
	logs(map[string]any{"fromBlock": "0x77777", "toBlock": "0x77778"})
	logs(map[string]any{"fromBlock": "0x2", "toBlock": "0x1"})
	logs(map[string]any{"fromBlock": "0x1", "toBlock": "0x77778", "address": "CONTRACT"})
	logs(map[string]any{"blockHash": hash})
	logs(map[string]any{"blockHash": hash, "fromBlock": "0x1"})
	logs(map[string]any{"address": "0xaa"})
	logs(map[string]any{"topics": []any{"0xaa"}})
	logs(map[string]any{"topics": []any{nil, nil, nil, nil, nil}})

	// Account 5 keeps a gap before its transactions, so that they stay in the pool.
	send := func(name string, account int, change func(w *world, tx *types.DynamicFeeTx)) {
		list = append(list, question{name: name, ask: func(w *world) reply {
			return w.rpc("eth_sendRawTransaction", w.dynamic(account, func(tx *types.DynamicFeeTx) { change(w, tx) }))
		}})
	}
	queued := func(_ *world, tx *types.DynamicFeeTx) { tx.Nonce = 3 }
	send("queued", 5, queued)
	send("known", 5, queued)
	send("replaced at the same price", 5, func(_ *world, tx *types.DynamicFeeTx) { tx.Nonce, tx.Value = 3, big.NewInt(1) })
	send("replaced at a higher price", 5, func(_ *world, tx *types.DynamicFeeTx) {
		two := big.NewInt(2)
		tx.Nonce, tx.GasTipCap, tx.GasFeeCap = 3, two.Mul(two, tx.GasTipCap), new(big.Int).Mul(tx.GasFeeCap, big.NewInt(2))
	})
	send("used nonce", 0, func(_ *world, tx *types.DynamicFeeTx) {})
	send("other chain", 5, func(_ *world, tx *types.DynamicFeeTx) { tx.ChainID = big.NewInt(99) })
	send("tip above cap", 5, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.GasTipCap = 4, new(big.Int).Add(tx.GasFeeCap, big.NewInt(1))
	})
	send("cap below the base fee", 5, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.GasTipCap, tx.GasFeeCap = 5, big.NewInt(1), big.NewInt(1)
	})
	send("too little gas", 5, func(_ *world, tx *types.DynamicFeeTx) { tx.Nonce, tx.Gas = 6, 20_000 })
	send("less gas than the floor", 5, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.Gas, tx.Data = 7, 200_000, bytes.Repeat([]byte{1}, 10_000)
	})
	send("more gas than a transaction may have", 5, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.Gas = 8, 1<<24+1
	})
	send("too much of a fee", 6, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.Gas, tx.GasFeeCap = 3, 16_000_000, big.NewInt(100*params.GWei)
	})
	send("too poor", 5, func(_ *world, tx *types.DynamicFeeTx) { tx.Nonce, tx.Value = 9, ether(1_000_000) })
	send("too large", 5, func(_ *world, tx *types.DynamicFeeTx) {
		tx.Nonce, tx.Gas, tx.Data = 10, 16_000_000, make([]byte, 131_072)
	})
	call("eth_sendRawTransaction", "0x")
	call("eth_sendRawTransaction", "0x02c0")
	call("eth_sendRawTransaction", "0xzz")
	call("eth_sendRawTransaction")
	return list
}

// TestNodesOfTheModelAnswerAsRealOnes compares the model's two kinds of nodes with the real ones.
func TestNodesOfTheModelAnswerAsRealOnes(t *testing.T) {
	for name, node := range map[string]func(*devchain.Chain) *devchain.Node{
		"go-ethereum": (*devchain.Chain).GethNode, "anvil": (*devchain.Chain).Node,
	} {
		t.Run(name, func(t *testing.T) {
			real := worlds[name](t)
			c := devchain.New(devchain.Config{})
			t.Cleanup(c.Close)
			url, err := node(c).Listen()
			must(t, err)
			model := &world{T: t, name: "model", url: url, contract: common.Address(devchain.Contract)}
			model.dial()
			for _, w := range []*world{real, model} {
				w.call(0, "submitJob(uint64,uint8,bytes)", uint64(0), uint8(0), []byte("in"))
			}
			c.Mine(2) // the real node has two more, which created the contract
			for _, q := range questions() {
				answer, modelled := q.ask(real), q.ask(model)
				refused := modelled.Error != nil && slices.Contains(stricter, q.name)
				if name == "anvil" && (refused || malformed(answer, modelled)) {
					continue
				}
				if want, got := answer.kind(), modelled.kind(); want != got {
					t.Errorf("%s:\nreal  %s\nmodel %s", q.name, want, got)
				}
			}
		})
	}
}
