package chain

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// The selectors of the contract's errors that a runner acts on.
const (
	RevertPaused                uint32 = 0xd93c0665 // EnforcedPause()
	RevertServiceNotFound       uint32 = 0xc8a28bb6
	RevertJobCallNotFound       uint32 = 0x96c6ebfc
	RevertServiceNotActive      uint32 = 0x4c5fe2d8
	RevertServiceExpired        uint32 = 0x7c3e621b
	RevertAggregationRequired   uint32 = 0x77164cdc
	RevertOperatorNotInService  uint32 = 0x783482e9
	RevertOperatorNotActive     uint32 = 0xe356d5aa
	RevertJobAlreadyCompleted   uint32 = 0x0a55512f
	RevertAlreadySubmitted      uint32 = 0xb7e7fcee // ResultAlreadySubmitted(uint64,uint64,address)
	RevertNotQuotedOperator     uint32 = 0xa32a5d1c
	RevertSchemaValidation      uint32 = 0x9038fe73
	RevertUnknownSelector       uint32 = 0xc2a825f5 // the facet with the function is not installed
	RevertNotRegisteredOperator uint32 = 0x3fa1eaf0 // the status registry's
	revertString                uint32 = 0x08c379a0 // require(condition, text)
	revertPanic                 uint32 = 0x4e487b71
)

// Revert is an error of the contract: Selector is zero if it reverted without data.
type Revert struct {
	Selector uint32
	Data     []byte // with the selector
}

// knownReverts are errors and their arguments, one letter each: u unsigned integer, a address,
// 4 selector, b bytes (not shown).
var knownReverts = map[uint32]struct {
	name string
	args string
}{
	RevertPaused:                {"EnforcedPause", ""},
	RevertServiceNotFound:       {"ServiceNotFound", "u"},
	RevertJobCallNotFound:       {"JobCallNotFound", "uu"},
	RevertServiceNotActive:      {"ServiceNotActive", "u"},
	RevertServiceExpired:        {"ServiceExpired", "u"},
	RevertAggregationRequired:   {"AggregationRequired", "uu"},
	RevertOperatorNotInService:  {"OperatorNotInService", "ua"},
	RevertOperatorNotActive:     {"OperatorNotActive", "a"},
	RevertJobAlreadyCompleted:   {"JobAlreadyCompleted", "uu"},
	RevertAlreadySubmitted:      {"ResultAlreadySubmitted", "uua"},
	RevertNotQuotedOperator:     {"NotQuotedOperator", "uu"},
	RevertSchemaValidation:      {"SchemaValidationFailed", "uuuu"},
	RevertUnknownSelector:       {"UnknownSelector", "4"},
	RevertNotRegisteredOperator: {"NotRegisteredOperator", ""},
	0xff633a38:                  {"LengthMismatch", ""},
	0x4f3b66ea:                  {"AggregationNotRequired", "uu"},
	0x15cb246a:                  {"AggregationThresholdNotMet", "uuuu"},
	0x437f07c7:                  {"AggregatedPubkeyMismatch", ""},
	0xab1b236b:                  {"InvalidBLSSignature", ""},
	0x050c99e5:                  {"OperatorBlsPubkeyNotRegistered", "ua"},
	0xd5dd5b44:                  {"NotPermittedCaller", "ua"},
	0x1f89f671:                  {"InvalidMsgValue", "uu"},
	0x1370bcad:                  {"InvalidJobIndex", "u"},
	0x07a84ec2:                  {"ManagerReverted", "ab"},
	0x57ea02e9:                  {"HeartbeatFromFuture", "uu"},
	0x60d56dd4:                  {"HeartbeatStale", "uu"},
	0x8baa579f:                  {"InvalidSignature", ""},
	0xec0f249e:                  {"OperatorSlashed", ""},
	0x5fd248ec:                  {"BlueprintNotFound", "u"},
	revertPanic:                 {"Panic", "u"},
}

func (r *Revert) Error() string { return "the contract reverts: " + r.reason() }

func (r *Revert) reason() string {
	if len(r.Data) < 4 {
		return "without a reason"
	}
	words := r.Data[4:]
	if r.Selector == revertString {
		d := tangle.NewDecoder(words)
		if d.Head(0, 1, "text") {
			if text := d.Blob(0, 0, "text"); d.Err() == nil {
				return strconv.Quote(rpc.Clip(string(text)))
			}
		}
	}
	known, ok := knownReverts[r.Selector]
	if !ok {
		return fmt.Sprintf("error 0x%08x", r.Selector)
	}
	var args []string
	for i, kind := range known.args {
		if kind == 'b' || len(words) < 32*(i+1) {
			args = append(args, "...")
			break
		}
		word := words[32*i : 32*(i+1)]
		switch n := binary.BigEndian.Uint64(word[24:]); {
		case kind == 'a':
			args = append(args, "0x"+hex.EncodeToString(word[12:]))
		case kind == '4':
			args = append(args, "0x"+hex.EncodeToString(word[:4]))
		case allZero(word[:24]):
			args = append(args, strconv.FormatUint(n, 10))
		default:
			args = append(args, "0x"+hex.EncodeToString(word))
		}
	}
	return known.name + "(" + strings.Join(args, ", ") + ")"
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
