package rpc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Kind is the kind of an error. It is an error itself, for use with errors.Is.
type Kind string

// The kinds.
const (
	ErrConfig      Kind = "wrong configuration"
	ErrUnreachable Kind = "node unreachable"
	ErrHTTP        Kind = "node answered with an HTTP error"
	ErrRPC         Kind = "node answered with a JSON-RPC error"
	ErrMalformed   Kind = "answer malformed"
	ErrTooLarge    Kind = "answer too large"
	ErrTimeout     Kind = "timeout"
	ErrAbsent      Kind = "node does not have it"
	ErrUnusable    Kind = "no node is usable"
)

// Error makes a Kind a possible target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is the error type of this package.
type Error struct {
	Kind   Kind
	Status int       // the HTTP status, if it is not 200
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
	case ErrConfig:
		return faas.ErrInvalidArgument
	case ErrAbsent:
		return faas.ErrNotFound
	case ErrTooLarge:
		return faas.ErrTooLarge
	case ErrTimeout:
		return faas.ErrTimeout
	}
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return faas.ErrPermissionDenied
	case e.Throttled():
		return faas.ErrThrottled
	}
	return faas.ErrUnavailable
}

// Throttled reports whether the node answers fewer requests than it was asked.
func (e *Error) Throttled() bool {
	return e.RPC != nil && e.RPC.Throttled() ||
		e.Status == http.StatusTooManyRequests && (e.RPC == nil || !e.RPC.TooWide())
}

// Unsent reports whether the request certainly did not get to the node, or was refused by it
// before it looked at the call.
func (e *Error) Unsent() bool {
	var op *net.OpError
	var dns *net.DNSError
	switch e.Kind {
	case ErrConfig, ErrUnusable:
		return true
	case ErrUnreachable:
		return errors.As(e.Err, &dns) || errors.As(e.Err, &op) && op.Op == "dial"
	}
	return e.Status >= 300 && e.Status < 500 && e.Status != http.StatusRequestTimeout
}

// blames reports whether the error tells of the node's health rather than of the calls.
func (e *Error) blames() bool {
	switch e.Kind {
	case ErrUnreachable, ErrTimeout, ErrMalformed:
		return true
	case ErrHTTP:
		return !refusesBatches(e.Status) || e.Status >= 500
	case ErrRPC:
		return e.again
	}
	return false
}

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// RPCError is the error member of a JSON-RPC answer.
type RPCError struct {
	Code    int64
	Message string
	Data    []byte // what the contract reverted with; nil for nothing
	Detail  []byte // the member data as it was written, at most 4096 bytes of it
}

func (e *RPCError) Error() string {
	return fmt.Sprintf("JSON-RPC error %d: %s", e.Code, Clip(e.Message))
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

// limitCode reports whether the code is one of those that mean throttling, or that a query is too
// wide: nodes use the same ones for both.
func (e *RPCError) limitCode() bool {
	return e.Code == rpcLimit || e.Code == rpcRateLimit || e.Code == rpcTooManyCalls
}

// Throttled reports whether the node wants fewer requests.
func (e *RPCError) Throttled() bool {
	return e.limitCode() && !e.TooWide() || e.Code != rpcReverted && e.says(throttleWords)
}

// TooWide reports whether the node answers the same query over fewer blocks, or with fewer
// results. There is no code for that; nodes say it in their own words.
func (e *RPCError) TooWide() bool {
	return e.Code != rpcReverted && !e.says(throttleWords) && e.says(widthWords) && !e.Behind()
}

// Behind reports whether the node does not have the blocks that the call names: yet, or not any
// more.
func (e *RPCError) Behind() bool { return e.Code != rpcReverted && e.says(behindWords) }

// What nodes say of blocks that they do not have.
var behindWords = []string{
	"beyond current head", "blockoutofrange", "unknown block", "header for hash not found", "block not found",
	"after last accepted block", "past the head", "greater than latest",
}

// What nodes say of a query that is too wide: blocks or results, and a bound.
var widthWords = []string{
	"block range", "blocks range", "range limit", "range is too", "range too", "too large range", "exceed maximum block",
	"exceeds the range", "max range", "maximum range", "blocks distance", "block span", "too many blocks", "limited to a",
	"response size", "response is too", "response too", "result size", "too many results", "too many logs",
	"query returned more than", "max results", "maximum results", "more than 10000", "logs matched", "log limit",
	"query exceeds", "query timeout", "narrow", "smaller range", "distance to",
}

// What nodes say of too many requests.
var throttleWords = []string{
	"rate limit", "ratelimit", "rate-limit", "too many requests", "requests per", "request count", "request limit",
	"compute units", "credits", "throughput", "quota", "daily", "monthly", "per second", "slow down", "back off",
}

func (e *RPCError) says(words []string) bool {
	message := strings.ToLower(e.Message)
	for _, w := range words {
		if strings.Contains(message, w) {
			return true
		}
	}
	return false
}

// transient reports whether the same call may succeed a moment later.
func (e *RPCError) transient() bool {
	switch {
	case e.Reverted(), e.TooWide():
		return false
	case e.Throttled(), e.Code == rpcInternal, e.Code == rpcUnavailable:
		return true
	}
	// Server errors share one code. This message means that the node lags behind, or one of the nodes
	// behind its address.
	return e.Code == rpcServer && strings.Contains(e.Message, "header not found")
}

// Reverted reports whether the contract refused the call, rather than the node. Nodes have agreed
// on code 3 since 2020; others say so in the message.
func (e *RPCError) Reverted() bool {
	return e.Code == rpcReverted || !e.limitCode() && (e.Data != nil || strings.Contains(e.Message, "revert"))
}

// RefusesCall reports whether the error is an HTTP status that servers are known to answer a call
// with that they do not want to serve.
func (e *Error) RefusesCall() bool { return e.Kind == ErrHTTP && refusesBatches(e.Status) }
