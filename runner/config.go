package runner

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The names of the environment variables. The first group is the ecosystem's.
const (
	httpEnv         = "HTTP_RPC_URL"
	wsEnv           = "WS_RPC_URL"
	serviceEnv      = "SERVICE_ID"
	blueprintEnv    = "BLUEPRINT_ID"
	dataEnv         = "DATA_DIR"
	keystoreEnv     = "KEYSTORE_URI"
	ownKeystoreEnv  = "BLUEPRINT_KEYSTORE_URI"
	passwordEnv     = "KEYSTORE_PASSWORD"
	contractEnv     = "TANGLE_CONTRACT"
	registryEnv     = "STATUS_REGISTRY_CONTRACT"
	protocolEnv     = "PROTOCOL"
	bridgeEnv       = "BRIDGE_SOCKET_PATH"
	logRangeEnv     = "MAX_GETLOGS_RANGE"
	testModeEnv     = "TEST_MODE"
	prettyEnv       = "PRETTY"
	registrationEnv = "REGISTRATION_MODE_ON"
	outputEnv       = "REGISTRATION_OUTPUT_PATH"
	captureEnv      = "REGISTRATION_CAPTURE_ONLY"

	chainEnv    = "BLUEPRINT_CHAIN_ID"
	operatorEnv = "BLUEPRINT_OPERATOR_ADDRESS"
	urlEnv      = "BLUEPRINT_OPERATOR_URL"
	healthEnv   = "BLUEPRINT_HEALTH_ADDR"
)

// variables describes the environment, in the order in which the usage and errors show it.
var variables = []struct{ name, shape, fallback string }{
	{httpEnv, "URLs of nodes, http or https, separated by commas", "http://127.0.0.1:9944"},
	{wsEnv, "URL of a node; used with http in place of ws if " + httpEnv + " is not set", ""},
	{serviceEnv, "whole number", "required"},
	{blueprintEnv, "whole number", "required"},
	{dataEnv, "directory for the journal, kept between runs", "required"},
	{ownKeystoreEnv, "like " + keystoreEnv + ", and goes before it", ""},
	{keystoreEnv, "directory or file with the operator's key, may begin with file://", "./keystore"},
	{passwordEnv, "password of a key file that is encrypted", ""},
	{operatorEnv, "address that chooses a key, 0x and 40 hexadecimal digits", "the smallest public key"},
	{contractEnv, "address of the Tangle contract", "the published one of the chain"},
	{registryEnv, "address of the OperatorStatusRegistry", "the one that the contract names"},
	{chainEnv, "whole number that the nodes must confirm", "the first node's"},
	{faas.RunnerConfigEnv, "the jobs that run on FaaS, as JSON", "none"},
	{healthEnv, "loopback address and port of the health endpoint, or off", defaultHealthAddr},
	{bridgeEnv, "unix socket of the manager", "none"},
	{logRangeEnv, "most blocks to ask logs of at a time", "2000"},
	{protocolEnv, "tangle", "tangle"},
	{testModeEnv, "true or false, like --test-mode", "false"},
	{prettyEnv, "true or false, like --pretty", "false"},
	{registrationEnv, "true or false: register the operator and exit", "false"},
	{outputEnv, "file for the registration inputs", "registration_inputs.bin in " + dataEnv},
	{captureEnv, "true or false: write that file and do not register", "false"},
	{urlEnv, "address where the operator may be reached, to register; public", ""},
}

// ConfigFromEnv reads the configuration from the environment that the ecosystem's manager gives,
// and what it lacks from a file settings.env in the working directory. The error is an
// ErrInvalidArgument that names every variable that is missing or malformed.
func ConfigFromEnv() (Config, error) {
	lookup, err := withSettingsFile(os.LookupEnv, settingsFile)
	if err != nil {
		return Config{}, err
	}
	s, err := readSettings(lookup)
	return s.Config, err
}

// settings are what the environment says.
type settings struct {
	Config
	testMode, pretty bool
	registration     bool
	output           string // of the registration inputs
	captureOnly      bool
	operatorURL      string
	bridge           string
	health           string // empty: nowhere
	healthSet        bool
	maxLogRange      uint64
	delegated        faas.RunnerConfig
	notes            []string // what an operator should know, without being an error
}

// envReader reads variables and collects what is wrong with them.
type envReader struct {
	lookup   func(string) (string, bool)
	problems []string
}

// get returns a variable without the space around it. Empty is not set.
func (e *envReader) get(name string) string {
	value, _ := e.lookup(name)
	return strings.TrimSpace(value)
}

// bad says that a variable is malformed. The value is shown unless it may hold a secret.
func (e *envReader) bad(name, format string, args ...any) {
	e.problems = append(e.problems, name+" "+fmt.Sprintf(format, args...))
}

// missing says what a variable should hold.
func (e *envReader) missing(name string) {
	for _, v := range variables {
		if v.name == name {
			e.bad(name, "is not set: %s", v.shape)
		}
	}
}

func (e *envReader) number(name string, required bool) uint64 {
	text := e.get(name)
	if text == "" {
		if required {
			e.missing(name)
		}
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		e.bad(name, "is %s: want a whole number below 2^64", shown(text))
	}
	return n
}

func (e *envReader) flag(name string) bool {
	switch text := strings.ToLower(e.get(name)); text {
	case "1", "true", "yes":
		return true
	case "", "0", "false", "no":
		return false
	default:
		e.bad(name, "is %s: want true or false", shown(text))
		return false
	}
}

// address returns "" for a variable that is not set or the zero address.
func (e *envReader) address(name string) string {
	text := e.get(name)
	if text == "" {
		return ""
	}
	a, err := tangle.ParseAddress(text)
	if err != nil {
		e.bad(name, "is %s: %v", shown(text), err)
	}
	if a.IsZero() {
		return ""
	}
	return a.String()
}

// shown quotes a value for an error.
func shown(text string) string {
	const most = 40
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strconv.QuoteToASCII(text)
}

// nodes returns the URLs of nodes, and whether they were made of WS_RPC_URL.
func (e *envReader) nodes() (list string, fromWS bool) {
	name := httpEnv
	text := e.get(httpEnv)
	if ws := e.get(wsEnv); text == "" && ws != "" {
		name, text, fromWS = wsEnv, ws, true
	}
	var urls []string
	for _, raw := range strings.Split(cmp.Or(text, "http://127.0.0.1:9944"), ",") {
		raw = strings.TrimSpace(raw)
		if raw == "" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" { // the error would show the URL, and the URL may hold a key
			e.bad(name, "holds something that is not a URL")
			continue
		}
		switch scheme := strings.ToLower(u.Scheme); {
		case scheme == "http" || scheme == "https":
		case fromWS && (scheme == "ws" || scheme == "wss"):
			u.Scheme = "http" + scheme[2:]
			raw = u.String()
		default:
			e.bad(name, "holds a URL with scheme %s: only http and https are spoken", shown(u.Scheme))
		}
		urls = append(urls, raw)
	}
	if len(urls) == 0 && len(e.problems) == 0 {
		e.bad(name, "holds no URL")
	}
	return strings.Join(urls, ","), fromWS
}

// keys opens the key store. The warnings are sentences for the operator.
func (e *envReader) keys() (signer Signer, warnings []string) {
	name, uri := ownKeystoreEnv, e.get(ownKeystoreEnv)
	if uri == "" {
		name, uri = keystoreEnv, cmp.Or(e.get(keystoreEnv), "./keystore")
	}
	password, _ := e.lookup(passwordEnv)
	var err error
	if text := e.address(operatorEnv); text == "" {
		signer, warnings, err = OpenKeystore(uri, password)
	} else if a, perr := tangle.ParseAddress(text); perr == nil { // else it is reported already
		signer, warnings, err = OpenKeystoreFor(uri, password, a)
	}
	if err != nil {
		e.bad(name, "gives no key: %v", err)
	}
	return signer, warnings
}

// health returns where the health endpoint listens, empty for nowhere, and whether that is said.
func (e *envReader) health() (addr string, set bool) {
	switch addr = e.get(healthEnv); addr {
	case "":
		return "", false
	case "off":
		return "", true
	}
	if err := checkLoopback(addr); err != nil {
		e.bad(healthEnv, "is %s: %v", shown(addr), err)
	}
	return addr, true
}

// checkLoopback tells why an address is not one of this machine alone.
func checkLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want an address and a port, such as 127.0.0.1:9100")
	}
	if !httputil.IsLoopback(host) {
		return errors.New("the address is not a loopback address")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("the port is not a number up to 65535")
	}
	return nil
}

// readSettings reads everything. A registration needs no service, and no key if it only writes the
// registration inputs.
func readSettings(lookup func(string) (string, bool)) (settings, error) {
	e := &envReader{lookup: lookup}
	var s settings
	s.registration = e.flag(registrationEnv)
	s.captureOnly = e.flag(captureEnv)
	s.testMode, s.pretty = e.flag(testModeEnv), e.flag(prettyEnv)
	if p := strings.ToLower(e.get(protocolEnv)); p != "" && !strings.HasPrefix(p, "tangle") {
		e.bad(protocolEnv, "is %s: this blueprint is for tangle", shown(p))
	}
	s.BlueprintID = e.number(blueprintEnv, true)
	s.ServiceID = e.number(serviceEnv, !s.registration)
	s.ChainID = e.number(chainEnv, false)
	s.maxLogRange = e.number(logRangeEnv, false)
	if s.DataDir = e.get(dataEnv); s.DataDir == "" {
		e.missing(dataEnv)
	}
	s.output = cmp.Or(e.get(outputEnv), filepath.Join(s.DataDir, "registration_inputs.bin"))
	var fromWS bool
	if s.RPC, fromWS = e.nodes(); fromWS {
		s.notes = append(s.notes, "only HTTP is spoken: "+wsEnv+" is used with http in place of ws, because "+httpEnv+
			" is not set")
	}
	s.Contract = e.address(contractEnv)
	// The manager gives the zero address if it has none, or one that it could not parse.
	if a, err := tangle.ParseAddress(e.get(registryEnv)); err == nil && !a.IsZero() {
		s.StatusRegistry = a.String()
	}
	if s.operatorURL = e.get(urlEnv); len(s.operatorURL) > maxOperatorURL {
		e.bad(urlEnv, "has %d bytes: want at most %d", len(s.operatorURL), maxOperatorURL)
	}
	s.bridge = e.get(bridgeEnv)
	s.health, s.healthSet = e.health()
	var err error
	if s.delegated, err = faas.ParseRunnerConfig(e.get(faas.RunnerConfigEnv)); err != nil {
		e.bad(faas.RunnerConfigEnv, "is malformed: %v", err)
	}
	if !s.registration || !s.captureOnly {
		var warnings []string
		s.Signer, warnings = e.keys()
		s.notes = append(s.notes, warnings...)
	}
	if len(e.problems) > 0 {
		return s, faas.Errorf(faas.ErrInvalidArgument, "read the runner's environment", "", "%s",
			strings.Join(e.problems, "\n  "))
	}
	return s, nil
}

// confirmationsOf returns how many blocks must be on top of one that is relied upon. Local chains
// make blocks only for transactions, so waiting for further ones might never end.
func confirmationsOf(o *options, chainID uint64) uint64 {
	if o.confirmations != nil {
		return *o.confirmations
	}
	switch {
	case isLocal(chainID):
		return 0
	case chainID == 84532: // Base Sepolia
		return 2
	case chainID == 42431: // Tempo testnet
		return 1
	}
	return 12
}

// isLocal reports whether a chain is a development chain: anvil's and hardhat's, or go-ethereum's.
func isLocal(chainID uint64) bool { return chainID == 31337 || chainID == 1337 }

// settingsFile is what the ecosystem's command-line tool writes: variables of the environment.
const settingsFile = "settings.env"

// withSettingsFile returns lookup with the runner's own variables of the file beneath it. The
// environment goes first. A file that does not exist says nothing.
func withSettingsFile(lookup func(string) (string, bool), path string) (func(string) (string, bool), error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lookup, nil
	}
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, most+1))
	}
	if err == nil && len(text) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	var values map[string]string
	if err == nil {
		values, err = parseSettings(string(text))
	}
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "read "+path, "", "%w", err)
	}
	return func(name string) (string, bool) {
		if value, ok := lookup(name); ok {
			return value, true
		}
		value, ok := values[name]
		return value, ok
	}, nil
}

// parseSettings reads lines of NAME=VALUE. A line may begin with export, a value may stand in
// single or double quotes, and a line that begins with # is a comment. Errors show no values,
// since these may be secrets.
func parseSettings(text string) (map[string]string, error) {
	values := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsAny(name, " \t'\"#") {
			return nil, fmt.Errorf("line %d is not NAME=VALUE", n)
		}
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			end := strings.IndexByte(value[1:], value[0])
			if end < 0 {
				return nil, fmt.Errorf("line %d: the value of %s has no closing quote", n, name)
			}
			value = value[1 : 1+end]
		} else if comment := strings.Index(value, " #"); comment >= 0 {
			value = strings.TrimSpace(value[:comment])
		}
		values[name] = value
	}
	return values, nil
}
