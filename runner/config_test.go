package runner

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// sampleKeys is a key store of the ecosystem with the keys of two operators.
const sampleKeys = "internal/keys/testdata/keystore"

// environment is what the ecosystem's manager gives at least, with changes. A value of "-" is none.
func environment(changes ...string) func(string) (string, bool) {
	env := map[string]string{serviceEnv: "1", blueprintEnv: "2", dataEnv: "/data", keystoreEnv: sampleKeys}
	for i := 0; i < len(changes); i += 2 {
		env[changes[i]] = changes[i+1]
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "-" })
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

func TestSettingsAreReadFromTheEnvironment(t *testing.T) {
	const zero, some = "0x0000000000000000000000000000000000000000", "0x0165878A594ca255338adfa4d48449f69242Eb8F"
	for _, tt := range []struct {
		name string
		env  []string
		get  func(settings) any
		want any
	}{
		{"service", nil, func(s settings) any { return s.ServiceID }, uint64(1)},
		{"blueprint", nil, func(s settings) any { return s.BlueprintID }, uint64(2)},
		{"default node", nil, func(s settings) any { return s.RPC }, "http://127.0.0.1:9944"},
		{"several nodes", []string{httpEnv, " https://a/x, http://b:1 ,"}, func(s settings) any { return s.RPC },
			"https://a/x,http://b:1"},
		{"ws beside http", []string{httpEnv, "http://a", wsEnv, "ws://b"}, func(s settings) any { return s.RPC }, "http://a"},
		{"ws alone", []string{wsEnv, "ws://b:8546/k?x=1"}, func(s settings) any { return s.RPC }, "http://b:8546/k?x=1"},
		{"wss alone", []string{wsEnv, "wss://b"}, func(s settings) any { return s.RPC }, "https://b"},
		{"contract", []string{contractEnv, some}, func(s settings) any { return s.Contract }, strings.ToLower(some)},
		{"zero contract", []string{contractEnv, zero}, func(s settings) any { return s.Contract }, ""},
		{"zero registry", []string{registryEnv, zero}, func(s settings) any { return s.StatusRegistry }, ""},
		{"registry that is none", []string{registryEnv, "none"}, func(s settings) any { return s.StatusRegistry }, ""},
		{"registry", []string{registryEnv, some}, func(s settings) any { return s.StatusRegistry }, strings.ToLower(some)},
		{"flags", []string{testModeEnv, "YES", prettyEnv, "1"}, func(s settings) any { return s.testMode && s.pretty }, true},
		{"no flags", []string{testModeEnv, "no", prettyEnv, "0"},
			func(s settings) any { return s.testMode || s.pretty }, false},
		{"health", []string{healthEnv, "[::1]:80"}, func(s settings) any { return s.health }, "[::1]:80"},
		{"no health", []string{healthEnv, "off"}, func(s settings) any { return s.health == "" && s.healthSet }, true},
		{"smallest key", nil, func(s settings) any { return hexOf(s.Signer.Address()) }, operator1},
		{"chosen key", []string{operatorEnv, strings.ToUpper(operator2[2:])},
			func(s settings) any { return hexOf(s.Signer.Address()) }, operator2},
		{"key store as a URL", []string{keystoreEnv, "file://" + sampleKeys},
			func(s settings) any { return hexOf(s.Signer.Address()) }, operator1},
		{"the blueprint's key store goes first", []string{keystoreEnv, "/absent", ownKeystoreEnv, sampleKeys},
			func(s settings) any { return hexOf(s.Signer.Address()) }, operator1},
		{"no jobs on FaaS", nil, func(s settings) any { return len(s.delegated) }, 0},
		{"jobs on FaaS", []string{faas.RunnerConfigEnv, `{"3":{"provider":"custom","function_id":"f"}}`},
			func(s settings) any { return s.delegated[3].Provider }, "custom"},
		{"registration needs no service", []string{registrationEnv, "true", serviceEnv, "-"},
			func(s settings) any { return s.output }, "/data/registration_inputs.bin"},
		{"capturing needs no key", []string{registrationEnv, "1", captureEnv, "1", keystoreEnv, "/absent"},
			func(s settings) any { return s.Signer }, Signer(nil)},
		{"other protocol's name", []string{protocolEnv, "tangle-evm"},
			func(s settings) any { return s.ServiceID }, uint64(1)},
		{"width of logs", []string{logRangeEnv, "500"}, func(s settings) any { return s.maxLogRange }, uint64(500)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := readSettings(environment(tt.env...))
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.get(s); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// The accounts of the sample key store.
const (
	operator1 = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
	operator2 = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
)

func hexOf(a [20]byte) string { return chain.Address(a).String() }

func TestEveryProblemOfTheEnvironmentIsToldAtOnce(t *testing.T) {
	const secret = "s3cr3t"
	_, err := readSettings(environment(serviceEnv, "one", blueprintEnv, "-", dataEnv, "-", keystoreEnv, "/absent/keys",
		httpEnv, "http://user:"+secret+"@a b/, ftp://"+secret+"/, ws://c",
		contractEnv, "0x12", healthEnv, "0.0.0.0:80", testModeEnv, "on",
		faas.RunnerConfigEnv, "{", protocolEnv, "eigenlayer", operatorEnv, "me", passwordEnv, secret, logRangeEnv, "0x10"))
	if faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`SERVICE_ID is "one": want a whole number`, "BLUEPRINT_ID is not set: whole number", "DATA_DIR is not set: directory",
		"KEYSTORE_URI gives no key: ", "HTTP_RPC_URL holds something that is not a URL",
		`HTTP_RPC_URL holds a URL with scheme "ftp": only http and https`, `HTTP_RPC_URL holds a URL with scheme "ws"`,
		`TANGLE_CONTRACT is "0x12": an address is`,
		`BLUEPRINT_HEALTH_ADDR is "0.0.0.0:80": the address is not a loopback address`,
		`TEST_MODE is "on": want true or false`,
		"BLUEPRINT_FAAS_CONFIG is malformed: ", `PROTOCOL is "eigenlayer"`, `BLUEPRINT_OPERATOR_ADDRESS is "me"`,
		`MAX_GETLOGS_RANGE is "0x10"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("a secret is in: %v", err)
	}
}

func TestTheSettingsFileGivesWhatTheEnvironmentLacks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.env")
	if err := os.WriteFile(path, []byte("SERVICE_ID=7\nDATA_DIR='/elsewhere'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup, err := withSettingsFile(environment(dataEnv, "-"), path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSettings(lookup)
	if err != nil || s.ServiceID != 1 || s.DataDir != "/elsewhere" {
		t.Errorf("got service %d and directory %q (%v)", s.ServiceID, s.DataDir, err)
	}
	if _, err := withSettingsFile(environment(), filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if _, err := withSettingsFile(environment(), t.TempDir()); faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Errorf("with a directory in its place: %v", err)
	}
}

func TestParseSettings(t *testing.T) {
	for _, tt := range []struct{ text, name, want string }{
		{"A=1", "A", "1"},
		{"# A=2\n\n  export A = x y  \n", "A", "x y"},
		{"A=\"x # y\" # z", "A", "x # y"},
		{"A='x\"'", "A", "x\""},
		{"A=x # y", "A", "x"},
		{"A=http://a/#b", "A", "http://a/#b"},
		{"A=x=y\r\n", "A", "x=y"},
		{"A=", "A", ""},
		{"A=1\nA=2", "A", "2"},
	} {
		got, err := parseSettings(tt.text)
		if err != nil || got[tt.name] != tt.want {
			t.Errorf("%q: got %q (%v), want %q", tt.text, got[tt.name], err, tt.want)
		}
	}
	for _, text := range []string{"A", "=1", "A B=1", "A='secret", "\n\"A=secret\""} {
		_, err := parseSettings(text)
		if err == nil || !strings.Contains(err.Error(), "line ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("A=1\nexport B='x'\n# c\nD=\"y\" # z")
	f.Add("A='")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := parseSettings(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for name, value := range values {
			quote := "'"
			if strings.Contains(value, quote) {
				quote = `"`
			}
			if strings.Contains(value, quote) || strings.ContainsAny(value, "\n") {
				return // cannot be written
			}
			again.WriteString(name + "=" + quote + value + quote + "\n")
		}
		back, err := parseSettings(again.String())
		if err != nil {
			t.Fatalf("%q: %v", again.String(), err)
		}
		if diff := cmp.Diff(values, back); diff != "" {
			t.Errorf("written again and read: %s", diff)
		}
	})
}

func TestConfirmations(t *testing.T) {
	three := uint64(3)
	for _, tt := range []struct {
		o     options
		chain uint64
		want  uint64
	}{{chain: 31337}, {chain: 1337}, {chain: 84532, want: 2}, {chain: 42431, want: 1}, {chain: 1, want: 12},
		{o: options{confirmations: &three}, chain: 31337, want: 3}} {
		if got := confirmationsOf(&tt.o, tt.chain); got != tt.want {
			t.Errorf("chain %d: got %d, want %d", tt.chain, got, tt.want)
		}
	}
}

func TestOnlyLoopbackAddressesServeHealth(t *testing.T) {
	for addr, good := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:80": true, "localhost:65535": true, "[::1]:1": true,
		"0.0.0.0:80": false, ":80": false, "10.0.0.1:80": false, "example.org:80": false, "127.0.0.1": false,
		"127.0.0.1:http": false, "127.0.0.1:65536": false, "": false,
	} {
		if err := checkLoopback(addr); (err == nil) != good {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestConfigFromEnv(t *testing.T) {
	lookup := environment(dataEnv, t.TempDir())
	for _, v := range variables {
		value, _ := lookup(v.name)
		t.Setenv(v.name, value)
	}
	cfg, err := ConfigFromEnv()
	if err != nil || cfg.ServiceID != 1 || hexOf(cfg.Signer.Address()) != operator1 {
		t.Errorf("got %+v, %v", cfg, err)
	}
	t.Setenv(serviceEnv, "x")
	var fe *faas.Error
	if _, err := ConfigFromEnv(); !errors.As(err, &fe) || fe.Code != faas.ErrInvalidArgument {
		t.Errorf("got %v", err)
	}
}
