package tangle

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Kind is the kind of an error. It is an error itself, for use with errors.Is.
type Kind string

// The kinds.
const (
	ErrConfig            Kind = "wrong configuration"
	ErrUnknownNetwork    Kind = "no contract is known on this chain"
	ErrNoContract        Kind = "no contract at this address"
	ErrBlueprintNotFound Kind = "blueprint not found"
	ErrGeneration        Kind = "contract generation not understood"
	ErrUnreachable       Kind = "node unreachable"
	ErrHTTP              Kind = "node answered with an HTTP error"
	ErrRPC               Kind = "node answered with a JSON-RPC error"
	ErrMalformed         Kind = "answer malformed"
	ErrTooLarge          Kind = "answer too large"
	ErrTimeout           Kind = "timeout"
)

// Error makes a Kind a possible target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is the error type of this package.
type Error struct {
	Kind   Kind
	Status int       // HTTP status of an ErrHTTP
	RPC    *RPCError // of an ErrRPC
	Err    error     // the full message, without credentials

	again bool          // the same node may answer if asked again
	after time.Duration // how long the node asked to wait
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
	case ErrTooLarge:
		return faas.ErrTooLarge
	case ErrTimeout:
		return faas.ErrTimeout
	}
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return faas.ErrPermissionDenied
	case e.Status == http.StatusTooManyRequests || e.RPC != nil && e.RPC.throttled():
		return faas.ErrThrottled
	}
	return faas.ErrUnavailable
}

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// RPCError is the error member of a JSON-RPC answer.
type RPCError struct {
	Code    int64
	Message string
	Data    []byte // what the contract reverted with; nil for nothing
}

func (e *RPCError) Error() string {
	return fmt.Sprintf("JSON-RPC error %d: %s", e.Code, clip(e.Message))
}

// The codes that nodes use according to JSON-RPC 2.0, EIP-1474 and the custom of hosted nodes.
const (
	rpcReverted     = 3
	rpcInvalid      = -32600
	rpcInternal     = -32603
	rpcServer       = -32000
	rpcUnavailable  = -32002
	rpcLimit        = -32005
	rpcRateLimit    = -32016
	rpcTooManyCalls = 429
)

func (e *RPCError) throttled() bool {
	return e.Code == rpcLimit || e.Code == rpcRateLimit || e.Code == rpcTooManyCalls
}

// transient reports whether the same call may succeed a moment later.
func (e *RPCError) transient() bool {
	switch {
	case e.reverted():
		return false
	case e.throttled(), e.Code == rpcInternal, e.Code == rpcUnavailable:
		return true
	}
	// Server errors share one code. This message means that the node lags behind, or one of the nodes
	// behind its address.
	return e.Code == rpcServer && strings.Contains(e.Message, "header not found")
}

// reverted reports whether the contract refused the call, rather than the node. Nodes have agreed
// on code 3 since 2020; others say so in the message.
func (e *RPCError) reverted() bool {
	return e.Code == rpcReverted || e.Data != nil || strings.Contains(e.Message, "revert")
}

// selector returns the selector of the error that the contract reverted with, or 0 if there is
// none. Some nodes return it only in the message.
func (e *RPCError) selector() uint32 {
	if len(e.Data) >= 4 {
		return uint32(e.Data[0])<<24 | uint32(e.Data[1])<<16 | uint32(e.Data[2])<<8 | uint32(e.Data[3])
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

// asError returns err as an *Error if it is one.
func asError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
