// Package contract is a Solidity contract with the interface of the Tangle contracts that a runner
// uses. Tests and examples deploy it on real EVM nodes. Service.sol is its source, and service.hex
// is what solc 0.8.37 makes of it with evmVersion paris, 200 optimizer runs, and no metadata.
package contract

import (
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

//go:embed service.hex
var code string

// Create returns the data of the transaction that creates the contract. It has one service, with
// id 0, of these operators, and a blueprint with this number of jobs.
func Create(operators []tangle.Address, jobs uint8) []byte {
	data, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(code), "\n", ""))
	if err != nil {
		panic("service.hex is damaged: " + err.Error())
	}
	word := func(n uint64) { data = binary.BigEndian.AppendUint64(append(data, make([]byte, 24)...), n) }
	word(64) // where the list begins
	word(uint64(jobs))
	word(uint64(len(operators)))
	for _, operator := range operators {
		data = append(append(data, make([]byte, 12)...), operator[:]...)
	}
	return data
}
