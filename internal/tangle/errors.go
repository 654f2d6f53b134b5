package tangle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// Kind is the kind of an error. It is an error itself, for use with errors.Is.
type Kind string

// The kinds. Those of nodes are the kinds of package rpc.
const (
	ErrConfig                 = Kind(rpc.ErrConfig)
	ErrUnknownNetwork    Kind = "no contract is known on this chain"
	ErrNoContract        Kind = "no contract at this address"
	ErrBlueprintNotFound Kind = "blueprint not found"
	ErrGeneration        Kind = "contract generation not understood"
	ErrUnreachable            = Kind(rpc.ErrUnreachable)
	ErrHTTP                   = Kind(rpc.ErrHTTP)
	ErrRPC                    = Kind(rpc.ErrRPC)
	ErrMalformed              = Kind(rpc.ErrMalformed)
	ErrTooLarge               = Kind(rpc.ErrTooLarge)
	ErrTimeout                = Kind(rpc.ErrTimeout)
)

// Error makes a Kind a possible target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is the error type of this package.
type Error struct {
	Kind Kind
	Err  error // the full message, without credentials; an *rpc.Error if a node failed
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// Code returns the code for programs that know nothing about chains.
func (e *Error) Code() faas.Code {
	switch e.Kind {
	case ErrConfig, ErrUnknownNetwork:
		return faas.ErrInvalidArgument
	case ErrNoContract, ErrBlueprintNotFound:
		return faas.ErrNotFound
	case ErrGeneration:
		return faas.ErrUnsupported
	}
	var node *rpc.Error
	if errors.As(e.Err, &node) {
		return node.Code()
	}
	return faas.ErrUnavailable
}

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// nodeError returns an error of package rpc as one of this package.
func nodeError(err error) error {
	var node *rpc.Error
	if !errors.As(err, &node) {
		return err
	}
	return &Error{Kind: Kind(node.Kind), Err: node}
}

// selector returns the selector of the error that the contract reverted with, or 0 if there is
// none. Some nodes return it only in the message.
func selector(e *rpc.RPCError) uint32 {
	if len(e.Data) >= 4 {
		return binary.BigEndian.Uint32(e.Data)
	}
	for _, known := range []struct {
		selector uint32
		hex      string
		name     string
	}{{errBlueprintNotFound, "0x5fd248ec", "BlueprintNotFound("}, {errUnknownSelector, "0xc2a825f5", "UnknownSelector("}} {
		if strings.Contains(e.Message, known.hex) || strings.Contains(e.Message, known.name) {
			return known.selector
		}
	}
	return 0
}
