package oracle

import (
	"context"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/catalyst"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/devchain/contract"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// world is a chain with the contract, and what the tests do to it. Transactions are mined at once.
type world struct {
	*testing.T
	name     string
	url      string
	contract common.Address
	client   *ethclient.Client
	// These differ between the contract in Solidity and the model in Go.
	pause     func(on bool)
	terminate func(service uint64)
	leave     func(account int, service uint64)
	quoted    func(service uint64, job uint8, inputs []byte, operators ...int)
	setJob    func(job uint8, results uint32, aggregate bool)
	// advance moves the clock and mines a block; reorg takes back the last blocks with their
	// transactions. They are nil if the node cannot.
	advance func(seconds uint64)
	reorg   func(depth int)
}

// worlds are the chains: the model, a node of go-ethereum, and anvil if it is installed.
var worlds = map[string]func(t *testing.T) *world{"devchain": newModel, "go-ethereum": newGeth, "anvil": newAnvil}

// The jobs of service 0 that are not plain: they are set up in every world.
const (
	jobOfTwo     = 1
	jobAggregate = 2
)

func (w *world) dial() {
	w.Helper()
	client, err := ethclient.DialContext(w.Context(), w.url)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(client.Close)
	w.client = client
}

func newModel(t *testing.T) *world {
	c := devchain.New(devchain.Config{})
	t.Cleanup(c.Close)
	url, err := c.Node().Listen()
	must(t, err)
	w := &world{T: t, name: "devchain", url: url, contract: common.Address(devchain.Contract)}
	w.dial()
	w.pause = func(on bool) {
		if on {
			must(t, c.Pause())
		} else {
			must(t, c.Unpause())
		}
	}
	w.terminate = func(service uint64) { must(t, c.Terminate(service)) }
	w.leave = func(account int, service uint64) { must(t, c.Leave(account, service)) }
	w.quoted = func(service uint64, job uint8, inputs []byte, operators ...int) {
		var list []devchain.Address
		for _, o := range operators {
			list = append(list, devchain.Account(o))
		}
		_, err := c.SubmitQuoted(service, job, inputs, 0, list...)
		must(t, err)
	}
	w.setJob = func(job uint8, results uint32, aggregate bool) {
		c.SetRules(0, job, devchain.Rules{Results: results, Aggregate: aggregate})
	}
	w.advance = func(seconds uint64) {
		c.Advance(time.Duration(seconds) * time.Second)
		c.Mine(1)
	}
	w.reorg = func(depth int) { c.Reorg(depth, func(devchain.Transaction) bool { return false }) }
	return w
}

// newGeth runs a node of go-ethereum that mines a block for every transaction.
func newGeth(t *testing.T) *world {
	nodeConf := node.DefaultConfig
	nodeConf.DataDir = ""
	nodeConf.P2P = p2p.Config{NoDiscovery: true, ListenAddr: ""}
	nodeConf.HTTPHost, nodeConf.HTTPPort = "127.0.0.1", 0
	nodeConf.HTTPModules = []string{"eth", "net", "web3"}
	nodeConf.IPCPath = ""
	stack, err := node.New(&nodeConf)
	must(t, err)
	t.Cleanup(func() { _ = stack.Close() })
	alloc := core.SystemContractAllocs()
	for i := range 10 {
		alloc[common.Address(devchain.Account(i))] = types.Account{Balance: ether(10_000)}
	}
	conf := ethconfig.Defaults
	conf.Genesis = &core.Genesis{Config: params.AllDevChainProtocolChanges, GasLimit: conf.Miner.GasCeil, Alloc: alloc}
	conf.SyncMode = ethconfig.FullSync
	conf.TxPool.NoLocals = true
	conf.LogNoHistory = true
	backend, err := eth.New(stack, &conf)
	must(t, err)
	filterSystem := filters.NewFilterSystem(backend.APIBackend, filters.Config{})
	stack.RegisterAPIs([]rpc.API{{Namespace: "eth", Service: filters.NewFilterAPI(filterSystem)}})
	beacon, err := catalyst.NewSimulatedBeacon(0, common.Address{}, backend)
	must(t, err)
	catalyst.RegisterSimulatedBeaconAPIs(stack, beacon)
	stack.RegisterLifecycle(beacon)
	must(t, stack.Start())
	w := &world{T: t, name: "go-ethereum", url: stack.HTTPEndpoint()}
	w.dial()
	w.deploy()
	return w
}

func ether(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(params.Ether)) }

// newAnvil runs anvil, if it is installed: it is a judge more, and not needed.
func newAnvil(t *testing.T) *world {
	path, err := exec.LookPath("anvil")
	if err != nil {
		t.Skip("anvil is not installed")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().(*net.TCPAddr)
	must(t, listener.Close())
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--silent", "--port", fmt.Sprint(address.Port))
	must(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	w := &world{T: t, name: "anvil", url: "http://" + address.String()}
	w.dial()
	for { // until it answers
		if _, err := w.client.ChainID(t.Context()); err == nil {
			break
		} else if t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.deploy()
	raw := func(method string, params ...any) {
		must(t, w.client.Client().CallContext(t.Context(), nil, method, params...))
	}
	w.advance = func(seconds uint64) { raw("evm_increaseTime", seconds); raw("evm_mine") }
	w.reorg = func(depth int) { raw("anvil_reorg", depth, []any{}) }
	return w
}

// deploy creates the contract in Solidity.
func (w *world) deploy() {
	w.Helper()
	operators := []tangle.Address{devchain.Account(1), devchain.Account(2)}
	receipt := w.send(0, nil, nil, contract.Create(operators, 8))
	w.contract = receipt.ContractAddress
	definition := tangletest.EncodeDefinition(&tangle.Definition{Layout: tangle.LayoutB, Jobs: make([]tangle.Job, 8)})
	w.call(0, "testSetDefinition(bytes)", definition)
	w.pause = func(on bool) { w.call(0, "testPause(bool)", on) }
	w.terminate = func(service uint64) { w.call(0, "testTerminate(uint64)", service) }
	w.leave = func(account int, service uint64) {
		w.call(account, "testLeave(uint64,address)", service, common.Address(devchain.Account(account)))
	}
	w.quoted = func(service uint64, job uint8, inputs []byte, operators ...int) {
		var list []common.Address
		for _, o := range operators {
			list = append(list, common.Address(devchain.Account(o)))
		}
		w.call(0, "testSubmitFromQuote(uint64,uint8,address[],bytes)", service, job, list, inputs)
	}
	w.setJob = func(job uint8, results uint32, aggregate bool) {
		w.call(0, "testSetJob(uint8,uint32,bool)", job, results, aggregate)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pack encodes a call with go-ethereum's encoder.
func pack(t *testing.T, signature string, args ...any) []byte {
	t.Helper()
	_, list, _ := strings.Cut(strings.TrimSuffix(signature, ")"), "(")
	var arguments abi.Arguments
	for name := range strings.SplitSeq(list, ",") {
		if name == "" {
			continue
		}
		typ, err := abi.NewType(name, "", nil)
		must(t, err)
		arguments = append(arguments, abi.Argument{Type: typ})
	}
	body, err := arguments.Pack(args...)
	must(t, err)
	return append(crypto.Keccak256([]byte(signature))[:4], body...)
}

// call sends a transaction to the contract, and fails the test if it reverts.
func (w *world) call(account int, signature string, args ...any) *types.Receipt {
	w.Helper()
	return w.send(account, &w.contract, nil, pack(w.T, signature, args...))
}

func (w *world) send(account int, to *common.Address, value *big.Int, data []byte) *types.Receipt {
	w.Helper()
	receipt := w.sendAnyway(account, to, value, data)
	if receipt.Status != types.ReceiptStatusSuccessful {
		w.Fatalf("%s: transaction %v reverted", w.name, receipt.TxHash)
	}
	return receipt
}

// sendAnyway sends a transaction that may revert, and waits for its receipt.
func (w *world) sendAnyway(account int, to *common.Address, value *big.Int, data []byte) *types.Receipt {
	w.Helper()
	ctx := w.Context()
	key, err := crypto.ToECDSA(devchain.Key(account))
	must(w.T, err)
	id, err := w.client.ChainID(ctx)
	must(w.T, err)
	from := crypto.PubkeyToAddress(key.PublicKey)
	nonce, err := w.client.PendingNonceAt(ctx, from)
	must(w.T, err)
	const gas, gwei = 16_000_000, 1_000_000_000
	signed, err := types.SignNewTx(key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{ChainID: id, Nonce: nonce,
		GasTipCap: big.NewInt(gwei), GasFeeCap: big.NewInt(10 * gwei), Gas: gas, To: to, Value: value, Data: data})
	must(w.T, err)
	must(w.T, w.client.SendTransaction(ctx, signed))
	for {
		receipt, err := w.client.TransactionReceipt(ctx, signed.Hash())
		if err == nil {
			return receipt
		}
		if ctx.Err() != nil {
			w.Fatalf("%s: no receipt: %v", w.name, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ask calls the contract without a transaction. The answer is the result or the revert's data.
func (w *world) ask(account int, signature string, args ...any) string {
	w.Helper()
	result, err := w.client.CallContract(w.Context(), ethereum.CallMsg{From: common.Address(devchain.Account(account)),
		To: &w.contract, Data: pack(w.T, signature, args...)}, nil)
	if err == nil {
		return fmt.Sprintf("result %x", result)
	}
	if withData, ok := err.(rpc.DataError); ok && withData.ErrorData() != nil {
		return fmt.Sprint("revert ", withData.ErrorData())
	}
	w.Fatalf("%s: %s: %v", w.name, signature, err)
	return ""
}

// logs returns the contract's logs as text, without what differs between chains.
func (w *world) logs() (list []string) {
	w.Helper()
	logs, err := w.client.FilterLogs(w.Context(), ethereum.FilterQuery{FromBlock: new(big.Int),
		Addresses: []common.Address{w.contract}})
	must(w.T, err)
	for _, l := range logs {
		list = append(list, fmt.Sprintf("%v %x", l.Topics, l.Data))
	}
	return list
}
