package chain

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// maxTopics is how many topics the EVM gives a log.
const maxTopics = 4

// parseBytes decodes a byte string in JSON. It overwrites the text.
func parseBytes(value []byte) ([]byte, error) { return rpc.Answer{Result: value}.Bytes() }

func parseNumber(value []byte) (uint64, error) { return rpc.Answer{Result: value}.Quantity() }

// fill decodes a byte string of fixed length.
func fill(into []byte, value []byte) error {
	raw, err := parseBytes(value)
	if err == nil && len(raw) != len(into) {
		err = fmt.Errorf("%d bytes, not %d", len(raw), len(into))
	}
	copy(into, raw)
	return err
}

// parseAmount decodes a number of up to 256 bits.
func parseAmount(value []byte) (*big.Int, error) {
	text := jsonwalk.Unquote(value)
	if len(text) < 3 || len(text) > 2+64 || text[:2] != "0x" {
		return nil, errors.New("not a number of 256 bits in hexadecimal")
	}
	n, ok := new(big.Int).SetString(text[2:], 16)
	if !ok || n.Sign() < 0 || text[2] == '+' || text[2] == '-' {
		return nil, errors.New("not a number of 256 bits in hexadecimal")
	}
	return n, nil
}

// members calls f for those members of an object that are wanted; a name that begins with ? may be
// missing. It fails if another one is missing, if one is there twice, or if f fails. null is
// rpc.ErrAbsent. Decoding overwrites the text, so nothing can be read twice.
func members(value []byte, wanted []string, f func(name string, value []byte) error) error {
	if string(value) == "null" {
		return rpc.ErrAbsent
	}
	if kind := jsonwalk.Kind(value); kind != "an object" {
		return fmt.Errorf("%s, not an object", kind)
	}
	var seen uint32
	err := jsonwalk.Members(value, func(name string, value []byte) error {
		for i, want := range wanted {
			if name != strings.TrimPrefix(want, "?") {
				continue
			}
			if seen&(1<<i) != 0 {
				return fmt.Errorf("%s is there twice", name)
			}
			seen |= 1 << i
			if err := f(name, value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	for i, want := range wanted {
		if err == nil && seen&(1<<i) == 0 && want[0] != '?' {
			err = errors.New(want + " is missing")
		}
	}
	return err
}

// parseBlock decodes a block. null is rpc.ErrAbsent.
func parseBlock(value []byte) (Block, error) {
	var b Block
	wanted := []string{"number", "hash", "parentHash", "timestamp", "?baseFeePerGas"}
	err := members(value, wanted, func(name string, value []byte) (err error) {
		switch name {
		case "number":
			b.Number, err = parseNumber(value)
		case "hash":
			err = fill(b.Hash[:], value)
		case "parentHash":
			err = fill(b.Parent[:], value)
		case "timestamp":
			b.Time, err = parseNumber(value)
		case "baseFeePerGas":
			if string(value) != "null" {
				b.BaseFee, err = parseAmount(value)
			}
		}
		return err
	})
	if err != nil {
		return Block{}, fmt.Errorf("block: %w", err)
	}
	return b, nil
}

// parseLogs decodes a list of logs. It leaves out those that a reorg has removed.
func parseLogs(value []byte) ([]Log, error) {
	if kind := jsonwalk.Kind(value); kind != "an array" {
		return nil, fmt.Errorf("the logs are %s, not an array", kind)
	}
	var logs []Log
	err := jsonwalk.Elements(value, func(value []byte) error {
		l, removed, err := parseLog(value)
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		if !removed {
			logs = append(logs, l)
		}
		return nil
	})
	return logs, err
}

func parseLog(value []byte) (l Log, removed bool, err error) {
	wanted := []string{"address", "topics", "data", "blockNumber", "blockHash", "transactionHash", "logIndex",
		"?removed", "?blockTimestamp"}
	err = members(value, wanted, func(name string, value []byte) (err error) {
		switch name {
		case "address":
			err = fill(l.Address[:], value)
		case "topics":
			l.Topics, err = parseTopics(value)
		case "data":
			l.Data, err = parseBytes(value)
			l.Data = bytes.Clone(l.Data) // so that the log does not keep the whole response
		case "blockNumber":
			l.Block, err = parseNumber(value)
		case "blockHash":
			err = fill(l.BlockHash[:], value)
		case "transactionHash":
			err = fill(l.Tx[:], value)
		case "logIndex":
			var index uint64
			if index, err = parseNumber(value); index > 1<<31 {
				err = errors.New("more logs than a block can have")
			}
			l.Index = uint32(index)
		case "removed":
			removed = string(value) == "true"
		case "blockTimestamp": // not in the standard: some nodes write it as a plain number
			if l.Time, err = parseNumber(value); err != nil {
				l.Time, _ = strconv.ParseUint(string(value[:min(len(value), 24)]), 10, 64)
				err = nil
			}
		}
		return err
	})
	return l, removed, err
}

func parseTopics(value []byte) ([]Word, error) {
	if kind := jsonwalk.Kind(value); kind != "an array" {
		return nil, fmt.Errorf("%s, not an array", kind)
	}
	topics := make([]Word, 0, maxTopics)
	err := jsonwalk.Elements(value, func(value []byte) error {
		if len(topics) == maxTopics {
			return errors.New("more than four")
		}
		var topic Word
		err := fill(topic[:], value)
		topics = append(topics, topic)
		return err
	})
	return topics, err
}

// parseReceipt decodes a receipt. null is rpc.ErrAbsent, and so is one of a transaction that is not
// mined, which some nodes send.
func parseReceipt(value []byte) (*Receipt, error) {
	r := &Receipt{}
	wanted := []string{"transactionHash", "blockNumber", "blockHash", "status", "gasUsed", "logs", "?effectiveGasPrice"}
	err := members(value, wanted, func(name string, value []byte) (err error) {
		switch name {
		case "transactionHash":
			err = fill(r.Tx[:], value)
		case "blockNumber":
			if string(value) == "null" {
				return rpc.ErrAbsent
			}
			r.Block, err = parseNumber(value)
		case "blockHash":
			if string(value) == "null" {
				return rpc.ErrAbsent
			}
			err = fill(r.BlockHash[:], value)
		case "status":
			var status uint64
			if status, err = parseNumber(value); err == nil && status > 1 {
				err = errors.New("neither 0 nor 1")
			}
			r.Succeeded = status == 1
		case "gasUsed":
			r.GasUsed, err = parseNumber(value)
		case "logs":
			r.Logs, err = parseLogs(value)
		case "effectiveGasPrice":
			r.GasPrice, err = parseAmount(value)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if r.GasPrice == nil {
		r.GasPrice = new(big.Int)
	}
	for _, l := range r.Logs {
		if l.Tx != r.Tx || l.BlockHash != r.BlockHash {
			return nil, errors.New("receipt: a log of another transaction")
		}
	}
	return r, nil
}
