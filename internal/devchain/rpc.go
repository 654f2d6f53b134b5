package devchain

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// look is what one call of a node sees of the chain. The chain is locked meanwhile.
type look struct {
	*Chain
	node   *Node
	faults Faults
	top    uint64 // the number of the node's latest block
}

// call answers one call.
func (n *Node) call(name string, params []json.RawMessage, faults Faults) (any, error) {
	c := n.chain
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &look{Chain: c, node: n, faults: faults, top: c.head().number - min(faults.Lag, c.head().number)}
	run, known := rpcMethods[name]
	if !known {
		message := "Method not found"
		if n.geth {
			message = "the method " + name + " does not exist/is not available"
		}
		return nil, &rpcError{Code: -32601, Message: message}
	}
	return run(l, params)
}

var rpcMethods = map[string]func(l *look, params []json.RawMessage) (any, error){
	"eth_chainId":               plain(func(l *look) any { return quantity(l.id) }),
	"net_version":               plain(func(l *look) any { return strconv.FormatUint(l.id, 10) }),
	"web3_clientVersion":        plain(func(l *look) any { return l.version() }),
	"eth_syncing":               plain(func(*look) any { return false }),
	"eth_blockNumber":           plain(func(l *look) any { return quantity(l.top) }),
	"eth_maxPriorityFeePerGas":  plain(func(*look) any { return quantity(gwei) }),
	"eth_gasPrice":              plain(func(l *look) any { return l.gasPrice() }),
	"eth_getBalance":            getBalance,
	"eth_getTransactionCount":   getTransactionCount,
	"eth_getCode":               getCode,
	"eth_getBlockByNumber":      getBlockByNumber,
	"eth_getBlockByHash":        getBlockByHash,
	"eth_getTransactionReceipt": getTransactionReceipt,
	"eth_getTransactionByHash":  getTransactionByHash,
	"eth_getLogs":               getLogs,
	"eth_call":                  ethCall,
	"eth_estimateGas":           estimateGas,
	"eth_sendRawTransaction":    sendRawTransaction,
	"eth_feeHistory":            feeHistory,
}

func (l *look) gasPrice() string {
	return amount(new(big.Int).Add(l.blocks[l.top].baseFee, big.NewInt(gwei)))
}

func (l *look) version() string {
	if l.node.geth {
		return "Geth/v1.17.10-stable/linux-amd64/go1.26"
	}
	return "anvil/v1.7.1"
}

func plain(value func(l *look) any) func(*look, []json.RawMessage) (any, error) {
	return func(l *look, params []json.RawMessage) (any, error) {
		if len(params) > 0 {
			return nil, invalid("too many arguments, want at most 0")
		}
		return value(l), nil
	}
}

func invalid(format string, args ...any) error {
	return &rpcError{Code: -32602, Message: fmt.Sprintf(format, args...)}
}

func quantity(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

func amount(v *big.Int) string { return "0x" + v.Text(16) }

func hexBytes(b []byte) string { return "0x" + hex.EncodeToString(b) }

// parse parses parameters; those beyond the needed ones may be missing.
func parse(params []json.RawMessage, needed int, into ...any) error {
	if len(params) > len(into) {
		return invalid("too many arguments, want at most %d", len(into))
	}
	for i, target := range into {
		missing := i >= len(params) || string(params[i]) == "null"
		switch {
		case missing && i < needed:
			return invalid("missing value for required argument %d", i)
		case missing:
			continue
		}
		if err := json.Unmarshal(params[i], target); err != nil {
			return invalid("invalid argument %d: %v", i, err)
		}
	}
	return nil
}

// The types of parameters. They take what real nodes take, and no more.
type (
	hexAddress Address
	hexHash    Word
	hexData    []byte
	hexUint    uint64
	hexBig     struct{ *big.Int }
)

func digits(raw []byte, what string) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s must be a string", what)
	}
	if !strings.HasPrefix(s, "0x") {
		return "", fmt.Errorf("hex string without 0x prefix for %s", what)
	}
	return s[2:], nil
}

func fixed(raw []byte, into []byte, what string) error {
	s, err := digits(raw, what)
	if err != nil {
		return err
	}
	if len(s) != 2*len(into) {
		return fmt.Errorf("hex string has length %d, want %d for %s", len(s), 2*len(into), what)
	}
	_, err = hex.Decode(into, []byte(s))
	return err
}

func (a *hexAddress) UnmarshalJSON(raw []byte) error { return fixed(raw, a[:], "address") }
func (w *hexHash) UnmarshalJSON(raw []byte) error    { return fixed(raw, w[:], "hash") }

func (d *hexData) UnmarshalJSON(raw []byte) error {
	s, err := digits(raw, "data")
	if err == nil {
		*d, err = hex.DecodeString(s)
	}
	return err
}

func (u *hexUint) UnmarshalJSON(raw []byte) error {
	s, err := digits(raw, "quantity")
	if err != nil {
		return err
	}
	v, err := parseUint("0x" + s)
	*u = hexUint(v)
	return err
}

func (b *hexBig) UnmarshalJSON(raw []byte) error {
	s, err := digits(raw, "quantity")
	if err != nil {
		return err
	}
	v, ok := new(big.Int).SetString(s, 16)
	if !ok || s == "" || s[0] == '-' || s[0] == '+' || len(s) > 1 && s[0] == '0' || len(s) > 64 {
		return fmt.Errorf("%q is not a hexadecimal number", s)
	}
	b.Int = v
	return nil
}

// blockRef names a block: by a tag, by number, or by hash in an object.
type blockRef struct {
	tag    string
	number uint64
	hash   *Word
}

func (b *blockRef) UnmarshalJSON(raw []byte) error {
	*b = blockRef{}
	if bytes.HasPrefix(raw, []byte("{")) {
		var object struct {
			BlockHash   *hexHash
			BlockNumber *hexUint
		}
		if err := json.Unmarshal(raw, &object); err != nil {
			return err
		}
		switch {
		case object.BlockHash != nil && object.BlockNumber == nil:
			b.hash = (*Word)(object.BlockHash)
		case object.BlockNumber != nil && object.BlockHash == nil:
			b.number = uint64(*object.BlockNumber)
		default:
			return errors.New("a block is named by its hash or by its number")
		}
		return nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return errors.New("a block must be a string or an object")
	}
	switch s {
	case "latest", "earliest", "pending", "safe", "finalized":
		b.tag = s
		return nil
	}
	var err error
	b.number, err = parseUint(s)
	return err
}

const (
	safeDepth      = 32
	finalizedDepth = 64
)

// resolve returns the number of a block, which the node may not have.
func (l *look) resolve(b blockRef) (uint64, bool) {
	if b.hash != nil {
		found := l.byHash[*b.hash]
		return l.numberOf(found)
	}
	switch b.tag {
	case "":
		return b.number, b.number <= l.top
	case "earliest":
		return 0, true
	case "safe":
		return l.top - min(safeDepth, l.top), true
	case "finalized":
		return l.top - min(finalizedDepth, l.top), true
	}
	return l.top, true
}

func (l *look) numberOf(b *block) (uint64, bool) {
	if b == nil || b.number > l.top {
		return 0, false
	}
	return b.number, true
}

// stateAt returns the block whose state is asked for.
func (l *look) stateAt(b blockRef) (*block, error) {
	number, ok := l.resolve(b)
	switch {
	case !ok && l.node.geth && b.hash != nil:
		return nil, &rpcError{Code: -32000, Message: "header for hash not found"}
	case !ok && l.node.geth:
		return nil, &rpcError{Code: -32000, Message: "header not found"}
	case !ok && b.hash != nil:
		return nil, &rpcError{Code: -32001, Message: "Resource not found"}
	case !ok:
		return nil, outOfRange(l.top, number)
	}
	return l.blocks[number], nil
}

func outOfRange(top, asked uint64) error {
	return invalid("BlockOutOfRangeError: block height is %d but requested was %d", top, asked)
}

func getBalance(l *look, params []json.RawMessage) (any, error) {
	var account hexAddress
	at := blockRef{tag: "latest"}
	if err := parse(params, 1, &account, &at); err != nil {
		return nil, err
	}
	b, err := l.stateAt(at)
	if err != nil {
		return nil, err
	}
	f := l.frame(b.number, b.number, b.time, Address{}, nil, 0)
	return amount(f.balance(Address(account))), nil
}

func getTransactionCount(l *look, params []json.RawMessage) (any, error) {
	var account hexAddress
	at := blockRef{tag: "latest"}
	if err := parse(params, 1, &account, &at); err != nil {
		return nil, err
	}
	b, err := l.stateAt(at)
	if err != nil {
		return nil, err
	}
	if at.tag == "pending" {
		return quantity(l.pendingNonce(Address(account))), nil
	}
	return quantity(l.nonceAt(Address(account), b.number)), nil
}

func getCode(l *look, params []json.RawMessage) (any, error) {
	var account hexAddress
	at := blockRef{tag: "latest"}
	if err := parse(params, 1, &account, &at); err != nil {
		return nil, err
	}
	if _, err := l.stateAt(at); err != nil {
		return nil, err
	}
	if _, isContract := l.methodsAt(Address(account)); !isContract {
		return "0x", nil
	}
	return "0x60806040526004361015610011575f80fd5b5f3560e01c80", nil // the beginning of some contract
}

func getBlockByNumber(l *look, params []json.RawMessage) (any, error) {
	var at blockRef
	var full bool
	if err := parse(params, 2, &at, &full); err != nil {
		return nil, err
	}
	number, ok := l.resolve(at)
	if !ok {
		return nil, nil
	}
	return l.blockJSON(l.blocks[number], full), nil
}

func getBlockByHash(l *look, params []json.RawMessage) (any, error) {
	var hash hexHash
	var full bool
	if err := parse(params, 2, &hash, &full); err != nil {
		return nil, err
	}
	number, ok := l.numberOf(l.byHash[Word(hash)])
	if !ok {
		return nil, nil
	}
	return l.blockJSON(l.blocks[number], full), nil
}

const noUncles = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"

func (l *look) blockJSON(b *block, full bool) any {
	zero := Word{}.String()
	txs := make([]any, len(b.receipts))
	var bloom bloom
	for i, r := range b.receipts {
		if txs[i] = any(r.tx.hash.String()); full {
			txs[i] = l.transactionJSON(r.tx, r)
		}
		bloom.add(r.logs)
	}
	out := map[string]any{
		"hash": b.hash.String(), "parentHash": b.parent.String(), "sha3Uncles": noUncles,
		"miner": Address{}.String(), "stateRoot": zero, "transactionsRoot": zero, "receiptsRoot": zero,
		"logsBloom": bloom.String(), "difficulty": "0x0", "number": quantity(b.number),
		"gasLimit": quantity(blockGas), "gasUsed": quantity(b.gasUsed), "timestamp": quantity(b.time),
		"extraData": "0x", "mixHash": zero, "nonce": "0x0000000000000000", "baseFeePerGas": amount(b.baseFee),
		"withdrawalsRoot": zero, "blobGasUsed": "0x0", "excessBlobGas": "0x0", "parentBeaconBlockRoot": zero,
		"size": "0x220", "uncles": []any{}, "transactions": txs, "withdrawals": []any{}, "requestsHash": zero,
	}
	if !l.node.geth {
		out["totalDifficulty"] = "0x0"
	}
	return out
}

// bloom is the filter of a block's or a receipt's logs.
type bloom [256]byte

func (b *bloom) add(logs []Log) {
	for _, l := range logs {
		b.set(l.Address[:])
		for _, t := range l.Topics {
			b.set(t[:])
		}
	}
}

func (b *bloom) set(item []byte) {
	hash := tangle.Keccak256(item)
	for i := 0; i < 6; i += 2 {
		bit := (uint(hash[i])<<8 | uint(hash[i+1])) & 2047
		b[255-bit/8] |= 1 << (bit % 8)
	}
}

func (b *bloom) String() string { return hexBytes(b[:]) }

func getTransactionReceipt(l *look, params []json.RawMessage) (any, error) {
	var hash hexHash
	if err := parse(params, 1, &hash); err != nil {
		return nil, err
	}
	r := l.receipts[Word(hash)]
	if r == nil || r.block.number > l.top {
		return nil, nil
	}
	logs := make([]any, len(r.logs))
	for i := range r.logs {
		logs[i] = logJSON(r, i)
	}
	var bloom bloom
	bloom.add(r.logs)
	status := "0x0"
	if r.succeeded {
		status = "0x1"
	}
	out := map[string]any{
		"type": "0x2", "status": status, "cumulativeGasUsed": quantity(r.cumulative), "logs": logs,
		"logsBloom": bloom.String(), "transactionHash": r.tx.hash.String(), "transactionIndex": quantity(uint64(r.index)),
		"blockHash": r.block.hash.String(), "blockNumber": quantity(r.block.number), "gasUsed": quantity(r.used),
		"effectiveGasPrice": amount(r.price), "from": r.tx.from.String(), "to": r.tx.recipient(), "contractAddress": nil,
	}
	if !l.node.geth {
		out["blobGasPrice"], out["blockTimestamp"] = "0x1", r.block.time // a plain number
	}
	return out, nil
}

func (tx *transaction) recipient() any {
	if tx.to == nil {
		return nil
	}
	return tx.to.String()
}

func logJSON(r *receipt, i int) any {
	l := r.logs[i]
	topics := make([]string, len(l.Topics))
	for j, t := range l.Topics {
		topics[j] = t.String()
	}
	return map[string]any{
		"address": l.Address.String(), "topics": topics, "data": hexBytes(l.Data), "blockHash": r.block.hash.String(),
		"blockNumber": quantity(r.block.number), "blockTimestamp": quantity(r.block.time),
		"transactionHash": r.tx.hash.String(), "transactionIndex": quantity(uint64(r.index)),
		"logIndex": quantity(uint64(r.firstLog + i)), "removed": false,
	}
}

func getTransactionByHash(l *look, params []json.RawMessage) (any, error) {
	var hash hexHash
	if err := parse(params, 1, &hash); err != nil {
		return nil, err
	}
	if r := l.receipts[Word(hash)]; r != nil && r.block.number <= l.top {
		return l.transactionJSON(r.tx, r), nil
	}
	if tx := l.pooled[Word(hash)]; tx != nil {
		return l.transactionJSON(tx, nil), nil
	}
	return nil, nil
}

func (l *look) transactionJSON(tx *transaction, r *receipt) any {
	parity := "0x0"
	if tx.odd {
		parity = "0x1"
	}
	out := map[string]any{
		"type": "0x2", "chainId": quantity(tx.chain), "nonce": quantity(tx.nonce), "gas": quantity(tx.gas),
		"maxFeePerGas": amount(tx.cap), "maxPriorityFeePerGas": amount(tx.tip), "gasPrice": amount(tx.cap),
		"to": tx.recipient(), "value": amount(tx.value), "accessList": []any{}, "input": hexBytes(tx.data),
		"r": amount(tx.r), "s": amount(tx.s), "yParity": parity, "v": parity, "hash": tx.hash.String(),
		"from": tx.from.String(), "blockHash": nil, "blockNumber": nil, "transactionIndex": nil,
	}
	if r != nil {
		out["blockHash"], out["blockNumber"] = r.block.hash.String(), quantity(r.block.number)
		out["transactionIndex"], out["gasPrice"] = quantity(uint64(r.index)), amount(r.price)
	}
	return out
}

// filter is the parameter of eth_getLogs.
type filter struct {
	FromBlock, ToBlock *blockRef
	BlockHash          *hexHash
	Address            addresses
	Topics             []alternatives
}

// addresses and alternatives are one value, or a list of which one must match; none is any.
type (
	addresses    []Address
	alternatives []Word
)

func (a *addresses) UnmarshalJSON(raw []byte) error {
	list, err := oneOrMore[hexAddress](raw)
	for _, each := range list {
		*a = append(*a, Address(each))
	}
	return err
}

func (a *alternatives) UnmarshalJSON(raw []byte) error {
	list, err := oneOrMore[hexHash](raw)
	for _, each := range list {
		*a = append(*a, Word(each))
	}
	return err
}

func oneOrMore[T any](raw []byte) (list []T, err error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if bytes.HasPrefix(raw, []byte("[")) {
		err = json.Unmarshal(raw, &list)
		return list, err
	}
	list = make([]T, 1)
	return list, json.Unmarshal(raw, &list[0])
}

func (f *filter) matches(l Log) bool {
	if len(f.Address) > 0 && !contains(f.Address, l.Address) || len(f.Topics) > len(l.Topics) {
		return false
	}
	for i, some := range f.Topics {
		found := len(some) == 0
		for _, topic := range some {
			found = found || topic == l.Topics[i]
		}
		if !found {
			return false
		}
	}
	return true
}

func getLogs(l *look, params []json.RawMessage) (any, error) {
	var f filter
	if err := parse(params, 1, &f); err != nil {
		return nil, err
	}
	if len(f.Topics) > 4 {
		return nil, invalid("invalid argument 0: exceed max topics")
	}
	logs := []any{}
	if f.BlockHash != nil {
		if f.FromBlock != nil || f.ToBlock != nil {
			return nil, invalid("invalid argument 0: cannot specify both BlockHash and FromBlock/ToBlock, choose one")
		}
		number, ok := l.numberOf(l.byHash[Word(*f.BlockHash)])
		if !ok {
			return nil, &rpcError{Code: -32000, Message: "unknown block"}
		}
		return l.collect(logs, &f, number, number), nil
	}
	from, fromOK := l.rangeEnd(f.FromBlock)
	to, toOK := l.rangeEnd(f.ToBlock)
	switch {
	case from > to && l.node.geth:
		return nil, invalid("invalid block range params")
	case l.node.geth && !(fromOK && toOK):
		return nil, invalid("block range extends beyond current head block")
	case !fromOK:
		return nil, outOfRange(l.top, from)
	case from > to:
		return logs, nil
	}
	to = min(to, l.top)
	if most := l.faults.LogBlocks; most > 0 && to-from+1 > most {
		return nil, l.tooMuch(from, from+most-1, most)
	}
	logs = l.collect(logs, &f, from, min(to, l.top-min(l.faults.LogLag, l.top)))
	if most := l.faults.LogResults; most > 0 && len(logs) > most {
		return nil, l.tooMuch(from, from+(to-from)/2, uint64(most))
	}
	return logs, nil
}

func (l *look) rangeEnd(b *blockRef) (uint64, bool) {
	if b == nil {
		return l.top, true
	}
	return l.resolve(*b)
}

func (l *look) collect(logs []any, f *filter, from, to uint64) []any {
	for number := from; number <= to; number++ {
		for _, r := range l.blocks[number].receipts {
			for i := range r.logs {
				if f.matches(r.logs[i]) {
					logs = append(logs, logJSON(r, i))
				}
			}
		}
	}
	return logs
}

// tooMuch refuses a query for logs. from..to would be answered.
func (l *look) tooMuch(from, to, most uint64) error {
	switch l.faults.LogLimit {
	case LimitSuggestion:
		return invalid("Log response size exceeded. You can make eth_getLogs requests with up to a %d block range. "+
			"Based on your parameters, this block range should work: [0x%x, 0x%x]", most, from, to)
	case LimitResults:
		return &rpcError{Code: -32005, Message: fmt.Sprintf("query returned more than %d results", most)}
	case LimitProvider:
		return &rpcError{Code: -32614, Message: fmt.Sprintf("eth_getLogs is limited to a %d range", most)}
	case LimitServer:
		return &rpcError{Code: -32000, Message: fmt.Sprintf("exceed maximum block range: %d", most)}
	case LimitHTTP:
		return spoilt{statusOnly(413)}
	case LimitBrokenBody:
		return spoilt{brokenOff{}}
	case LimitNoAnswer:
		return spoilt{cutOff{}}
	}
	return invalid("query exceeds max block range %d", most)
}

// message is the parameter of eth_call and eth_estimateGas.
type message struct {
	From, To      *hexAddress
	Data, Input   *hexData
	Value         *hexBig
	Gas           *hexUint
	GasPrice      *hexBig
	MaxFeePerGas  *hexBig
	MaxTip        *hexBig `json:"maxPriorityFeePerGas"`
	Nonce, ID     *hexUint
	Type          *hexUint
	AccessList    json.RawMessage
	Authorization json.RawMessage `json:"authorizationList"`
}

// begin begins an execution of a message on the state that is asked for.
func (l *look) begin(params []json.RawMessage, gas uint64, estimated bool) (*frame, *Address, []byte, error) {
	var m message
	at := blockRef{tag: "latest"}
	if err := parse(params, 1, &m, &at); err != nil {
		return nil, nil, nil, err
	}
	b, err := l.stateAt(at)
	if err != nil {
		return nil, nil, nil, err
	}
	var data []byte
	switch {
	case m.Input != nil:
		data = *m.Input
	case m.Data != nil:
		data = *m.Data
	}
	var from Address
	if m.From != nil {
		from = Address(*m.From)
	}
	value := new(big.Int)
	if m.Value != nil {
		value = m.Value.Int
	}
	if m.Gas != nil {
		gas = min(gas, uint64(*m.Gas))
	}
	f := l.frame(b.number, b.number, b.time, from, value, gas)
	if value.Cmp(f.balance(from)) > 0 {
		if estimated && l.node.geth {
			return nil, nil, nil, &rpcError{Code: -32000, Message: "failed with 16777216 gas: " + string(refusedFunds)}
		}
		return nil, nil, nil, l.refuse(refusedFunds)
	}
	return f, (*Address)(m.To), data, nil
}

func ethCall(l *look, params []json.RawMessage) (any, error) {
	const most = 50_000_000
	f, to, data, err := l.begin(params, most, false)
	if err != nil {
		return nil, err
	}
	result, err := f.run(to, data)
	if err != nil {
		return nil, l.failed(err)
	}
	return hexBytes(result), nil
}

func estimateGas(l *look, params []json.RawMessage) (any, error) {
	f, to, data, err := l.begin(params, min(blockGas, l.maxGas), true)
	if err != nil {
		return nil, err
	}
	if _, err := f.run(to, data); err != nil {
		return nil, l.failed(err)
	}
	// Nodes search for the least gas with which the transaction succeeds: of that, each inner call
	// keeps a part back, and hooks whose failure is swallowed do not count.
	_, floor := intrinsic(data, to == nil)
	least := f.charged
	if _, isContract := l.methodsAt(*to); isContract {
		least += least / 20
	}
	return quantity(max(least, floor)), nil
}

// failed words how an execution failed.
func (l *look) failed(err error) error {
	var r *revert
	switch {
	case errors.As(err, &r) && l.node.geth, errors.As(err, &r) && len(r.data) == 0:
		return &rpcError{Code: 3, Message: "execution reverted", Data: hexBytes(r.data)}
	case errors.As(err, &r):
		return &rpcError{Code: 3, Message: "execution reverted: " + anvilText(r.data), Data: hexBytes(r.data)}
	case errors.Is(err, errOutOfGas) && l.node.geth:
		return &rpcError{Code: -32000, Message: "gas required exceeds allowance"}
	case errors.Is(err, errOutOfGas):
		return &rpcError{Code: -32003, Message: "Out of gas: gas required exceeds allowance"}
	}
	return &rpcError{Code: -32000, Message: err.Error()}
}

// anvilText is how anvil words an unknown custom error: with raw bytes where they are valid UTF-8.
func anvilText(data []byte) string {
	switch {
	case utf8.Valid(data):
		return string(data)
	case len(data) == 4:
		return "custom error " + hexBytes(data)
	case utf8.Valid(data[4:]):
		return "custom error " + hexBytes(data[:4]) + ": " + string(data[4:])
	}
	return "custom error " + hexBytes(data[:4]) + ": " + hex.EncodeToString(data[4:])
}

// mostFee is what go-ethereum lets a transaction that is sent to it cost: one ether.
var mostFee = new(big.Int).Mul(big.NewInt(gwei), big.NewInt(gwei))

func sendRawTransaction(l *look, params []json.RawMessage) (any, error) {
	var raw hexData
	if err := parse(params, 1, &raw); err != nil {
		return nil, err
	}
	tx, err := decodeTransaction(raw)
	if err != nil {
		code := -32602
		if l.node.geth {
			code = -32000
		}
		return nil, &rpcError{Code: code, Message: err.Error()}
	}
	n := l.node
	n.mu.Lock()
	drop, lose := n.faults.DropSent > 0, n.faults.LoseSent > 0
	if drop {
		n.faults.DropSent--
	} else if lose {
		n.faults.LoseSent--
	}
	n.mu.Unlock()
	if drop {
		return tx.hash.String(), nil
	}
	if fee := new(big.Int).Mul(tx.cap, new(big.Int).SetUint64(tx.gas)); n.geth && fee.Cmp(mostFee) > 0 {
		return nil, &rpcError{Code: -32000, Message: "tx fee (1.01 ether) exceeds the configured cap (1.00 ether)"}
	}
	if err := l.add(tx, n.geth); err != nil {
		return nil, l.refuse(err)
	}
	if lose {
		return nil, spoilt{cutOff{}}
	}
	return tx.hash.String(), nil
}

// refuse words why a transaction is refused.
func (l *look) refuse(err error) error {
	var r refusal
	if !errors.As(err, &r) {
		return &rpcError{Code: -32000, Message: err.Error()}
	}
	if l.node.geth {
		return &rpcError{Code: -32000, Message: gethTexts[r]}
	}
	code := -32003
	if r == refusedIntrinsic || r == refusedSize {
		code = -32000
	}
	text := string(r)
	switch r {
	case refusedKnown:
		text = "transaction already imported"
	case refusedFunds:
		text = "Insufficient funds for gas * price + value"
	}
	return &rpcError{Code: code, Message: text}
}

// gethTexts are go-ethereum's messages, which say more than the refusal.
var gethTexts = map[refusal]string{
	refusedKnown:       "already known",
	refusedNonce:       "nonce too low: next nonce 1, tx nonce 0",
	refusedUnderpriced: "replacement transaction underpriced",
	refusedFee:         "max fee per gas less than block base fee",
	refusedTip:         "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: 2, maxFeePerGas: 1",
	refusedFunds:       "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1",
	refusedIntrinsic:   "intrinsic gas too low: gas 1, minimum needed 21000",
	refusedFloor:       "insufficient gas for floor data gas cost: gas 1, minimum needed 21000",
	refusedLimit:       "exceeds block gas limit",
	refusedCap:         "transaction gas limit too high (cap: 16777216, tx: 16777217)",
	refusedSize:        "oversized data: transaction size 131073, limit 131072",
	refusedChain:       "invalid sender: invalid chain id for signer",
	refusedCheap:       "transaction underpriced: gas tip cap 0, minimum needed 1",
}

func feeHistory(l *look, params []json.RawMessage) (any, error) {
	var count hexUint
	var newest blockRef
	var percentiles []float64
	if err := parse(params, 2, &count, &newest, &percentiles); err != nil {
		return nil, err
	}
	for i, p := range percentiles {
		if p < 0 || p > 100 || i > 0 && p < percentiles[i-1] {
			return nil, &rpcError{Code: -32000, Message: fmt.Sprintf("invalid reward percentile: %f", p)}
		}
	}
	last, ok := l.resolve(newest)
	if !ok {
		return nil, &rpcError{Code: -32000, Message: "request beyond head block"}
	}
	const most = 1024
	n := min(uint64(count), last+1, most)
	first := last + 1 - n
	fees, ratios, rewards := []string{}, []float64{}, [][]string{}
	for _, b := range l.blocks[first : last+1] {
		fees = append(fees, amount(b.baseFee))
		ratios = append(ratios, float64(b.gasUsed)/blockGas)
		row := make([]string, len(percentiles))
		for i := range row {
			row[i] = b.tip(percentiles[i])
		}
		rewards = append(rewards, row)
	}
	next := l.nextBaseFee()
	if last < l.head().number {
		next = l.blocks[last+1].baseFee
	}
	out := map[string]any{"oldestBlock": quantity(first), "baseFeePerGas": append(fees, amount(next)),
		"gasUsedRatio": ratios}
	if len(percentiles) > 0 {
		out["reward"] = rewards
	}
	noBlobs := make([]string, n+1)
	for i := range noBlobs {
		noBlobs[i] = "0x1"
	}
	out["baseFeePerBlobGas"], out["blobGasUsedRatio"] = noBlobs, make([]float64, n)
	return out, nil
}

// tip returns what a share of the block's transactions paid beyond the base fee.
func (b *block) tip(percentile float64) string {
	if len(b.receipts) == 0 {
		return "0x0"
	}
	at := min(int(percentile/100*float64(len(b.receipts))), len(b.receipts)-1)
	return amount(b.receipts[at].tx.tipAt(b.baseFee))
}
