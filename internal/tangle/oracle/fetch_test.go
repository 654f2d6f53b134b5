package oracle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	ethereum "github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/ethclient/simulated"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/params"
	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// chain is a real node with its own chain, which clients reach over HTTP.
type chain struct {
	*simulated.Backend
	url string
	key *ecdsa.PrivateKey
}

func newChain(t testing.TB) *chain {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	funds := types.GenesisAlloc{crypto.PubkeyToAddress(key.PublicKey): {Balance: new(big.Int).Lsh(big.NewInt(1), 100)}}
	backend := simulated.NewBackend(funds, func(n *node.Config, _ *ethconfig.Config) {
		n.HTTPHost, n.HTTPPort, n.HTTPModules = "127.0.0.1", port, []string{"eth"}
	})
	t.Cleanup(func() { _ = backend.Close() })
	return &chain{backend, fmt.Sprintf("http://127.0.0.1:%d", port), key}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// deploy runs the code in a new block and returns the address of the deployed contract.
func (c *chain) deploy(t testing.TB, code []byte) common.Address {
	t.Helper()
	ctx, client := t.Context(), c.Client()
	from := crypto.PubkeyToAddress(c.key.PublicKey)
	nonce, err := client.PendingNonceAt(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	id, err := client.ChainID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := types.SignNewTx(c.key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, Gas: 9_000_000, GasTipCap: big.NewInt(params.GWei),
		GasFeeCap: big.NewInt(100 * params.GWei), Data: code,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SendTransaction(ctx, tx); err != nil {
		t.Fatal(err)
	}
	c.Commit()
	address := crypto.CreateAddress(from, nonce)
	if deployed, err := client.CodeAt(ctx, address, nil); err != nil || len(deployed) == 0 {
		t.Fatalf("nothing was deployed: %v", err)
	}
	return address
}

// published deploys today's "gpu-tee" as blueprint 1, with its events. As on the genuine chain,
// another contract emits the definition's event.
func published(t testing.TB) (c *chain, contractAddress common.Address, def *tangle.Definition) {
	t.Helper()
	recorded, err := tangletest.Read("gen-D")
	if err != nil {
		t.Fatal(err)
	}
	r := recorded[1]
	if def, err = tangle.DecodeDefinition(r.Encoded); err != nil {
		t.Fatal(err)
	}
	c = newChain(t)
	owner := crypto.PubkeyToAddress(c.key.PublicKey)
	sources := tangletest.EncodeSources(def.Sources)
	definitionHash, sourcesHash := crypto.Keccak256Hash(r.Encoded), crypto.Keccak256Hash(sources)
	topic := func(signature string) [32]byte { return crypto.Keccak256Hash([]byte(signature)) }
	const sourceTuple = "(uint8,(string,string,string),(uint8,uint8,string,string),(uint8,string,string)," +
		"(string,string,string),(uint8,uint8,string,bytes32)[])"

	manager := c.deploy(t, deployment([]byte{0}, []record{{
		[3][32]byte{topic("BlueprintDefinitionRecorded(uint64,address,bytes)"), tangletest.ID(r.ID),
			common.BytesToHash(owner[:])}, tangletest.EncodeBytes(r.Encoded),
	}}))
	code := contract([]reply{
		{selDefinition, r.ID, r.Definition},
		{selBlueprint, r.ID, tangletest.EncodeStatus(
			tangle.Status{Owner: tangle.Address(owner), Manager: tangle.Address(manager), CreatedAt: 1, Active: true})},
		{selRequirements, r.ID, tangletest.EncodeRequirements(
			[]tangle.Requirement{{Kind: tangle.ResourceMemoryMB, Count: 5000}})},
		{selDefinitionHash, r.ID, definitionHash[:]}, {selSourcesHash, r.ID, sourcesHash[:]},
	})
	contractAddress = c.deploy(t, deployment(code, []record{{
		[3][32]byte{topic("BlueprintSourcesRecorded(uint64,bytes32," + sourceTuple + "[])"), tangletest.ID(r.ID),
			sourcesHash}, sources,
	}}))
	return c, contractAddress, def
}

func TestFetchMetadataFromARealNode(t *testing.T) {
	c, contractAddress, def := published(t)
	for range 20 {
		c.Commit()
	}
	at := serverless.WithContract(contractAddress.Hex()) // the case encodes the checksum
	meta, err := serverless.FetchMetadata(t.Context(), 1, serverless.WithRPC(c.url), at)
	if err != nil {
		t.Fatal(err)
	}
	if len(meta.Warnings) != 0 {
		t.Errorf("%q", meta.Warnings)
	}
	if meta.Name != "gpu-tee" || len(meta.Jobs) != 3 || meta.Jobs[1].Name != "job-1" ||
		meta.Jobs[1].ProfileSource != serverless.ProfileFromChain ||
		meta.OnChain.ChainID != 1337 || meta.OnChain.Block != 22 || meta.OnChain.NamesFrom != "event" ||
		meta.OnChain.SourcesFrom != "event" || !*meta.OnChain.Active {
		t.Errorf("%+v, %+v", meta, meta.OnChain)
	}
	if meta.OnChain.Owner != strings.ToLower(crypto.PubkeyToAddress(c.key.PublicKey).Hex()) {
		t.Errorf("owner %s", meta.OnChain.Owner)
	}
	if len(meta.Sources) != len(def.Sources) || len(meta.Sources[0].Binaries) != len(def.Sources[0].Binaries) {
		t.Errorf("%+v", meta.Sources)
	}
	analysis, err := serverless.AnalyzeFor(meta, faas.AWSLambda, true)
	if err != nil || analysis.Strategy.Kind != serverless.StrategyTraditional || analysis.Sizing.MemoryMB < 5000 {
		t.Errorf("%+v, %v", analysis, err)
	}

	t.Run("failures", func(t *testing.T) {
		for name, tc := range map[string]struct {
			id   uint64
			opts []serverless.FetchOption
			want error
		}{
			"unknown blueprint": {99, []serverless.FetchOption{at}, serverless.ErrBlueprintNotFound},
			"an account": {1, []serverless.FetchOption{
				serverless.WithContract(crypto.PubkeyToAddress(c.key.PublicKey).Hex())}, serverless.ErrNoContract},
			"nobody": {1, []serverless.FetchOption{
				serverless.WithContract("0x00000000000000000000000000000000000000ff")}, serverless.ErrNoContract},
			"before it was":   {1, []serverless.FetchOption{at, serverless.WithBlock(1)}, serverless.ErrNoContract},
			"a future block":  {1, []serverless.FetchOption{at, serverless.WithBlock(1000)}, serverless.ErrNodeRPC},
			"unknown network": {1, nil, serverless.ErrUnknownNetwork},
		} {
			opts := append([]serverless.FetchOption{serverless.WithRPC(c.url)}, tc.opts...)
			_, err := serverless.FetchMetadata(t.Context(), tc.id, opts...)
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})

	t.Run("a block of the caller's choice", func(t *testing.T) {
		pinned, err := serverless.FetchMetadata(t.Context(), 1, serverless.WithRPC(c.url), at, serverless.WithBlock(5))
		if err != nil {
			t.Fatal(err)
		}
		if pinned.OnChain.Block != 5 {
			t.Errorf("block %d", pinned.OnChain.Block)
		}
		pinned.OnChain.Block = meta.OnChain.Block
		if diff := cmp.Diff(meta, pinned); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("in small windows", func(t *testing.T) {
		t.Setenv(serverless.LogRangeEnv, "3")
		walked, err := serverless.FetchMetadata(t.Context(), 1, serverless.WithRPC(c.url), at)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meta, walked); diff != "" {
			t.Error(diff)
		}
	})
}

// repeating returns a server that has all its answers ready, so that a benchmark measures only the
// client.
func repeating(t testing.TB, n *tangletest.Node) http.Handler {
	id := regexp.MustCompile(`"id":\d+`)
	results := map[string][]string{} // by request without ids: the parts of the response between the ids
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		key := string(id.ReplaceAll(body, nil))
		parts, ok := results[key]
		if !ok {
			recorder := httptest.NewRecorder()
			n.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
			parts = id.Split(recorder.Body.String(), -1)
			results[key] = parts
		}
		ids := id.FindAllString(string(body), -1)
		slices.Reverse(ids) // as the node does
		for i, part := range parts {
			_, _ = io.WriteString(w, part)
			if i < len(ids) {
				_, _ = io.WriteString(w, ids[i])
			}
		}
	})
}

// BenchmarkFetch compares complete fetches of the worst case from one local server: five views at
// one block.
func BenchmarkFetch(b *testing.B) {
	recorded, err := tangletest.Read("gen-D")
	if err != nil {
		b.Fatal(err)
	}
	n, err := tangletest.NewNode(recorded[:1])
	if err != nil {
		b.Fatal(err)
	}
	n.Blueprints[0].Definition = worstCase()
	server := httptest.NewServer(repeating(b, n))
	defer server.Close()
	contractAddress := tangletest.Tangle

	b.Run("reader", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tangle.Read(context.Background(),
				tangle.Config{URLs: []string{server.URL}, Contract: &contractAddress}, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ethclient", func(b *testing.B) {
		arguments := outputs(b, tangle.LayoutB)
		client, err := ethclient.Dial(server.URL)
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		b.ReportAllocs()
		for b.Loop() {
			if err := fetchWithEthclient(context.Background(), client, arguments.Unpack); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// fetchWithEthclient reads the same as the reader, like a program that uses go-ethereum.
func fetchWithEthclient(ctx context.Context, client *ethclient.Client, unpack func([]byte) ([]any, error)) error {
	if _, err := client.ChainID(ctx); err != nil {
		return err
	}
	block, err := client.BlockNumber(ctx)
	if err != nil {
		return err
	}
	to := common.Address(tangletest.Tangle)
	for _, selector := range []uint32{selDefinition, selBlueprint, selRequirements, selDefinitionHash, selSourcesHash} {
		data := append(common.LeftPadBytes(big.NewInt(int64(selector)).Bytes(), 4), make([]byte, 32)...)
		answer, err := client.CallContract(ctx, ethereum.CallMsg{To: &to, Data: data}, new(big.Int).SetUint64(block))
		if err != nil {
			return err
		}
		if selector == selDefinition {
			if _, err := unpack(answer); err != nil {
				return err
			}
		}
	}
	return nil
}
