package runner

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// newcomer is a development account that is staked and operates nothing.
const newcomer = 4

// signerOf returns the signer of a development account, and the file with its key.
func signerOf(t *testing.T, account int) (Signer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(devchain.Key(account))), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := OpenKeystore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

// serveChain returns a development chain, and the URL of a node of it.
func serveChain(t *testing.T, cfg devchain.Config) (*devchain.Chain, string) {
	t.Helper()
	c := devchain.New(cfg)
	t.Cleanup(c.Close)
	url, err := c.Node().Listen()
	if err != nil {
		t.Fatal(err)
	}
	return c, url
}

func TestTheKeyOfARegistrationIsAsTheContractWantsIt(t *testing.T) {
	dev, url := serveChain(t, devchain.Config{})
	dev.Stake(devchain.Account(newcomer), true)
	proving := dev.AddBlueprint(devchain.Blueprint{KeyProof: true})
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _ := signerOf(t, newcomer)
	// allowed tells whether the contract would take a registration.
	allowed := func(blueprint uint64, key []byte) error {
		_, err := c.EstimateGas(t.Context(), chain.Call{From: s.Address(), To: c.Contract(),
			Data: chain.RegisterOperator(blueprint, key, "", nil)})
		return err
	}
	key, err := registrationKey(t.Context(), c, proving, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(key) != 130 || key[0] != 4 || allowed(proving, key) != nil {
		t.Errorf("with a proof: %d bytes, %v", len(key), allowed(proving, key))
	}
	var revert *chain.Revert
	if err := allowed(proving, key[:65]); !errors.As(err, &revert) {
		t.Errorf("the chain takes a key without a proof: %v", err)
	}
	if key, err = registrationKey(t.Context(), c, proving+1, s); err != nil {
		t.Fatal(err)
	}
	if err := allowed(proving, key); !errors.As(err, &revert) {
		t.Errorf("the chain takes the proof for another blueprint: %v", err)
	}
}

func TestTheKeyOfARegistrationHasNoProofUnlessItIsAskedFor(t *testing.T) {
	dev, url := serveChain(t, devchain.Config{})
	dev.Stake(devchain.Account(newcomer), true)
	c, err := chain.Open(t.Context(), chain.Config{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _ := signerOf(t, newcomer)
	key, err := registrationKey(t.Context(), c, 0, s)
	if err != nil || len(key) != 65 {
		t.Errorf("got %d bytes, %v", len(key), err)
	}
}

// impostor says that it is somebody else.
type impostor struct{ Signer }

func (impostor) Address() [20]byte { return devchain.Account(1) }

func TestASignerThatIsNotWhoItSaysIsRefused(t *testing.T) {
	s, _ := signerOf(t, newcomer)
	_, err := registrationKey(t.Context(), nil, 0, impostor{s})
	if err == nil || !strings.Contains(err.Error(), "signs for "+hexOf(s.Address())) {
		t.Errorf("got %v", err)
	}
}

func TestTheRegistrationInputsReachTheManager(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name   string
		inputs func(context.Context) ([]byte, error)
		want   string // what the file holds
		err    string
	}{
		{name: "none", want: "\x00"}, // the manager refuses an empty file
		{name: "some", inputs: func(context.Context) ([]byte, error) { return []byte("inputs"), nil }, want: "inputs"},
		{name: "empty", inputs: func(context.Context) ([]byte, error) { return nil, nil }, err: "are empty"},
		{name: "failing", inputs: func(context.Context) ([]byte, error) { return nil, errors.New("no luck") },
			err: "no luck"},
		{name: "too many", inputs: func(context.Context) ([]byte, error) { return make([]byte, 100_001), nil },
			err: "100001 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := settings{captureOnly: true, output: filepath.Join(dir, tt.name, "inputs.bin")}
			err := s.registerOnly(t.Context(), newOptions([]Option{WithRegistration(tt.inputs)}))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				if _, err := os.Stat(s.output); !os.IsNotExist(err) {
					t.Errorf("there is a file: %v", err)
				}
				return
			}
			if text, rerr := os.ReadFile(s.output); err != nil || rerr != nil || string(text) != tt.want {
				t.Errorf("got %q, %v, %v", text, err, rerr)
			}
		})
	}
}
