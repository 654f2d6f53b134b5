// Package frame is the protocol between a host (the embedded platform, or the local runner of a
// service) and a warm job process.
//
// Frames travel over two byte streams: the standard input and the standard output of the process. A
// host speaks frames to a process only if its executable carries the marker of faas/job and its
// environment has [Env] set to [Version]. The process then moves the two streams away from file
// descriptors 0 and 1, so that a job that prints cannot break the protocol.
//
// A frame is a header of [HeaderSize] bytes, little-endian, and a body:
//
//	offset 0  uint32  length of the body, at most MaxBody
//	offset 4  uint32  kind
//	offset 8  uint64  call id, chosen by the host, never reused in one process; otherwise 0
//	offset 16 uint32  value: Call: the job id; Failure: a FailureCode;
//	                  Hello: the most calls that the process takes at a time
//	offset 20 uint32  Call: the deadline in milliseconds from now, 0 for none; otherwise 0
//
// The process first sends one Hello. The host then sends Calls, as many at a time as Hello
// announced, and may send Cancel for a call that nobody waits for any more. The process answers
// every Call, also a cancelled one, with exactly one Result or Failure, in any order. It answers
// Ping with Pong at once and runs no job for it. The end of its input tells the process to finish
// its calls and to exit with code 0.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Env is the environment variable with which a host asks a process to speak frames. Its value is
// Version.
const (
	Env     = "BLUEPRINT_JOB_PROTOCOL"
	Version = "frames/1"
)

// Stdio as the value of Env asks a process for the baseline protocol: one request on standard input
// and one response on standard output, whatever else its environment holds. A program that is also
// a runner needs it to know that it is started for a job.
const Stdio = "stdio"

// Offer returns a value of Env that asks for nothing: the process is a service's runner, does its
// own work, and may also say Hello and answer Calls. The offer is only for the child of this
// program, and not for what the child starts with the same environment. A program from before
// offers ends at once, and says [OfferUnknown].
func Offer() string { return offer + strconv.Itoa(os.Getpid()) }

// IsOffer reports whether a value of Env is an offer, and whether it is for this process.
func IsOffer(value string) (is, mine bool) {
	host, is := strings.CutPrefix(value, offer)
	return is, is && host == strconv.Itoa(os.Getppid())
}

// OfferUnknown is part of what a program that does not know offers writes to its standard error.
const OfferUnknown = Env + " asks for a protocol that this program does not know"

const offer = "runner/1/"

// HeaderSize is the size of a frame's header, and MaxBody the largest body, in bytes.
const (
	HeaderSize = 24
	MaxBody    = 256 << 20
)

// Kind is the kind of a frame.
type Kind uint32

// The kinds.
const (
	Hello   Kind = 1 // process to host
	Call    Kind = 2 // host to process: the body is the job's arguments
	Result  Kind = 3 // process to host: the body is the job's output
	Failure Kind = 4 // process to host: the body is a message in UTF-8
	Cancel  Kind = 5 // host to process
	Ping    Kind = 6 // host to process
	Pong    Kind = 7 // process to host
)

// FailureCode says why a call failed.
type FailureCode uint32

// The failure codes.
const (
	JobFailed  FailureCode = 1 // the job returned an error
	JobPanic   FailureCode = 2
	UnknownJob FailureCode = 3
	BadRequest FailureCode = 4
	TooLarge   FailureCode = 5 // the output is larger than MaxBody
	Cancelled  FailureCode = 6 // by Cancel or by its deadline
)

// Header is a frame without its body.
type Header struct {
	Length     uint32
	Kind       Kind
	ID         uint64
	Value      uint32
	DeadlineMS uint32
}

// ErrProtocol is wrapped by errors that mean that the other side does not speak this protocol. The
// stream cannot be used further.
var ErrProtocol = errors.New("frame protocol violated")

// AppendHeader appends the encoded header to dst.
func AppendHeader(dst []byte, h Header) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, h.Length)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, h.ID)
	dst = binary.LittleEndian.AppendUint32(dst, h.Value)
	return binary.LittleEndian.AppendUint32(dst, h.DeadlineMS)
}

// ParseHeader decodes the first HeaderSize bytes of b. If the error is nil, the kind is known and
// the length is at most MaxBody.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, io.ErrUnexpectedEOF
	}
	h := Header{
		Length:     binary.LittleEndian.Uint32(b),
		Kind:       Kind(binary.LittleEndian.Uint32(b[4:])),
		ID:         binary.LittleEndian.Uint64(b[8:]),
		Value:      binary.LittleEndian.Uint32(b[16:]),
		DeadlineMS: binary.LittleEndian.Uint32(b[20:]),
	}
	if h.Kind < Hello || h.Kind > Pong {
		return Header{}, fmt.Errorf("%w: unknown frame kind %d", ErrProtocol, h.Kind)
	}
	if h.Length > MaxBody {
		return Header{}, fmt.Errorf("%w: frame of %d bytes, the limit is %d", ErrProtocol, h.Length, MaxBody)
	}
	return h, nil
}
