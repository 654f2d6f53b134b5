package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// Call is a JSON-RPC request.
type Call struct {
	Method string
	// Params are strings, numbers, booleans, lists, and maps of them.
	Params []any
	// Required means that an error of the node fails the whole batch, and another node is asked. The
	// revert of a call or of an estimate is an answer.
	Required bool
	// Check decodes the result. If it returns an error, the node's answers are not used, and another
	// node is asked; an error that is ErrAbsent does not count against the node. Check may be called
	// once for each node. nil accepts all results.
	Check func(result []byte) error
}

// fails reports whether an error is none of the contract's.
func (c Call) fails(err *RPCError) bool {
	return !err.Reverted() || c.Method != "eth_call" && c.Method != "eth_estimateGas"
}

// Answer is the outcome of a Call: a result, which is a part of the response, or an error.
type Answer struct {
	Result []byte
	Err    *RPCError
}

type message struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`
}

func newMessage(c Call, i int) message {
	params := c.Params
	if params == nil {
		params = []any{} // some nodes refuse null
	}
	return message{"2.0", i + 1, c.Method, params}
}

// encodeBatch returns the body of a request with all calls.
func encodeBatch(calls []Call) []byte {
	batch := make([]message, len(calls))
	for i, c := range calls {
		batch[i] = newMessage(c, i)
	}
	return mustMarshal(batch)
}

// encodeSingle returns the body of a request with one call.
func encodeSingle(c Call) []byte { return mustMarshal(newMessage(c, 0)) }

// mustMarshal encodes messages. Their parameters are strings, lists and maps of strings.
func mustMarshal(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // unreachable, see above
	}
	return body
}

// errNoBatch means that a node answered a batch with a single answer.
type errNoBatch struct{ err *RPCError }

func (e *errNoBatch) Error() string { return "the node does not take batches: " + e.err.Error() }

// parseBatch parses the response to a batch of n calls. The answers may come in any order, and are
// parts of the body. The error is an *errNoBatch or says what is malformed.
func parseBatch(body []byte, n int) ([]Answer, error) {
	if !jsonwalk.Valid(body) {
		return nil, notJSON(body)
	}
	body = jsonwalk.Trim(body)
	if jsonwalk.Kind(body) == "an object" {
		if _, a, err := parseAnswer(body); err == nil {
			if a.Err == nil { // the node did not see a batch
				a.Err = &RPCError{Code: rpcInvalid, Message: "one answer to a batch"}
			}
			return nil, &errNoBatch{a.Err}
		}
	}
	if jsonwalk.Kind(body) != "an array" {
		return nil, fmt.Errorf("the response to a batch of %d calls is %s, not an array", n, jsonwalk.Kind(body))
	}
	answers := make([]Answer, n)
	seen := make([]bool, n)
	err := jsonwalk.Elements(body, func(value []byte) error {
		id, a, err := parseAnswer(value)
		switch {
		case err != nil:
			return err
		case id < 1 || id > n:
			return fmt.Errorf("an answer has an id that was not asked for")
		case seen[id-1]:
			return fmt.Errorf("id %d is answered twice", id)
		}
		answers[id-1], seen[id-1] = a, true
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range seen {
		if !seen[i] {
			return nil, fmt.Errorf("id %d of %d is not answered", i+1, n)
		}
	}
	return answers, nil
}

// parseSingle parses the response to one call.
func parseSingle(body []byte) (Answer, error) {
	if !jsonwalk.Valid(body) {
		return Answer{}, notJSON(body)
	}
	id, a, err := parseAnswer(jsonwalk.Trim(body))
	if err == nil && id != 1 && a.Err == nil {
		err = errors.New("the answer has an id that was not asked for")
	}
	return a, err
}

func notJSON(body []byte) error {
	if len(body) == 0 {
		return errors.New("the response is empty")
	}
	return &errNotJSON{string(body[:min(len(body), maxMessage)])}
}

// errNotJSON quotes the start of a response. It keeps more than it shows, so that a secret can be
// found as a whole.
type errNotJSON struct{ begin string }

func (e *errNotJSON) Error() string {
	return fmt.Sprintf("the response is not JSON: it begins with %q", Clip(e.begin[:min(len(e.begin), 40)]))
}

// parseAnswer parses an answer. The id is 0 if it is null, missing or unknown.
func parseAnswer(value []byte) (id int, a Answer, err error) {
	if jsonwalk.Kind(value) != "an object" {
		return 0, a, fmt.Errorf("an answer is %s, not an object", jsonwalk.Kind(value))
	}
	var seen [3]bool
	once := func(i int, name string) error {
		if seen[i] {
			return fmt.Errorf("an answer has the member %s twice", name)
		}
		seen[i] = true
		return nil
	}
	err = jsonwalk.Members(value, func(name string, value []byte) error {
		switch name {
		case "id":
			text := string(value[:min(len(value), 12)])
			if jsonwalk.Kind(value) == "a string" {
				text = jsonwalk.Unquote(value)
			}
			id, _ = strconv.Atoi(text)
			return once(0, name)
		case "result":
			a.Result = value
			return once(1, name)
		case "error":
			if string(value) == "null" {
				return nil
			}
			a.Err = parseError(value)
			return once(2, name)
		}
		return nil
	})
	if err == nil && a.Err == nil && a.Result == nil {
		err = errors.New("an answer has neither result nor error")
	}
	return id, a, err
}

// maxMessage limits how much of a node's message is kept, in bytes.
const maxMessage = 4096

// parseError parses the error member of an answer. It accepts everything that nodes are known to
// send, and never fails.
func parseError(value []byte) *RPCError {
	e := &RPCError{Code: rpcServer}
	if jsonwalk.Kind(value) != "an object" {
		e.Message = messageText(value)
		return e
	}
	_ = jsonwalk.Members(value, func(name string, value []byte) error {
		switch name {
		case "code":
			if code, err := strconv.ParseInt(string(value[:min(len(value), 24)]), 10, 64); err == nil {
				e.Code = code
			}
		case "message":
			e.Message = messageText(value)
		case "data":
			e.Data = parseRevertData(value)
			e.Detail = bytes.Clone(value[:min(len(value), maxMessage)])
		}
		return nil
	})
	return e
}

// messageText returns the text of a string. It cuts a longer one, which stays escaped, and so does
// any other value.
func messageText(value []byte) string {
	if len(value) <= maxMessage && jsonwalk.Kind(value) == "a string" {
		return jsonwalk.Unquote(value)
	}
	return strings.Trim(string(value[:min(len(value), maxMessage)]), `"`)
}

// parseRevertData returns the data that the contract reverted with from the data member of an
// error. That is a string, which may begin with a word, or an object with such a string.
func parseRevertData(value []byte) []byte {
	var found []byte
	switch jsonwalk.Kind(value) {
	case "a string":
		text := jsonwalk.Unquote(value)
		if i := strings.Index(text, "0x"); i >= 0 {
			if data, err := DecodeHex([]byte(text[i:])); err == nil {
				found = data
			}
		}
	case "an object":
		_ = jsonwalk.Members(value, func(name string, value []byte) error {
			if (name == "data" || name == "result") && jsonwalk.Kind(value) == "a string" && found == nil {
				found = parseRevertData(value)
			}
			return nil
		})
	}
	return found
}

// Bytes decodes the result, which must be a byte string. It overwrites the result.
func (a Answer) Bytes() ([]byte, error) {
	if jsonwalk.Kind(a.Result) != "a string" {
		return nil, fmt.Errorf("the result is %s, not a string", jsonwalk.Kind(a.Result))
	}
	return DecodeHex(a.Result[1 : len(a.Result)-1])
}

// Quantity parses the result, which must be a number.
func (a Answer) Quantity() (uint64, error) {
	if jsonwalk.Kind(a.Result) != "a string" {
		return 0, fmt.Errorf("the result is %s, not a string", jsonwalk.Kind(a.Result))
	}
	return ParseQuantity(jsonwalk.Unquote(a.Result))
}
