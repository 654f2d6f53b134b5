package devchain

import (
	"math/big"
	"math/bits"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// open returns a call with its service, if results are taken for the call.
func (f *frame) open(service, id uint64) (*openCall, error) {
	if err := f.unpaused(); err != nil {
		return nil, err
	}
	if f.service(service) == nil {
		return nil, reverts("ServiceNotFound(uint64)", wordOf(service))
	}
	c := f.call(service, id)
	if c == nil {
		return nil, reverts("JobCallNotFound(uint64,uint64)", wordOf(service), wordOf(id))
	}
	s, err := f.active(service)
	if err != nil {
		return nil, err
	}
	return &openCall{s, c, f.rules(s, c.job), service, id}, nil
}

// openCall is a call that takes results, with what belongs to it.
type openCall struct {
	*service
	call  *call
	rules Rules
	id    uint64 // of the service
	n     uint64 // of the call
}

func (o *openCall) completed() error {
	return reverts("JobAlreadyCompleted(uint64,uint64)", wordOf(o.id), wordOf(o.n))
}

func submitResult(f *frame, a *arguments) ([]byte, error) {
	service, id, output := a.uint(0, 64), a.uint(1, 64), a.bytes(2)
	if a.bad {
		return nil, errArguments
	}
	return nil, f.result(service, id, output)
}

func submitResults(f *frame, a *arguments) ([]byte, error) {
	service := a.uint(0, 64)
	calls, n := a.list(1)
	outputs, m := a.list(2)
	if a.bad {
		return nil, errArguments
	}
	if n != m {
		return nil, reverts("LengthMismatch()")
	}
	for i := range n {
		id, output := calls.uint(i, 64), outputs.bytes(i)
		if calls.bad || outputs.bad {
			return nil, errArguments
		}
		if err := f.result(service, id, output); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// result takes one result. The order of the checks is the contract's: a runner sees the first that
// fails.
func (f *frame) result(service, id uint64, output []byte) error {
	if err := f.charge(60_000); err != nil {
		return err
	}
	o, err := f.open(service, id)
	if err != nil {
		return err
	}
	answered := key{kind: kindAnswered, a: service, b: id, address: f.from}
	switch path, fits := conforms(f.blueprint(o.Blueprint).Definition.Jobs[o.call.job].ResultSchema, output); {
	case o.rules.Aggregate:
		return reverts("AggregationRequired(uint64,uint8)", wordOf(service), wordOf(uint64(o.call.job)))
	case !o.isOperator(f.from):
		return notInService(service, f.from)
	case !read[bool](f, key{kind: kindStaked, address: f.from}):
		return reverts("OperatorNotActive(address)", wordOfAddress(f.from))
	case o.call.completed:
		return o.completed()
	case read[bool](f, answered):
		return reverts("ResultAlreadySubmitted(uint64,uint64,address)", wordOf(service), wordOf(id), wordOfAddress(f.from))
	case o.call.quoted != nil && o.call.price(f.from) == nil:
		return reverts("NotQuotedOperator(uint64,uint64)", wordOf(service), wordOf(id))
	case !fits:
		return schemaFailed(3, o.Blueprint, o.call.job, path)
	}
	if err := f.charge(88_000 + 9*uint64(len(output)) + o.rules.HookGas); err != nil {
		return err
	}
	f.set(answered, true)
	changed := *o.call
	changed.results++
	if o.rules.HookFails {
		f.hookFailed(o, []byte("hook says no"), hookResult)
	}
	f.emit(f.c.contract, encoding{}.uint(wordSize).bytes(output), topicResult, wordOf(service), wordOf(id),
		wordOfAddress(f.from))
	if changed.results >= max(1, o.rules.Results) {
		changed.completed = true
		if err := f.complete(o, f.from); err != nil {
			return err
		}
	}
	f.set(key{kind: kindCall, a: service, b: id}, &changed)
	return nil
}

func (c *call) price(operator Address) *big.Int {
	for i, a := range c.quoted {
		if a == operator {
			return c.prices[i]
		}
	}
	return nil
}

// The selectors of the manager's functions that are told of results.
const (
	hookResult    = 0xe649fc03
	hookAggregate = 0x158bb2eb
)

func (f *frame) hookFailed(o *openCall, reason []byte, function uint32) {
	data := encoding{}.selector(selector("Error(string)")).uint(wordSize).bytes(reason)
	if reason == nil {
		data = nil
	}
	var hook Word
	copy(hook[:], encoding{}.selector(function))
	f.emit(f.c.contract, encoding{}.uint(wordSize).bytes(data), topicHookFailed,
		wordOfAddress(f.blueprint(o.Blueprint).Definition.Manager), hook)
}

// complete pays for a call that is completed and tells of it. The metrics contract has an event of
// the same name.
func (f *frame) complete(o *openCall, by ...Address) error {
	f.emit(f.c.contract, nil, topicCompleted, wordOf(o.id), wordOf(o.n))
	for _, operator := range by {
		f.emit(Metrics, encoding{}.uint(o.n).bool(true).uint(f.time), topicMetrics, wordOfAddress(operator), wordOf(o.id))
	}
	if !o.PerJob || o.call.payment.Sign() == 0 {
		return nil
	}
	if err := f.charge(260_000); err != nil {
		return err
	}
	reward := func(operator Address, amount *big.Int) {
		f.add(key{kind: kindRewards, address: operator}, amount)
	}
	// 40 % are the operators', by weight. What division leaves over is the last one's.
	share := func(v *big.Int) *big.Int { return v.Div(v.Mul(v, big.NewInt(40)), big.NewInt(100)) }
	if o.call.quoted != nil {
		for i, operator := range o.call.quoted {
			reward(operator, share(new(big.Int).Set(o.call.prices[i])))
		}
		return nil
	}
	total, left := share(new(big.Int).Set(o.call.payment)), new(big.Int)
	var weights uint64
	var active []member
	for _, m := range o.members {
		if m.active {
			active, weights = append(active, m), weights+m.weight
		}
	}
	left.Set(total)
	for i, m := range active {
		part := new(big.Int).Mul(total, new(big.Int).SetUint64(m.weight))
		if part.Div(part, new(big.Int).SetUint64(weights)); i == len(active)-1 {
			part = left
		}
		left = new(big.Int).Sub(left, part)
		reward(m.address, part)
	}
	return nil
}

// BLS lets a test verify aggregates, with a library that this package does not need.
type BLS struct {
	// Keys of the operators, in G2: x imaginary, x real, y imaginary, y real.
	Keys map[Address][4]Word
	// Sum adds keys.
	Sum func(keys [][4]Word) [4]Word
	// Verify reports whether a signature of a message is one of the key.
	Verify func(message []byte, signature [2]Word, key [4]Word) bool
}

func submitAggregatedResult(f *frame, a *arguments) ([]byte, error) {
	service, id, output, bitmap := a.uint(0, 64), a.uint(1, 64), a.bytes(2), a.big(3)
	signature := [2]Word{a.word(4), a.word(5)}
	public := [4]Word{a.word(6), a.word(7), a.word(8), a.word(9)}
	if a.bad {
		return nil, errArguments
	}
	if err := f.charge(60_000); err != nil {
		return nil, err
	}
	o, err := f.open(service, id)
	if err != nil {
		return nil, err
	}
	if o.call.completed {
		return nil, o.completed()
	}
	if !o.rules.Aggregate {
		return nil, reverts("AggregationNotRequired(uint64,uint8)", wordOf(service), wordOf(uint64(o.call.job)))
	}
	if path, fits := conforms(f.blueprint(o.Blueprint).Definition.Jobs[o.call.job].ResultSchema, output); !fits {
		return nil, schemaFailed(3, o.Blueprint, o.call.job, path)
	}
	operators := o.operators()
	var signers uint64
	for _, word := range bitmap.Bits() {
		signers += uint64(bits.OnesCount(uint(word)))
	}
	needed := (uint64(len(operators))*uint64(o.rules.threshold()) + 9999) / 10_000
	if bitmap.BitLen() > len(operators) || signers < needed {
		return nil, reverts("AggregationThresholdNotMet(uint64,uint64,uint256,uint256)", wordOf(service), wordOf(id),
			wordOf(signers), wordOf(needed))
	}
	if err := f.verify(o, operators, bitmap, output, signature, public); err != nil {
		return nil, err
	}
	if err := f.charge(500_000 + 9*uint64(len(output))); err != nil {
		return nil, err
	}
	changed := *o.call
	changed.completed = true
	f.set(key{kind: kindCall, a: service, b: id}, &changed)
	f.emit(f.c.contract, encoding{}.big(bitmap).uint(2*wordSize).bytes(output), topicAggregated, wordOf(service),
		wordOf(id))
	var signed []Address
	for i, operator := range operators {
		if bitmap.Bit(i) == 1 {
			signed = append(signed, operator)
		}
	}
	if err := f.complete(o, signed...); err != nil {
		return nil, err
	}
	if !f.hook(o.rules.HookGas) {
		f.hookFailed(o, nil, hookAggregate)
	}
	return nil, nil
}

// verify verifies the signature of an aggregate, if the chain was given the means.
func (f *frame) verify(o *openCall, operators []Address, bitmap *big.Int, output []byte, sig [2]Word,
	pub [4]Word) error {
	if f.c.bls == nil {
		return nil
	}
	var keys [][4]Word
	for i, operator := range operators {
		if bitmap.Bit(i) == 0 {
			continue
		}
		k, ok := f.c.bls.Keys[operator]
		if !ok {
			return reverts("OperatorBlsPubkeyNotRegistered(uint64,address)", wordOf(o.id), wordOfAddress(operator))
		}
		keys = append(keys, k)
	}
	if f.c.bls.Sum(keys) != pub {
		return reverts("AggregatedPubkeyMismatch()")
	}
	list := tangle.Keccak256(encoding{}.uint(wordSize).addresses(operators))
	message := encoding{}.uint(7 * wordSize).uint(f.c.id).address(f.c.contract).uint(o.id).uint(o.n).word(list).
		word(tangle.Keccak256(output)).bytes([]byte("TANGLE_BLS_AGG_v1"))
	if !f.c.bls.Verify(message, sig, pub) {
		return reverts("InvalidBLSSignature()")
	}
	return nil
}
