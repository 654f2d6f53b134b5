package bls_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/bls"
)

func keyOf(words [4]devchain.Word) (bls.PublicKey, error) {
	return bls.ParsePublicKey(bytes.Join([][]byte{words[0][:], words[1][:], words[2][:], words[3][:]}, nil))
}

func wordsOf(key bls.PublicKey) (words [4]devchain.Word) {
	for i, w := range key.Words() {
		words[i] = w
	}
	return words
}

// curve lets the chain verify aggregates.
func curve(keys map[devchain.Address][4]devchain.Word) *devchain.BLS {
	return &devchain.BLS{
		Keys: keys,
		Sum: func(all [][4]devchain.Word) [4]devchain.Word {
			var parsed []bls.PublicKey
			for _, words := range all {
				key, err := keyOf(words)
				if err != nil {
					return [4]devchain.Word{}
				}
				parsed = append(parsed, key)
			}
			sum, err := bls.AddKeys(parsed...)
			if err != nil {
				return [4]devchain.Word{}
			}
			return wordsOf(sum)
		},
		Verify: func(message []byte, signature [2]devchain.Word, words [4]devchain.Word) bool {
			sig, err := bls.ParseSignature(append(signature[0][:], signature[1][:]...))
			if err != nil {
				return false
			}
			key, err := keyOf(words)
			return err == nil && bls.Verify(key, message, sig)
		},
	}
}

// TestTwoRunners brings results on chain that both operators of a service must sign.
func TestTwoRunners(t *testing.T) {
	t.Parallel()
	registered := map[devchain.Address][4]devchain.Word{}
	var secrets []bls.Key
	for account := 1; account <= 2; account++ {
		key, err := bls.NewKey([32]byte{31: byte(account)})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, key)
		registered[devchain.Account(account)] = wordsOf(key.PublicKey())
	}
	c := devchain.New(devchain.Config{Empty: true, BLS: curve(registered)})
	t.Cleanup(c.Close)
	blueprint := c.AddBlueprint(devchain.Blueprint{Definition: tangle.Definition{Jobs: make([]tangle.Job, 1)},
		Rules: map[uint8]devchain.Rules{0: {Aggregate: true, Threshold: 10_000}}})
	service := c.AddService(devchain.Service{Blueprint: blueprint})
	url, err := c.Node().Listen()
	if err != nil {
		t.Fatal(err)
	}
	meeting := httptest.NewServer(bls.NewService())
	t.Cleanup(meeting.Close)

	events := make(chan runner.Event, 10_000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for i, key := range secrets {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(hex.EncodeToString(devchain.Key(i+1))), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, _, err := runner.OpenKeystore(path, "")
		if err != nil {
			t.Fatal(err)
		}
		aggregator, err := bls.New(key, meeting.URL, bls.WithPoll(20*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		r, err := runner.New(runner.Config{RPC: url, Contract: devchain.Contract.String(), ServiceID: service,
			BlueprintID: blueprint, DataDir: t.TempDir(), Signer: signer},
			runner.WithHandlers(job.Handlers{0: func(_ context.Context, args []byte) ([]byte, error) {
				return append([]byte("re: "), args...), nil
			}}),
			runner.WithAggregator(aggregator), runner.WithPoll(20*time.Millisecond),
			runner.WithEvents(func(e runner.Event) { events <- e }))
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- r.Run(ctx) }()
	}
	defer func() {
		stop()
		for range secrets {
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}()

	const calls = 5
	for range calls {
		if _, err := c.Submit(service, 0, []byte("question")); err != nil {
			t.Fatal(err)
		}
	}
	finished := 0
	for finished < calls*len(secrets) {
		select {
		case e := <-events:
			if e.Kind == runner.EventFinished {
				if finished++; e.Outcome != runner.Done {
					t.Errorf("%+v", e)
				}
			}
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d calls are finished", finished, calls*len(secrets))
		}
	}
	for id, results := range c.AllResults(service) {
		if len(results) != 1 || string(results[0].Output) != "re: question" || !results[0].Operator.IsZero() {
			t.Errorf("the results of call %d are %+v", id, results)
		}
	}
	if _, completed := c.Calls(service); completed != calls {
		t.Errorf("%d calls are completed", completed)
	}
}
