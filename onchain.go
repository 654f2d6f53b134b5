package serverless

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// The variables that a runner reads. Those with BLUEPRINT_ in front of them, except for
// BLUEPRINT_ID, are this module's and the ecosystem's command-line tool's, and the manager gives
// the others.
const (
	serviceEnv        = "SERVICE_ID"
	blueprintEnv      = "BLUEPRINT_ID"
	protocolEnv       = "PROTOCOL"
	chainEnv          = "CHAIN"
	nodeEnv           = "HTTP_RPC_URL"
	stakingEnv        = "STAKING_CONTRACT"
	statusRegistryEnv = "STATUS_REGISTRY_CONTRACT"
	keystoreEnv       = "KEYSTORE_URI"
	ownKeystoreEnv    = "BLUEPRINT_KEYSTORE_URI" // goes before it
	chainIDEnv        = "BLUEPRINT_CHAIN_ID"
	passwordEnv       = "KEYSTORE_PASSWORD"
	dataDirEnv        = "DATA_DIR"
)

// runnerSettings are what the runner gets beyond what the functions get.
type runnerSettings struct {
	env     faas.Env
	chain   *orchestrator.Chain // nil unless it serves a service on chain
	planned *PlannedRunner      // nil if chain is
	record  *ledger.Chain       // nil if chain is
	// warnings tell what an operator should know of them.
	warnings []string
}

// PlannedRunner says for which service on chain a runner would be started, and with what. It has no
// secrets.
type PlannedRunner struct {
	ServiceID uint64   `json:"service_id"`
	Nodes     []string `json:"nodes,omitempty"`    // scheme and host; none: the runner's environment names them
	Contract  string   `json:"contract,omitempty"` // empty: the runner's environment, or the chain's published one
	DataDir   string   `json:"data_dir,omitempty"` // empty: the orchestrator chooses
	EnvNames  []string `json:"env_names"`          // of the variables that it gets and no function, without values
}

// newRunnerSettings completes what the spec says of the runner by what is known of the chain. last
// is what the last deployment recorded of the service on chain; it may be nil. meta and binary may
// be nil too.
func newRunnerSettings(spec ServiceSpec, meta *Metadata, fetch []FetchOption, binary *faas.Binary, last *ledger.Chain,
	o serviceOptions) (runnerSettings, error) {
	if spec.ServiceID == nil {
		return runnerSettings{env: faas.NewEnv(spec.RunnerEnv)}, nil
	}
	_, local := o.orchestrator.(*orchestrator.Local)
	if err := spec.resolvePaths(local); err != nil {
		return runnerSettings{}, err
	}
	f := newFetchOptions(fetch)
	env, err := chainEnvironment(spec, meta, f)
	if err != nil {
		return runnerSettings{}, err
	}
	urls, nodes, err := runnerNodes(f.rpc, binary)
	if err != nil {
		return runnerSettings{}, err
	}
	set(env, nodeEnv, urls)
	maps.DeleteFunc(env, func(name, _ string) bool { _, given := spec.Env[name]; return given })
	maps.Copy(env, spec.RunnerEnv)
	delete(env, dataDirEnv) // see resolvePaths

	chain := &orchestrator.Chain{ServiceID: *spec.ServiceID, DataDir: spec.DataDir}
	if chain.DataDir == "" && last != nil {
		chain.DataDir = last.DataDir
	}
	known := chain.DataDir
	if known == "" {
		if chain.LocalDataDir, err = o.ledgers.dataDir(spec.Name); err != nil {
			return runnerSettings{}, faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "ServiceSpec.DataDir: %w", err)
		}
		if local {
			known = chain.LocalDataDir
		}
	}
	return runnerSettings{env: faas.NewEnv(env), chain: chain,
		planned: &PlannedRunner{ServiceID: *spec.ServiceID, Nodes: nodes, Contract: env[ContractEnv], DataDir: known,
			EnvNames: slices.Sorted(maps.Keys(env))},
		record:   &ledger.Chain{ServiceID: *spec.ServiceID, DataDir: known},
		warnings: spec.runnerWarnings(env, local)}, nil
}

// resolvePaths takes the data directory from the environments if they set it, and makes paths on
// this machine absolute: a relative one means another file in another directory.
func (s *ServiceSpec) resolvePaths(local bool) error {
	s.DataDir = cmp.Or(s.RunnerEnv[dataDirEnv], s.Env[dataDirEnv], s.DataDir)
	for field, path := range map[string]*string{"DataDir": &s.DataDir, "Keystore": &s.Keystore} {
		if !local || *path == "" || strings.Contains(*path, "://") {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "ServiceSpec.%s: %w", field, err)
		}
		*path = absolute
	}
	return nil
}

// runnerNodes returns the URLs of the nodes as the runner takes them, and what may be shown of
// them.
func runnerNodes(urls []string, binary *faas.Binary) (list string, shown []string, err error) {
	escaped := make([]string, len(urls))
	for i, node := range urls {
		u, err := url.Parse(node)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", "",
				"WithRPC: node %d of %d is not an http or https URL", i+1, len(urls))
		}
		shown = append(shown, u.Scheme+"://"+u.Host)
		escaped[i] = strings.ReplaceAll(node, ",", "%2C")
	}
	if binary == nil || binary.Protocols != faas.SpeaksAll {
		n := min(len(urls), 1) // other runners know only one
		shown, escaped = shown[:n], escaped[:n]
	}
	return strings.Join(escaped, ","), shown, nil
}

// chainEnvironment returns the variables that the deployment knows, without the nodes.
func chainEnvironment(spec ServiceSpec, meta *Metadata, f *fetchOptions) (map[string]string, error) {
	env := map[string]string{serviceEnv: strconv.FormatUint(*spec.ServiceID, 10),
		blueprintEnv: strconv.FormatUint(spec.BlueprintID, 10), protocolEnv: "tangle"}
	if set(env, keystoreEnv, spec.Keystore); spec.Env[keystoreEnv] == "" && spec.RunnerEnv[keystoreEnv] == "" {
		set(env, ownKeystoreEnv, spec.Keystore) // which this program's environment may have
	}
	contract, err := contractAddress(f.contract)
	if err != nil {
		return nil, err
	}
	chainID := f.chainID
	if meta != nil && meta.OnChain != nil {
		chainID, contract = meta.OnChain.ChainID, meta.OnChain.Contract
	}
	if chainID != 0 {
		env[chainIDEnv] = strconv.FormatUint(chainID, 10)
	}
	set(env, ContractEnv, contract)
	nameNetwork(env, chainID, contract)
	return env, nil
}

// runnerWarnings tell what an operator should know. env is what the runner alone gets.
func (s ServiceSpec) runnerWarnings(env map[string]string, local bool) (warnings []string) {
	if env[nodeEnv] == "" && s.Env[nodeEnv] == "" && (!local || os.Getenv(nodeEnv) == "") {
		warnings = append(warnings, "no node is named for the runner (WithRPC), so it needs "+nodeEnv+
			" in its environment, or a node at http://127.0.0.1:9944")
	}
	leaked := slices.DeleteFunc([]string{keystoreEnv, ownKeystoreEnv, passwordEnv}, func(name string) bool {
		return s.Env[name] == ""
	})
	if len(leaked) > 0 {
		warnings = append(warnings, fmt.Sprintf("the functions get %s too, which only the runner needs: set it in "+
			"ServiceSpec.RunnerEnv instead of Env", strings.Join(leaked, " and ")))
	}
	return warnings
}

// complete returns a spec whose RunnerEnv and DataDir are those of the settings.
func (s runnerSettings) complete(spec ServiceSpec) ServiceSpec {
	spec.RunnerEnv = s.env.Reveal()
	if s.chain != nil {
		spec.DataDir = cmp.Or(s.chain.DataDir, s.chain.LocalDataDir)
	}
	return spec
}

// set sets a variable unless the value is empty.
func set(env map[string]string, name, value string) {
	if value != "" {
		env[name] = value
	}
}

// nameNetwork adds what is published of the chain. Runners of other kinds take what is missing for
// the zero address.
func nameNetwork(env map[string]string, chainID uint64, contract string) {
	network, known := tangle.KnownNetwork(chainID)
	switch {
	case chainID == 31337 || chainID == 1337:
		env[chainEnv] = "local_testnet"
	case known:
		env[chainEnv] = "testnet" // all published networks are
	}
	address, err := tangle.ParseAddress(contract)
	if known && (contract == "" || err == nil && address == network.Contract) {
		env[ContractEnv] = network.Contract.String()
		env[stakingEnv], env[statusRegistryEnv] = network.Staking.String(), network.StatusRegistry.String()
	}
}

// dataDir is where the runner of the service keeps its journal by default.
func (l ledgers) dataDir(service string) (string, error) {
	store, err := l.store()
	if err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(store.Dir(), "runners", files.UniqueName(service)))
}

// check refuses a runner that is not as planned.
func (p *PlannedRunner) check(now *PlannedRunner) error {
	if (p == nil) != (now == nil) {
		return moved("the plan and this deployment differ in whether the runner serves a service on chain")
	}
	if p == nil || p.String() == now.String() && slices.Equal(p.EnvNames, now.EnvNames) {
		return nil
	}
	return moved("the runner would now be for %v with %v; it was for %v with %v", now, now.EnvNames, p, p.EnvNames)
}

// String says in words for what the runner is.
func (p *PlannedRunner) String() string {
	text := fmt.Sprintf("service %d on chain", p.ServiceID)
	if len(p.Nodes) > 0 {
		text += " at " + strings.Join(p.Nodes, ", ")
	}
	if p.Contract != "" {
		text += ", contract " + p.Contract
	}
	if p.DataDir != "" {
		text += ", journal in " + p.DataDir
	}
	return text
}
