package serverless

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

func TestDiagnoseLooksAtNodeContractAndBlueprint(t *testing.T) {
	now := func(uint64) uint64 { return uint64(time.Now().Unix()) }
	type want struct {
		chain, head, contract, blueprint faas.CheckStatus
		text                             string // in what is not ok, all of it together
	}
	const ok, warning, failed, skipped = faas.CheckOK, faas.CheckWarning, faas.CheckFailed, faas.CheckSkipped
	for _, tt := range []struct {
		name    string
		node    func(n *tangletest.Node)
		options func(url string) []FetchOption
		id      uint64
		want    want
	}{
		{"all is well", nil, nil, 0, want{ok, ok, ok, ok, ""}},
		{"the node is behind", func(n *tangletest.Node) {
			n.BlockTime = func(uint64) uint64 { return uint64(time.Now().Add(-time.Hour).Unix()) }
		}, nil, 0, want{ok, warning, ok, ok, "wait until the node has caught up"}},
		{"the clock is behind", func(n *tangletest.Node) {
			n.BlockTime = func(uint64) uint64 { return uint64(time.Now().Add(time.Hour).Unix()) }
		}, nil, 0, want{ok, warning, ok, ok, "in the future"}},
		{"no contract is there", func(n *tangletest.Node) { n.Contract = tangle.Address{1} }, nil, 0,
			want{ok, ok, failed, skipped, "export TANGLE_CONTRACT=0xADDRESS"}},
		{"no contract is known", nil, func(url string) []FetchOption { return []FetchOption{WithRPC(url)} }, 0,
			want{ok, ok, failed, skipped, "none is known on chain 31338"}},
		{"no such blueprint", nil, nil, 4711, want{ok, ok, ok, failed, "name a blueprint of this chain"}},
		{"another chain", nil, func(url string) []FetchOption {
			return []FetchOption{WithRPC(url), contractOption(), WithChainID(1)}
		}, 0, want{failed, skipped, skipped, skipped, "name a node of the intended chain"}},
		{"nobody answers", nil, func(string) []FetchOption {
			return []FetchOption{WithRPC("http://127.0.0.1:1/"), contractOption()}
		}, 0, want{failed, skipped, skipped, skipped, "name a node that answers"}},
		{"no URL", nil, func(string) []FetchOption { return []FetchOption{WithRPC("localhost")} }, 0,
			want{failed, skipped, skipped, skipped, "name a node"}},
		{"no address", nil, func(url string) []FetchOption { return []FetchOption{WithRPC(url), WithContract("0x12")} }, 0,
			want{failed, skipped, skipped, skipped, "40 hexadecimal digits"}},
		{"nothing is configured", nil, func(string) []FetchOption { return nil }, 0,
			want{warning, skipped, skipped, skipped, "profiles file"}},
		{"mock metadata is asked for", nil, func(string) []FetchOption { return []FetchOption{WithMock()} }, 0,
			want{skipped, skipped, skipped, skipped, "mock metadata"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node, url := recordedNode(t, "gen-D")
			node.BlockTime = now
			if tt.node != nil {
				tt.node(node)
			}
			options := []FetchOption{WithRPC(url), contractOption()}
			if tt.options != nil {
				options = tt.options(url)
			}
			checks, err := Diagnose(t.Context(), DiagnoseSpec{BlueprintID: &tt.id, Policy: DefaultPolicy(),
				StateDir: t.TempDir(), Fetch: options})
			if err != nil {
				t.Fatal(err)
			}
			found, text := map[string]faas.CheckStatus{}, ""
			for _, c := range checks {
				found[c.Name] = c.Status
				if c.Name != "policy" && c.Name != "provider" && c.Status != ok {
					text += c.Name + ": " + c.Detail + "\n" + c.Remedy + "\n"
				}
			}
			got := want{found["chain"], found["head"], found["contract"], found["blueprint"], tt.want.text}
			if got != tt.want || !strings.Contains(text, tt.want.text) {
				t.Errorf("got %+v, want %+v\n%s", got, tt.want, text)
			}
		})
	}
}

func TestANodeThatWantsAKeyIsToldApart(t *testing.T) {
	t.Setenv(ContractEnv, "")
	t.Setenv(ContractFallbackEnv, "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "who are you", http.StatusUnauthorized)
	}))
	defer server.Close()
	checks, err := Diagnose(t.Context(), DiagnoseSpec{Policy: DefaultPolicy(), StateDir: t.TempDir(),
		Fetch: []FetchOption{WithRPC(server.URL + "/v2/secretsecretsecretsecret")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if strings.Contains(c.Detail+c.Remedy, "secretsecret") {
			t.Errorf("the key is shown: %+v", c)
		}
		if c.Name == "chain" && (c.Status != faas.CheckFailed || !strings.Contains(c.Remedy, "with its key")) {
			t.Errorf("%+v", c)
		}
	}
}
