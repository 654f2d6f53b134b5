package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/internal/devchain/contract"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// chain is a chain with a service, as a customer sees it.
type chain interface {
	String() string
	settings() settings
	// submit calls a job of the service and returns the call's number.
	submit(ctx context.Context, job uint8, inputs []byte) (call uint64, err error)
	// result waits for the call's result.
	result(ctx context.Context, call uint64) ([]byte, error)
	close() error
}

// settings are what a deployment must know of a chain.
type settings struct {
	url, contract      string
	id                 uint64
	blueprint, service uint64
	silent             bool // it does not say which jobs the blueprint has
}

// chainID is that of development chains.
const chainID = 31337

// wait calls look until it says that it is done.
func wait(ctx context.Context, look func() (done bool, err error)) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// model is the chain in this program.
type model struct {
	*devchain.Chain
	at settings
}

func startModel() (chain, error) {
	c := devchain.New(devchain.Config{Empty: true})
	blueprint := c.AddBlueprint(devchain.Blueprint{Definition: tangle.Definition{
		Jobs: []tangle.Job{{Name: "sort"}, {Name: "digest"}, {Name: "count"}}}})
	service := c.AddService(devchain.Service{Blueprint: blueprint,
		Operators: []devchain.Address{devchain.Account(operator)}})
	url, err := c.Node().Listen()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &model{c, settings{url: url, contract: devchain.Contract.String(), id: chainID, blueprint: blueprint,
		service: service}}, nil
}

func (m *model) String() string     { return "a model in this program" }
func (m *model) settings() settings { return m.at }

func (m *model) submit(_ context.Context, job uint8, inputs []byte) (uint64, error) {
	return m.Submit(m.at.service, job, inputs)
}

func (m *model) result(ctx context.Context, call uint64) (output []byte, err error) {
	err = wait(ctx, func() (bool, error) {
		results := m.Results(m.at.service, call)
		if len(results) > 0 {
			output = results[0].Output
		}
		return len(results) > 0, nil
	})
	return output, err
}

func (m *model) close() error {
	m.Close()
	return nil
}

// anvil is a node of Foundry, which has the development accounts' keys.
type anvil struct {
	cmd *exec.Cmd
	at  settings
}

// startAnvil starts a node, and puts a contract with one service on its chain.
func startAnvil(ctx context.Context, path string) (_ chain, err error) {
	a := &anvil{cmd: exec.Command(path, "--port", "0")}
	output, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	lines := bufio.NewScanner(output)
	for a.at.url == "" && lines.Scan() {
		if _, address, ok := strings.Cut(lines.Text(), "Listening on "); ok {
			a.at.url = "http://" + address
		}
	}
	if a.at.url == "" {
		return nil, fmt.Errorf("%s did not say where it listens", path)
	}
	go func() { // it would wait when nobody reads
		for lines.Scan() {
		}
	}()
	a.at.id, a.at.silent = chainID, true
	receipt, err := a.send(ctx, "", contract.Create([]tangle.Address{devchain.Account(operator)}, 3))
	if err != nil {
		return nil, err
	}
	a.at.contract = receipt.ContractAddress
	return a, nil
}

func (a *anvil) String() string     { return "anvil at " + a.at.url }
func (a *anvil) settings() settings { return a.at }

func (a *anvil) close() error {
	err := a.cmd.Process.Kill()
	_ = a.cmd.Wait() // it was killed
	return err
}

// call makes a call of JSON-RPC.
func (a *anvil) call(ctx context.Context, result any, method string, params ...any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.at.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Result any
		Error  *struct{ Message string }
	}{Result: result}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s", method, answer.Error.Message)
	}
	return nil
}

type receipt struct {
	Status, ContractAddress string
	Logs                    []struct{ Topics []string }
}

// send sends a transaction of the customer, and waits until it is in a block.
func (a *anvil) send(ctx context.Context, to string, data []byte) (*receipt, error) {
	tx := map[string]string{"from": devchain.Account(0).String(), "data": "0x" + hex.EncodeToString(data)}
	if to != "" {
		tx["to"] = to
	}
	var hash string
	if err := a.call(ctx, &hash, "eth_sendTransaction", tx); err != nil {
		return nil, err
	}
	var mined *receipt
	err := wait(ctx, func() (bool, error) {
		err := a.call(ctx, &mined, "eth_getTransactionReceipt", hash)
		return mined != nil, err
	})
	if err == nil && mined.Status != "0x1" {
		err = fmt.Errorf("the contract refused transaction %s", hash)
	}
	return mined, err
}

func (a *anvil) submit(ctx context.Context, job uint8, inputs []byte) (uint64, error) {
	// submitJob(uint64 service, uint8 job, bytes inputs)
	data := []byte{0x34, 0x13, 0xe8, 0xee}
	for _, n := range []uint64{a.at.service, uint64(job), 96, uint64(len(inputs))} {
		data = append(data, word(n)...)
	}
	data = append(append(data, inputs...), make([]byte, -len(inputs)&31)...)
	mined, err := a.send(ctx, a.at.contract, data)
	if err != nil {
		return 0, err
	}
	if len(mined.Logs) != 1 || len(mined.Logs[0].Topics) != 3 {
		return 0, errors.New("the receipt has no event of a submitted job")
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(mined.Logs[0].Topics[2], "0x"))
	if err != nil || len(raw) != 32 {
		return 0, errors.New("the receipt has no number of a call")
	}
	return binary.BigEndian.Uint64(raw[24:]), nil
}

// resultTopic is JobResultSubmitted(uint64,uint64,address,bytes).
const resultTopic = "0x8a04f99fe23284e874e8dd017345248279cc59701695e73bcdbeb6241bcd2ac6"

func (a *anvil) result(ctx context.Context, call uint64) (output []byte, err error) {
	query := map[string]any{"fromBlock": "0x0", "address": a.at.contract, "topics": []string{
		resultTopic, "0x" + hex.EncodeToString(word(a.at.service)), "0x" + hex.EncodeToString(word(call))}}
	err = wait(ctx, func() (bool, error) {
		var logs []struct{ Data string }
		if err := a.call(ctx, &logs, "eth_getLogs", query); err != nil || len(logs) == 0 {
			return false, err
		}
		raw, err := hex.DecodeString(strings.TrimPrefix(logs[0].Data, "0x")) // 32, the length, the bytes
		if err != nil || len(raw) < 64 || uint64(len(raw)-64) < binary.BigEndian.Uint64(raw[56:]) {
			return false, errors.New("the event of the result is malformed")
		}
		output = raw[64 : 64+binary.BigEndian.Uint64(raw[56:])]
		return true, nil
	})
	return output, err
}

// word is a number as contracts take it.
func word(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24), n) }
