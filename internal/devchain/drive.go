package devchain

import (
	"encoding/binary"
	"maps"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// AddBlueprint adds a blueprint of account 0 and returns its id.
func (c *Chain) AddBlueprint(b Blueprint) (id uint64) {
	if b.Definition.Layout == "" {
		b.Definition.Layout = tangle.LayoutB
	}
	if len(b.Rules) > 0 {
		b.Definition.Manager = manager
	}
	c.change(func(f *frame) {
		count := key{kind: kindBlueprints}
		id = read[uint64](f, count)
		f.set(count, id+1)
		f.set(key{kind: kindBlueprint, a: id}, &blueprint{Blueprint: b, owner: Account(0), created: f.time})
		if b.KeyProof {
			f.set(key{kind: kindKeyProof}, true)
		}
	})
	return id
}

// SetRules changes what a blueprint's manager says of a job.
func (c *Chain) SetRules(id uint64, job uint8, rules Rules) {
	c.change(func(f *frame) {
		b := *f.blueprint(id)
		if b.Rules = maps.Clone(b.Rules); b.Rules == nil {
			b.Rules = map[uint8]Rules{}
		}
		b.Rules[job], b.Definition.Manager = rules, manager
		f.set(key{kind: kindBlueprint, a: id}, &b)
	})
}

// AddService adds a service with its operators and returns its id.
func (c *Chain) AddService(s Service) (id uint64) {
	if s.Owner.IsZero() {
		s.Owner = Account(0)
	}
	if len(s.Operators) == 0 {
		s.Operators = []Address{Account(1), Account(2)}
	}
	c.change(func(f *frame) {
		count := key{kind: kindServices}
		id = read[uint64](f, count)
		f.set(count, id+1)
		added := &service{Service: s, created: f.time, activated: f.time, status: statusActive}
		if s.Pending {
			added.status = statusPending
		}
		for i, operator := range s.Operators {
			weight := uint64(1)
			if i < len(s.Weights) {
				weight = s.Weights[i]
			}
			added.members = append(added.members, member{address: operator, weight: weight, joined: f.time, active: true})
			f.set(key{kind: kindRegistered, a: s.Blueprint, address: operator}, true)
			f.set(key{kind: kindStaked, address: operator}, true)
		}
		f.set(key{kind: kindService, a: id}, added)
	})
	return id
}

// Activate activates a pending service.
func (c *Chain) Activate(service uint64) error {
	return c.as(0, encoding{}.selector(selector(devActivate)).uint(service))
}

// Join makes a development account an operator of a service, the last one in the order.
func (c *Chain) Join(account int, service uint64) error {
	return c.as(account, encoding{}.selector(selector(devJoin)).uint(service))
}

// Stake makes an account active in staking, or not.
func (c *Chain) Stake(a Address, active bool) {
	c.change(func(f *frame) { f.set(key{kind: kindStaked, address: a}, active) })
}

// Slash marks an operator of a service as slashed in the status registry.
func (c *Chain) Slash(service uint64, operator Address) {
	c.change(func(f *frame) {
		b := f.operator(service, operator)
		b.status = statusSlashed
		f.set(key{kind: kindBeat, a: service, address: operator}, &b)
	})
}

// SetBalance sets an account's balance in wei.
func (c *Chain) SetBalance(a Address, wei *big.Int) {
	c.change(func(f *frame) { f.set(key{kind: kindBalance, address: a}, wei) })
}

// Submit calls a job as account 0 and returns the id that the call has, or will have when the pool
// is mined in order.
func (c *Chain) Submit(service uint64, job uint8, inputs []byte) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.latest()
	value := new(big.Int)
	if s := f.service(service); s != nil && s.PerJob {
		value = f.amountOf(s)
	}
	data := encoding{}.selector(selectSubmit).uint(service).uint(uint64(job)).
		uint(3 * wordSize).bytes(inputs)
	return c.submit(service, value, data)
}

func (f *frame) amountOf(s *service) *big.Int {
	if rate := f.blueprint(s.Blueprint).Rate; rate != nil {
		return rate
	}
	return new(big.Int)
}

// submit sends a call of a job and predicts its id: the earlier calls are in blocks or in the pool.
func (c *Chain) submit(service uint64, value *big.Int, data []byte) (uint64, error) {
	id := read[uint64](c.latest(), key{kind: kindCalls, a: service})
	for _, tx := range c.pool[Account(0)] {
		if tx.to != nil && *tx.to == c.contract && len(tx.data) > 4+wordSize && isSubmission(tx.data) &&
			new(big.Int).SetBytes(tx.data[4:4+wordSize]).Cmp(new(big.Int).SetUint64(service)) == 0 {
			id++
		}
	}
	_, err := c.send(0, c.contract, value, data)
	return id, err
}

const quotedSignature = "submitJobFromQuote(uint64,uint8,bytes," +
	"((address,uint64,uint8,uint256,uint64,uint64,uint8,bytes32),bytes,address)[])"

var (
	selectSubmit = selector("submitJob(uint64,uint8,bytes)")
	selectQuoted = selector(quotedSignature)
)

func isSubmission(data []byte) bool {
	head := binary.BigEndian.Uint32(data)
	return head == selectSubmit || head == selectQuoted
}

// SubmitQuoted calls a job as account 0 by quotes of operators, each at a price in wei.
func (c *Chain) SubmitQuoted(service uint64, job uint8, inputs []byte, price uint64, operators ...Address) (
	uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := encoding{}.bytes(inputs)
	data := encoding{}.selector(selectQuoted).uint(service).uint(uint64(job)).uint(4 * wordSize).
		uint(uint64(4*wordSize + len(text)))
	data = append(data, text...).uint(uint64(len(operators)))
	var offsets, tails encoding
	for i, operator := range operators {
		offsets = offsets.uint(uint64(len(operators)*wordSize + len(tails)))
		now := max(c.clock(), c.head().time)
		tails = tails.address(Account(0)).uint(service).uint(uint64(job)).uint(price).uint(now).uint(now + 600).uint(0).
			word(wordOf(uint64(i))).uint(10 * wordSize).address(operator).bytes(make([]byte, keySize))
	}
	data = append(append(data, offsets...), tails...)
	total := new(big.Int).Mul(new(big.Int).SetUint64(price), big.NewInt(int64(len(operators))))
	return c.submit(service, total, data)
}

// Answer submits a result as a development account: as another operator does.
func (c *Chain) Answer(account int, service, call uint64, output []byte) error {
	data := encoding{}.selector(selector("submitResult(uint64,uint64,bytes)")).uint(service).uint(call).
		uint(3 * wordSize).bytes(output)
	return c.as(account, data)
}

func (c *Chain) as(account int, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.send(account, c.contract, new(big.Int), data)
	return err
}

// Pause pauses the contract, as account 0.
func (c *Chain) Pause() error { return c.as(0, encoding{}.selector(selector("pause()"))) }

// Unpause ends the pause.
func (c *Chain) Unpause() error { return c.as(0, encoding{}.selector(selector("unpause()"))) }

// Terminate ends a service of account 0.
func (c *Chain) Terminate(service uint64) error {
	return c.as(0, encoding{}.selector(selector("terminateService(uint64)")).uint(service))
}

// Leave takes a development account, which is an operator, out of a service.
func (c *Chain) Leave(account int, service uint64) error {
	return c.as(account, encoding{}.selector(selector("leaveService(uint64)")).uint(service))
}

// Transfer sends wei from one development account to any account.
func (c *Chain) Transfer(account int, to Address, wei *big.Int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.send(account, to, wei, nil)
	return err
}

// Result is a result on the chain.
type Result struct {
	Operator Address // zero: of an aggregate
	Output   []byte
	Block    uint64
	Tx       Word
}

// Results returns the results of a call, in order.
func (c *Chain) Results(service, call uint64) (list []Result) {
	c.eachResult(func(s, n uint64, r Result) {
		if s == service && n == call {
			list = append(list, r)
		}
	})
	return list
}

// AllResults returns the results of all calls of a service.
func (c *Chain) AllResults(service uint64) map[uint64][]Result {
	all := map[uint64][]Result{}
	c.eachResult(func(s, n uint64, r Result) {
		if s == service {
			all[n] = append(all[n], r)
		}
	})
	return all
}

func (c *Chain) eachResult(yield func(service, call uint64, r Result)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.blocks {
		for _, r := range b.receipts {
			for _, l := range r.logs {
				if l.Address != c.contract || l.Topics[0] != topicResult && l.Topics[0] != topicAggregated {
					continue
				}
				a := &arguments{data: l.Data}
				result := Result{Block: b.number, Tx: r.tx.hash}
				if l.Topics[0] == topicResult {
					result.Output = a.bytes(0)
					copy(result.Operator[:], l.Topics[3][wordSize-len(result.Operator):])
				} else {
					result.Output = a.bytes(1)
				}
				yield(l.Topics[1].Big().Uint64(), l.Topics[2].Big().Uint64(), result)
			}
		}
	}
}

// Calls returns how many calls of jobs a service has, and how many of them are completed.
func (c *Chain) Calls(service uint64) (all, completed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.latest()
	all = read[uint64](f, key{kind: kindCalls, a: service})
	for id := range all {
		if f.call(service, id).completed {
			completed++
		}
	}
	return all, completed
}

// Beats returns an operator's heartbeats at the status registry: how many in a row, when the last
// one was, and the status (0 healthy, 1 degraded, 2 offline, 3 slashed).
func (c *Chain) Beats(service uint64, operator Address) (consecutive, last, status uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.latest().operator(service, operator)
	return b.consecutive, b.last, b.status
}

// Rewards returns what an account can claim, in wei.
func (c *Chain) Rewards(a Address) *big.Int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest().amount(key{kind: kindRewards, address: a})
}

// Registered reports whether an operator is registered for a blueprint.
func (c *Chain) Registered(blueprint uint64, operator Address) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return read[bool](c.latest(), key{kind: kindRegistered, a: blueprint, address: operator})
}
