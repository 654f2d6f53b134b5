package tangle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

const testChain = 4242

func addr(last byte) (a tangle.Address) { a[0], a[19] = 0x12, last; return a }

var (
	contract = addr(1)
	manager  = addr(2)
	owner    = addr(3)
)

// newNode serves the blueprint "three-jobs-valid" of today's generation with its events.
func newNode(t testing.TB) *tangletest.Node {
	t.Helper()
	n, err := tangletest.NewNode(readRecorded(t, "gen-D")[:1])
	if err != nil {
		t.Fatal(err)
	}
	n.ChainID, n.Contract = testChain, contract
	for i := range n.Logs {
		if n.Logs[i].Address == tangletest.Tangle {
			n.Logs[i].Address = contract
		}
	}
	n.Blueprints[0].Status = tangletest.EncodeStatus(
		tangle.Status{Owner: owner, Manager: manager, CreatedAt: 80, Active: true})
	n.Blueprints[0].Requirements = tangletest.EncodeRequirements(
		[]tangle.Requirement{{Kind: tangle.ResourceCPU, Count: 2}, {Kind: tangle.ResourceMemoryMB, Count: 4096}})
	return n
}

func serve(t testing.TB, n *tangletest.Node) tangle.Config {
	t.Helper()
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	return tangle.Config{URLs: []string{server.URL}, Contract: &n.Contract, Client: server.Client(), LogQueries: 8}
}

func read(t testing.TB, cfg tangle.Config, id uint64) *tangle.Blueprint {
	t.Helper()
	b, err := tangle.Read(context.Background(), cfg, id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func jobNames(b *tangle.Blueprint) string {
	var names []string
	for _, job := range b.Definition.Jobs {
		names = append(names, job.Name)
	}
	return strings.Join(names, " ")
}

func TestTheCommonCaseIsOneRoundTrip(t *testing.T) {
	n := newNode(t)
	cfg := serve(t, n)
	cfg.LogQueries = 0
	b := read(t, cfg, 0)
	requests, calls := n.Requests()
	want := []string{"eth_chainId", "eth_blockNumber", "eth_call latest", "eth_call latest", "eth_call latest",
		"eth_call latest", "eth_call latest", "eth_blockNumber"}
	if diff := cmp.Diff(want, calls); diff != "" || requests != 1 {
		t.Errorf("%d requests: %s", requests, diff)
	}
	if b.ChainID != testChain || b.Block != 100 || b.Contract != contract || len(b.Definition.Jobs) != 3 ||
		b.Definition.Metadata.Name != "three-jobs-valid" {
		t.Errorf("%+v", b)
	}
	if diff := cmp.Diff(&tangle.Status{Owner: owner, Manager: manager, CreatedAt: 80, Active: true},
		b.Status); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]tangle.Requirement{{Kind: tangle.ResourceCPU, Count: 2},
		{Kind: tangle.ResourceMemoryMB, Count: 4096}}, b.Requirements); diff != "" {
		t.Error(diff)
	}
	if len(b.Warnings) != 0 {
		t.Error(b.Warnings)
	}
}

func TestViewsAreCalledByNumberWhereABlockCameBetween(t *testing.T) {
	n := newNode(t)
	n.Before = func(n *tangletest.Node, method string) {
		if method == "eth_call" {
			n.Block++
		}
	}
	cfg := serve(t, n)
	cfg.LogQueries = 0
	b := read(t, cfg, 0)
	requests, calls := n.Requests()
	if requests != 2 || b.Block != 100 {
		t.Errorf("%d requests, block %d", requests, b.Block)
	}
	for _, call := range calls[9:] {
		if call != "eth_call 0x64" {
			t.Errorf("%s is not pinned", call)
		}
	}
}

func TestABlockOfTheCallersChoiceIsOneRoundTrip(t *testing.T) {
	n := newNode(t)
	cfg := serve(t, n)
	cfg.LogQueries, cfg.Block = 0, 77
	b := read(t, cfg, 0)
	requests, calls := n.Requests()
	if requests != 1 || b.Block != 77 {
		t.Errorf("%d requests, block %d", requests, b.Block)
	}
	for _, call := range calls[1:] {
		if call != "eth_call 0x4d" {
			t.Errorf("%s is not pinned", call)
		}
	}
}

func TestTheContractOfAKnownNetworkIsFoundByChainID(t *testing.T) {
	for _, network := range tangle.KnownNetworks() {
		n := newNode(t)
		n.ChainID, n.Contract = network.ChainID, network.Contract
		cfg := serve(t, n)
		cfg.Contract = nil
		b := read(t, cfg, 0)
		if b.Contract != network.Contract || jobNames(b) != "job-0 job-1 job-2" {
			t.Errorf("%s: %s %q", network.Name, b.Contract, jobNames(b))
		}
	}
}

func TestASupersededContractIsReported(t *testing.T) {
	n := newNode(t)
	n.ChainID = 84532
	n.Contract, _ = tangle.ParseAddress("0xC9b0716a187072be0f38A5D972392C6479b9Cfe3")
	n.Logs[1].Address = n.Contract
	b := read(t, serve(t, n), 0)
	if len(b.Warnings) != 1 || !strings.Contains(
		b.Warnings[0], "superseded by 0x8299d60f373f3a4a8c4878e335cb9d840e6e3730") {
		t.Error(b.Warnings)
	}
}

func TestANodeWithoutBatchesIsAskedOneByOne(t *testing.T) {
	n := newNode(t)
	n.NoBatch = true
	b := read(t, serve(t, n), 0)
	if jobNames(b) != "job-0 job-1 job-2" || len(b.Warnings) != 0 {
		t.Errorf("%q %q", jobNames(b), b.Warnings)
	}
}

// Simple servers expect one call. They answer an array with an error, a status, or a single
// result.
func TestWhateverANodeSaysToABatchItIsAskedOneByOne(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"bad request":    answering(400, "cannot unmarshal array"),
		"internal error": answering(500, ""),
		"lone result":    answering(200, `{"jsonrpc":"2.0","id":null,"result":null}`),
		"lone error":     answering(200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`),
	} {
		n := newNode(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || body[0] == '[' {
				refuse(w, r)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			n.ServeHTTP(w, r)
		}))
		if b := read(t, tangle.Config{URLs: []string{server.URL}, Contract: &contract, LogQueries: 4}, 0); jobNames(
			b) != "job-0 job-1 job-2" {
			t.Errorf("%s: %q", name, jobNames(b))
		}
		server.Close()
	}
}

func TestANodeThatKeepsItsBlockNumberIsAskedForTheBlock(t *testing.T) {
	n := newNode(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(strings.NewReader(strings.ReplaceAll(string(body), "eth_blockNumber", "eth_noSuchMethod")))
		n.ServeHTTP(w, r)
	}))
	defer server.Close()
	b := read(t, tangle.Config{URLs: []string{server.URL}, Contract: &contract}, 0)
	_, calls := n.Requests()
	if b.Block != 100 || calls[len(calls)-1] != "eth_call 0x64" {
		t.Errorf("block %d, %q", b.Block, calls)
	}
}

func TestNamesAndSourcesComeFromVerifiedEvents(t *testing.T) {
	n := newNode(t)
	b := read(t, serve(t, n), 0)
	if jobNames(b) != "job-0 job-1 job-2" || b.NamesFrom != tangle.FromEvent ||
		b.Texts.Description != "Three jobs, profiled" {
		t.Errorf("%q from %q, %+v", jobNames(b), b.NamesFrom, b.Texts)
	}
	if len(b.Sources) != 2 || b.SourcesFrom != tangle.FromEvent || len(b.Sources[1].Binaries) == 0 &&
		len(b.Sources[0].Binaries) == 0 {
		t.Errorf("%+v from %q", b.Sources, b.SourcesFrom)
	}
	if b.Definition.Metadata.Description != "" {
		t.Error("the description that the contract returned was changed")
	}
	if requests, _ := n.Requests(); requests != 2 {
		t.Errorf("%d requests, want 2", requests)
	}
}

func TestEventsWithoutTheHashAreNotBelieved(t *testing.T) {
	n := newNode(t)
	genuine := n.Logs
	forged := func(log tangletest.Log, change func(*tangletest.Log)) tangletest.Log {
		log.Data = append([]byte(nil), log.Data...)
		log.Topics = append([]tangle.Word(nil), log.Topics...)
		log.Block++
		change(&log)
		return log
	}
	n.Logs = append(n.Logs[:2:2],
		forged(genuine[0], func(l *tangletest.Log) { l.Data[200]++ }),
		forged(genuine[0], func(l *tangletest.Log) { l.Data = nil }),
		forged(genuine[1], func(l *tangletest.Log) { l.Data[200]++ }),
		forged(genuine[1], func(l *tangletest.Log) { l.Address = addr(9) }),
		forged(genuine[0], func(l *tangletest.Log) { l.Topics[1] = tangletest.ID(5) }),
	)
	if b := read(t, serve(t, n), 0); b.NamesFrom != tangle.FromEvent || b.SourcesFrom != tangle.FromEvent ||
		len(b.Warnings) != 0 {
		t.Errorf("the genuine events were not found: %q", b.Warnings)
	}
	n.Logs = n.Logs[2:]
	b := read(t, serve(t, n), 0)
	want := []string{
		"the jobs' names are unknown: no event BlueprintDefinitionRecorded has the hash that the contract keeps",
		"the published binaries are unknown: no event BlueprintSourcesRecorded has the hash that the contract keeps",
	}
	if diff := cmp.Diff(want, b.Warnings); diff != "" || b.NamesFrom != "" || len(b.Sources) != 0 || jobNames(b) != "  " {
		t.Error(diff)
	}
}

func TestAnOldBlueprintIsFoundWhereItWasCreated(t *testing.T) {
	for name, blockTime := range map[string]func(uint64) uint64{
		"steady": nil,
		"irregular": func(n uint64) uint64 {
			if n < 7_000_000 {
				return n * 12
			}
			return 84_000_000 + (n-7_000_000)*2 + n%2
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.Block, n.BlockTime = 20_000_000, blockTime
			created := uint64(6_123_456)
			seconds := created * 2
			if blockTime != nil {
				seconds = blockTime(created)
			}
			n.Blueprints[0].Status = tangletest.EncodeStatus(tangle.Status{Owner: owner, CreatedAt: seconds, Active: true})
			for i := range n.Logs {
				n.Logs[i].Block = created
			}
			b := read(t, serve(t, n), 0)
			if b.NamesFrom != tangle.FromEvent || len(b.Warnings) != 0 {
				t.Errorf("not found: %q", b.Warnings)
			}
			requests, _ := n.Requests()
			t.Logf("%d requests", requests)
			if requests > 40 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

func TestTheWalkIsBounded(t *testing.T) {
	n := newNode(t)
	n.Block = 1_000_000
	n.Blueprints[0].Status = nil // the time of its creation is unknown
	cfg := serve(t, n)
	cfg.LogQueries, cfg.LogRange = 3, 500
	b := read(t, cfg, 0)
	want := []string{
		"the jobs' names are unknown: the event BlueprintDefinitionRecorded is not in the blocks from 998501 to 1000000, " +
			"and no more were searched",
		"the published binaries are unknown: the event BlueprintSourcesRecorded is not in the blocks from 998501 to " +
			"1000000, and no more were searched",
	}
	if diff := cmp.Diff(want, b.Warnings); diff != "" {
		t.Error(diff)
	}
	_, calls := n.Requests()
	if diff := cmp.Diff([]string{"eth_getLogs 999501-1000000", "eth_getLogs 999001-999500", "eth_getLogs 998501-999000"},
		calls[8:]); diff != "" {
		t.Error(diff)
	}
}

func TestTheWalkFitsTheRangeThatANodeAccepts(t *testing.T) {
	n := newNode(t)
	n.Block, n.MaxLogRange = 1000, 300
	cfg := serve(t, n)
	cfg.LogQueries, cfg.LogRange = 20, 1000
	n.Blueprints[0].Status = nil
	if b := read(t, cfg, 0); b.NamesFrom != tangle.FromEvent || b.SourcesFrom != tangle.FromEvent {
		t.Errorf("%q", b.Warnings)
	}
}

func TestAFailingWalkIsAWarning(t *testing.T) {
	n := newNode(t)
	n.Logs, n.MaxLogRange = nil, 1
	b := read(t, serve(t, n), 0)
	if len(b.Warnings) != 2 || !strings.Contains(b.Warnings[0], "block range is limited to 1") {
		t.Errorf("%q", b.Warnings)
	}
}

func TestABlueprintWithoutSourcesIsNotSearchedFor(t *testing.T) {
	n := newNode(t)
	none := tangle.Keccak256(tangletest.EncodeSources(nil))
	n.Blueprints[0].SourcesHash = none[:]
	n.Logs = n.Logs[:1]
	if b := read(t, serve(t, n), 0); len(b.Sources) != 0 || len(b.Warnings) != 0 {
		t.Errorf("%q", b.Warnings)
	}
}

func TestOldGenerationsAnswerEverythingThemselves(t *testing.T) {
	old := readRecorded(t, "gen-A")[0]
	n := newNode(t)
	n.Blueprints = map[uint64]*tangletest.Blueprint{
		1: {Definition: old.Definition, Status: tangletest.EncodeStatus(tangle.Status{Owner: owner})}}
	b := read(t, serve(t, n), 1)
	requests, _ := n.Requests()
	if jobNames(b) != "job-0 job-1 job-2" || b.NamesFrom != tangle.FromCall || len(b.Sources) != 2 ||
		b.SourcesFrom != tangle.FromCall || requests != 1 || len(b.Warnings) != 0 {
		t.Errorf("%d requests, %+v", requests, b)
	}
	if b.Status.Active || b.Requirements != nil {
		t.Errorf("%+v %v", b.Status, b.Requirements)
	}
}

func TestVerifiedEventsAreKeptAndVerifiedAgain(t *testing.T) {
	n := newNode(t)
	cfg := serve(t, n)
	cfg.CacheDir = filepath.Join(t.TempDir(), "new")
	read(t, cfg, 0)
	n.Logs = nil
	b := read(t, cfg, 0)
	if jobNames(b) != "job-0 job-1 job-2" || b.NamesFrom != tangle.FromCache || b.SourcesFrom != tangle.FromCache ||
		len(b.Sources) != 2 || len(b.Warnings) != 0 {
		t.Errorf("%q from %q, %q", jobNames(b), b.NamesFrom, b.Warnings)
	}
	files, err := filepath.Glob(filepath.Join(cfg.CacheDir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("tampered"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b = read(t, cfg, 0)
	if b.NamesFrom != "" || len(b.Sources) != 0 || len(b.Warnings) != 4 ||
		!strings.Contains(b.Warnings[0], "does not have the hash in its name") {
		t.Errorf("%q", b.Warnings)
	}
	// Another definition has another entry.
	hash := sha256.Sum256([]byte("another"))
	n.Blueprints[0].DefinitionHash, n.Blueprints[0].SourcesHash = hash[:], hash[:]
	if b := read(t, cfg, 0); b.NamesFrom != "" || len(b.Sources) != 0 {
		t.Errorf("the cache answered for another hash")
	}
}
