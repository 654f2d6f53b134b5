package runner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// maxOperatorURL bounds that address, in bytes: each costs gas.
const maxOperatorURL = 2048

// maxRegistrationInputs bounds the registration inputs, in bytes, so that they fit a transaction.
const maxRegistrationInputs = 100_000

// registrationInputs returns what to register with, nil for nothing.
func registrationInputs(ctx context.Context, o *options) ([]byte, error) {
	if o.registration == nil {
		return nil, nil
	}
	inputs, err := o.registration(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the blueprint's registration inputs: %w", err)
	case len(inputs) == 0:
		return nil, errors.New("the blueprint's registration inputs are empty")
	case len(inputs) > maxRegistrationInputs:
		return nil, fmt.Errorf("the blueprint's registration inputs have %d bytes, and a transaction holds %d", len(inputs),
			maxRegistrationInputs)
	}
	return inputs, nil
}

// writeInputs hands the registration inputs to the manager, which refuses an empty file.
func writeInputs(path string, inputs []byte) error {
	if len(inputs) == 0 {
		inputs = []byte{0}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the registration inputs: %w", err)
	}
	if err := files.Write(path, inputs, 0o600); err != nil {
		return fmt.Errorf("writing the registration inputs: %w", err)
	}
	return nil
}

// registerOnly is the registration that the manager asks for: it tells the manager the inputs, and
// registers the operator unless the manager will.
func (s settings) registerOnly(ctx context.Context, o *options) error {
	inputs, err := registrationInputs(ctx, o)
	if err == nil {
		err = writeInputs(s.output, inputs)
	}
	if err != nil {
		return err
	}
	o.logger.Info("the registration inputs are written", "file", s.output)
	if s.captureOnly {
		return nil
	}
	return s.register(ctx, o, inputs)
}

// registerFirst registers the operator if it is not registered, and reports whether it had to.
func (s settings) registerFirst(ctx context.Context, o *options) (done bool, err error) {
	registered, err := s.registered(ctx, o)
	if err != nil { // the runner waits for the nodes, or tells what is wrong with them
		o.logger.Warn("it is not known yet whether the operator is registered", "error", err)
		return false, ctx.Err()
	}
	if registered {
		return false, nil
	}
	o.logger.Warn("the operator is not registered for the blueprint: it is registered now, and the runner ends")
	inputs, err := registrationInputs(ctx, o)
	if err != nil {
		return true, err
	}
	return true, s.register(ctx, o, inputs)
}

// registered asks the chain whether the operator is registered. It says yes if the service is of
// another blueprint than the environment says: nobody shall be registered for the wrong one.
func (s settings) registered(ctx context.Context, o *options) (bool, error) {
	const patience = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := chain.Open(ctx, s.chainConfig(o))
	if err != nil {
		return false, err
	}
	defer c.Close()
	service, err := c.Service(ctx, s.ServiceID)
	if err != nil || service.CreatedAt != 0 && service.Blueprint != s.BlueprintID {
		return true, err
	}
	return c.IsOperatorRegistered(ctx, s.BlueprintID, s.Signer.Address())
}

// register registers the operator for the blueprint, unless it is registered.
func (s settings) register(ctx context.Context, o *options, inputs []byte) error {
	c, err := chain.Open(ctx, s.chainConfig(o))
	if err != nil {
		return fmt.Errorf("registering the operator: %w", err)
	}
	defer c.Close()
	operator := chain.Address(s.Signer.Address())
	bad := func(err error) error {
		return fmt.Errorf("registering operator %s for blueprint %d: %w", operator, s.BlueprintID, err)
	}
	registered, err := c.IsOperatorRegistered(ctx, s.BlueprintID, operator)
	if err != nil {
		return bad(err)
	}
	if registered {
		o.logger.Info("the operator is registered already", "operator", operator.String(), "blueprint", s.BlueprintID)
		return nil
	}
	key, err := registrationKey(ctx, c, s.BlueprintID, s.Signer)
	if err != nil {
		return bad(err)
	}
	// The queue of the key keeps its transactions in a journal. This one belongs to no service.
	j, err := journal.Open(s.DataDir, journal.Key{ChainID: c.ID(), Contract: c.Contract(), Service: math.MaxUint64,
		Operator: operator})
	if err != nil {
		return bad(err)
	}
	defer j.Close()
	queue, err := txmgr.New(txmgr.Config{Chain: c, Store: j, Signer: s.Signer, Depth: confirmationsOf(o, c.ID()),
		MaxFee: o.maxFee, MaxTip: o.maxTip, Logger: o.logger})
	if err != nil {
		return bad(err)
	}
	queue.Settled(nil) // a registration that an earlier process sent and that is not mined is sent anew
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- queue.Run(working) }()
	receipt, err := queue.Send(ctx, txmgr.Request{
		Label: "register operator", To: c.Contract(),
		Data: chain.RegisterOperator(s.BlueprintID, key, o.operatorURL, inputs),
	})
	stop()
	if rerr := <-ended; err == nil && rerr != nil && !errors.Is(rerr, context.Canceled) {
		err = rerr
	}
	switch {
	case err != nil:
		return bad(err)
	case !receipt.Succeeded:
		return bad(fmt.Errorf("transaction %s was mined and reverted", receipt.Tx))
	}
	o.logger.Info("the operator is registered", "operator", operator.String(), "blueprint", s.BlueprintID,
		"transaction", receipt.Tx.String())
	return nil
}

// registrar is what registrationKey needs of *chain.Chain.
type registrar interface {
	ID() uint64
	Contract() chain.Address
	RequiresKeyProof(ctx context.Context) (bool, error)
}

// registrationKey returns the operator's public key as the contract wants it: 65 bytes, followed by
// a proof that the operator has the private key if the contract asks for one.
func registrationKey(ctx context.Context, c registrar, blueprint uint64, s Signer) ([]byte, error) {
	// A Signer may keep its key elsewhere, and has no method for the public key: a signature tells it.
	challenge := [32]byte(tangle.Keccak256([]byte("the public key of this signature")))
	sig, err := s.Sign(ctx, challenge)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	key, err := tx.Recover(challenge, sig)
	if err != nil {
		return nil, err
	}
	operator := chain.Address(s.Address())
	if signer := tx.AddressOf(key); signer != operator {
		return nil, fmt.Errorf("the signer signs for %s and says that it is %s", signer, operator)
	}
	prove, err := c.RequiresKeyProof(ctx)
	if err != nil || !prove {
		return key[:], err
	}
	if sig, err = s.Sign(ctx, keyProofDigest(c.ID(), c.Contract(), blueprint, operator, key)); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	sig[64] += 27
	return append(key[:], sig[:]...), nil
}

// keyProofDigest is what the key signs: a personal message (EIP-191) of 32 bytes that names the
// chain, the contract, the blueprint, the operator and the key.
func keyProofDigest(chainID uint64, contract chain.Address, blueprint uint64, operator chain.Address,
	key [65]byte) [32]byte {
	domain, hash := tangle.Keccak256([]byte("TangleOperatorKeyProof")), tangle.Keccak256(key[:])
	var text []byte
	text = append(text, domain[:]...)
	text = appendWord(text, chainID)
	text = append(append(text, make([]byte, 12)...), contract[:]...)
	text = appendWord(text, blueprint)
	text = append(append(text, make([]byte, 12)...), operator[:]...)
	text = append(text, hash[:]...)
	inner := tangle.Keccak256(text)
	return tangle.Keccak256([]byte("\x19Ethereum Signed Message:\n32"), inner[:])
}

// chainConfig is how the chain is opened.
func (s settings) chainConfig(o *options) chain.Config {
	cfg := chain.Config{URLs: strings.Split(s.RPC, ","), ChainID: s.ChainID, HTTP: o.http, MaxLogRange: s.maxLogRange,
		Logger: o.logger}
	if a, err := tangle.ParseAddress(s.Contract); err == nil {
		cfg.Contract = &a
	}
	return cfg
}
