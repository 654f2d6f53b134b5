package devchain

import (
	"encoding/hex"
	"errors"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// Blueprint says how a blueprint is set up.
type Blueprint struct {
	// Definition is what getBlueprintDefinition returns; its jobs' schemas are enforced. Its Layout
	// defaults to LayoutB, and its Manager to an address made up if a job has rules.
	Definition tangle.Definition
	// Rules of the manager, by job.
	Rules map[uint8]Rules
	// Rate is the price of every job in wei: of services that are paid per job.
	Rate *big.Int
	// KeyProof makes the registration of operators demand a signature beside the key.
	KeyProof bool
}

// Rules are what a blueprint's manager says of a job.
type Rules struct {
	Results   uint32 // that complete a call; 0: one
	Aggregate bool   // the results must be aggregated
	Threshold uint16 // of an aggregate: basis points of the operators; 0: 6700
	HookFails bool   // the manager reverts when it is told of a result
	// HookGas is what the manager spends when it is told of a result. Estimates of plain results
	// contain it, those of aggregates do not: with too little gas the hook fails, the result stands.
	HookGas uint64
}

type blueprint struct {
	Blueprint
	owner   Address
	created uint64
}

// Service says how a service is set up.
type Service struct {
	Blueprint uint64
	Owner     Address   // who may end it; zero: account 0
	Callers   []Address // who may call jobs; empty: the owner
	Operators []Address // empty: accounts 1 and 2
	Weights   []uint64  // of the operators when a reward is split; empty: all the same
	TTL       uint64    // in seconds; 0: none
	PerJob    bool      // each call is paid for: EventDriven; else PayOnce
	Pending   bool      // not yet activated
	// HeartbeatInterval in seconds and MaxMissed; 0: 300 and 3.
	HeartbeatInterval uint64
	MaxMissed         uint8
}

const (
	statusPending = iota
	statusActive
	statusTerminated
)

type service struct {
	Service
	created, terminated, activated uint64
	status                         uint64
	members                        []member // in the order in which they joined; the left ones too
}

type member struct {
	address      Address
	weight       uint64
	joined, left uint64
	active       bool
}

func (s *service) operators() (list []Address) {
	for _, m := range s.members {
		if m.active {
			list = append(list, m.address)
		}
	}
	return list
}

func (s *service) isOperator(a Address) bool {
	for _, m := range s.members {
		if m.address == a {
			return m.active
		}
	}
	return false
}

type call struct {
	job       uint8
	caller    Address
	created   uint64
	results   uint32
	completed bool
	payment   *big.Int
	inputs    Word // their hash
	quoted    []Address
	prices    []*big.Int
}

// The topics of the events.
var (
	topicSubmitted       = event("JobSubmitted(uint64,uint64,uint8,address,bytes)")
	topicSubmittedQuoted = event("JobSubmittedFromQuote(uint64,uint64,uint8,address,address[],uint256,bytes)")
	topicResult          = event("JobResultSubmitted(uint64,uint64,address,bytes)")
	topicCompleted       = event("JobCompleted(uint64,uint64)")
	topicAggregated      = event("AggregatedResultSubmitted(uint64,uint64,uint256,bytes)")
	topicActivated       = event("ServiceActivated(uint64,uint64,uint64,uint8)")
	topicTerminated      = event("ServiceTerminated(uint64)")
	topicJoined          = event("OperatorJoinedService(uint64,address,uint16)")
	topicLeft            = event("OperatorLeftService(uint64,address)")
	topicHookFailed      = event("ManagerHookFailed(address,bytes4,bytes)")
	topicPaused          = event("Paused(address)")
	topicUnpaused        = event("Unpaused(address)")
	topicRegistered      = event("OperatorRegistered(uint64,address,bytes,string)")
	topicMetrics         = hexWord("ef37af7ed99f71190253be3bbce799623d059eef27df91a72d2fa1482abc6e52")
	topicRewardsClaimed  = event("RewardsClaimed(address,uint256)")
)

// hexWord returns the topic of an event whose signature is not known.
func hexWord(digits string) (w Word) {
	if n, err := hex.Decode(w[:], []byte(digits)); err != nil || n != wordSize {
		panic("malformed topic " + digits)
	}
	return w
}

func event(signature string) Word { return tangle.Keccak256([]byte(signature)) }

// revert ends a call of the contract; data is what a node hands out.
type revert struct{ data []byte }

func (r *revert) Error() string { return "execution reverted" }

func reverts(signature string, words ...Word) error {
	data := encoding{}.selector(selector(signature))
	for _, w := range words {
		data = data.word(w)
	}
	return &revert{data}
}

var errOutOfGas = errors.New("out of gas")

// frame is one execution: of a transaction, or of a call that changes nothing.
type frame struct {
	c       *Chain
	at      uint64 // the block whose state is read
	number  uint64 // of the block that is executed in
	time    uint64
	changes map[key]any
	order   []key
	from    Address
	to      Address
	value   *big.Int
	gas     uint64 // limit
	charged uint64 // what the execution needs
	hooks   uint64 // what hooks take beyond that if there is enough
	logs    []Log
}

func (f *frame) get(k key) any {
	if v, ok := f.changes[k]; ok {
		return v
	}
	return f.c.state.at(k, f.at)
}

func (f *frame) set(k key, v any) {
	if f.changes == nil {
		f.changes = map[key]any{}
	}
	if _, ok := f.changes[k]; !ok {
		f.order = append(f.order, k)
	}
	f.changes[k] = v
}

func read[T any](f *frame, k key) T {
	v, _ := f.get(k).(T) // the zero value if nothing is stored
	return v
}

func (f *frame) amount(k key) *big.Int {
	if v := read[*big.Int](f, k); v != nil {
		return v
	}
	return new(big.Int)
}

func (f *frame) add(k key, by *big.Int) { f.set(k, new(big.Int).Add(f.amount(k), by)) }

func (f *frame) charge(gas uint64) error {
	f.charged += gas
	if f.charged > f.gas {
		return errOutOfGas
	}
	return nil
}

// hook reports whether there is gas left for a hook, which fails alone if there is not.
func (f *frame) hook(gas uint64) bool {
	if f.charged+f.hooks+gas > f.gas {
		return false
	}
	f.hooks += gas
	return true
}

func (f *frame) emit(address Address, data []byte, topics ...Word) {
	f.logs = append(f.logs, Log{Address: address, Topics: topics, Data: data})
}

func (f *frame) service(id uint64) *service { return read[*service](f, key{kind: kindService, a: id}) }
func (f *frame) call(service, id uint64) *call {
	return read[*call](f, key{kind: kindCall, a: service, b: id})
}
func (f *frame) blueprint(id uint64) *blueprint {
	return read[*blueprint](f, key{kind: kindBlueprint, a: id})
}
func (f *frame) paused() bool { return read[bool](f, key{kind: kindPaused}) }

// method is a function of a contract.
type method struct {
	payable bool
	run     func(f *frame, a *arguments) ([]byte, error)
}

func methods(list map[string]method) map[uint32]method {
	out := make(map[uint32]method, len(list))
	for signature, m := range list {
		out[selector(signature)] = m
	}
	return out
}

// view makes a method of a function that only reads.
func view(run func(f *frame, a *arguments) encoding) method {
	return method{run: func(f *frame, a *arguments) ([]byte, error) { return run(f, a), f.charge(2_500) }}
}

var tangleMethods = methods(map[string]method{
	"submitJob(uint64,uint8,bytes)":          {payable: true, run: submitJob},
	quotedSignature:                          {payable: true, run: submitJobFromQuote},
	"submitResult(uint64,uint64,bytes)":      {run: submitResult},
	"submitResults(uint64,uint64[],bytes[])": {run: submitResults},
	"submitAggregatedResult(uint64,uint64,bytes,uint256,uint256[2],uint256[4])": {run: submitAggregatedResult},
	"registerOperator(uint64,bytes,string)":                                     {run: registerOperator},
	"registerOperator(uint64,bytes,string,bytes)":                               {run: registerOperatorWithInputs},
	"pause()":   {run: pause},
	"unpause()": {run: unpause},
	// What begins with dev is not of the genuine contract, where it takes several transactions.
	devActivate:                          {run: activateService},
	devJoin:                              {run: joinService},
	"terminateService(uint64)":           {run: terminateService},
	"leaveService(uint64)":               {run: leaveService},
	"claimRewards()":                     {run: claimRewards},
	"getJobCall(uint64,uint64)":          view(getJobCall),
	"getService(uint64)":                 view(getService),
	"getServiceOperator(uint64,address)": view(getServiceOperator),
	"getBlueprintDefinition(uint64)":     {run: getBlueprintDefinition},
	"getBlueprint(uint64)":               view(getBlueprint),
	"getServiceOperators(uint64)": view(func(f *frame, a *arguments) encoding {
		var list []Address
		if s := f.service(a.uint(0, 64)); s != nil {
			list = s.operators()
		}
		return encoding{}.uint(wordSize).addresses(list)
	}),
	"isServiceActive(uint64)": view(func(f *frame, a *arguments) encoding {
		s := f.service(a.uint(0, 64))
		return encoding{}.bool(s != nil && s.status == statusActive) // also when the ttl is over
	}),
	"isServiceOperator(uint64,address)": view(func(f *frame, a *arguments) encoding {
		s := f.service(a.uint(0, 64))
		return encoding{}.bool(s != nil && s.isOperator(a.address(1))) // also after termination
	}),
	"isPermittedCaller(uint64,address)": view(func(f *frame, a *arguments) encoding {
		s := f.service(a.uint(0, 64))
		return encoding{}.bool(s != nil && s.permits(a.address(1)))
	}),
	"isOperatorRegistered(uint64,address)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.bool(read[bool](f, key{kind: kindRegistered, a: a.uint(0, 64), address: a.address(1)}))
	}),
	"getJobQuotedOperators(uint64,uint64)": view(func(f *frame, a *arguments) encoding {
		var list []Address
		if c := f.call(a.uint(0, 64), a.uint(1, 64)); c != nil {
			list = c.quoted
		}
		return encoding{}.uint(wordSize).addresses(list)
	}),
	"getJobQuotedPrice(uint64,uint64,address)": view(func(f *frame, a *arguments) encoding {
		if c := f.call(a.uint(0, 64), a.uint(1, 64)); c != nil {
			for i, operator := range c.quoted {
				if operator == a.address(2) {
					return encoding{}.big(c.prices[i])
				}
			}
		}
		return encoding{}.uint(0)
	}),
	"getJobEventRate(uint64,uint8)": view(func(f *frame, a *arguments) encoding {
		var rate *big.Int
		if b := f.blueprint(a.uint(0, 64)); b != nil {
			rate = b.Rate
		}
		return encoding{}.big(rate)
	}),
	"getServicePaymentAsset(uint64)": view(func(*frame, *arguments) encoding { return encoding{}.uint(0) }),
	"serviceCount()": view(func(f *frame, _ *arguments) encoding {
		return encoding{}.uint(read[uint64](f, key{kind: kindServices}))
	}),
	"blueprintCount()": view(func(f *frame, _ *arguments) encoding {
		return encoding{}.uint(read[uint64](f, key{kind: kindBlueprints}))
	}),
	"operatorStatusRegistry()": view(func(f *frame, _ *arguments) encoding {
		return encoding{}.address(Registry)
	}),
	"paused()": view(func(f *frame, _ *arguments) encoding { return encoding{}.bool(f.paused()) }),
	"pendingRewards(address)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.big(f.amount(key{kind: kindRewards, address: a.address(0)}))
	}),
	"managerHookGasLimit()": view(func(*frame, *arguments) encoding { return encoding{}.uint(hookGasLimit) }),
	"requireOperatorKeyProof()": view(func(f *frame, _ *arguments) encoding {
		return encoding{}.bool(read[bool](f, key{kind: kindKeyProof}))
	}),
	"getOperatorBlsPubkey(uint64,address)": view(func(f *frame, a *arguments) encoding {
		var key [4]Word
		if f.c.bls != nil {
			key = f.c.bls.Keys[a.address(1)]
		}
		e := encoding{}
		for _, w := range key {
			e = e.word(w)
		}
		return e
	}),
	"blsPopMessage(address,uint256[4])": view(func(f *frame, a *arguments) encoding {
		message := encoding{}.uint(8 * wordSize).uint(f.c.id).address(f.c.contract).address(a.address(0))
		for i := range 4 {
			message = message.word(a.word(1 + i))
		}
		message = message.bytes([]byte("TANGLE_BLS_POP_v1"))
		return encoding{}.uint(wordSize).bytes(message)
	}),
})

const hookGasLimit = 500_000

var stakingMethods = methods(map[string]method{
	"isOperatorActive(address)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.bool(read[bool](f, key{kind: kindStaked, address: a.address(0)}))
	}),
})

// managerMethods are the questions to a blueprint's manager, which knows its blueprint by service.
var managerMethods = methods(map[string]method{
	"getRequiredResultCount(uint64,uint8)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.uint(uint64(max(1, f.rulesOf(a).Results)))
	}),
	"requiresAggregation(uint64,uint8)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.bool(f.rulesOf(a).Aggregate)
	}),
	"getAggregationThreshold(uint64,uint8)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.uint(uint64(f.rulesOf(a).threshold())).uint(0)
	}),
})

func (r Rules) threshold() uint16 {
	if r.Threshold == 0 {
		return 6700
	}
	return r.Threshold
}

func (f *frame) rulesOf(a *arguments) Rules {
	if s := f.service(a.uint(0, 64)); s != nil {
		return f.rules(s, uint8(a.uint(1, 8)))
	}
	return Rules{}
}

func (f *frame) rules(s *service, job uint8) Rules {
	if b := f.blueprint(s.Blueprint); b != nil {
		return b.Rules[job]
	}
	return Rules{}
}

func (s *service) permits(caller Address) bool {
	for _, c := range s.Callers {
		if c == caller {
			return true
		}
	}
	return caller == s.Owner
}

func (s *service) expired(now uint64) bool { return s.TTL != 0 && now > s.created+s.TTL }

// active returns the service if jobs and results are taken for it.
func (f *frame) active(id uint64) (*service, error) {
	switch s := f.service(id); {
	case s == nil:
		return nil, reverts("ServiceNotFound(uint64)", wordOf(id))
	case s.status != statusActive:
		return nil, reverts("ServiceNotActive(uint64)", wordOf(id))
	case s.expired(f.time):
		return nil, reverts("ServiceExpired(uint64)", wordOf(id))
	default:
		return s, nil
	}
}

func (f *frame) unpaused() error {
	if f.paused() {
		return reverts("EnforcedPause()")
	}
	return nil
}

var errArguments = &revert{}

// admit does what submitJob and submitJobFromQuote have in common before they store a call.
func (f *frame) admit(a *arguments) (id uint64, s *service, job uint8, inputs []byte, err error) {
	id, job, inputs = a.uint(0, 64), uint8(a.uint(1, 8)), a.bytes(2)
	if a.bad {
		return 0, nil, 0, nil, errArguments
	}
	if err := f.unpaused(); err != nil {
		return 0, nil, 0, nil, err
	}
	if s, err = f.active(id); err != nil {
		return 0, nil, 0, nil, err
	}
	if !s.permits(f.from) {
		return 0, nil, 0, nil, reverts("NotPermittedCaller(uint64,address)", wordOf(id), wordOfAddress(f.from))
	}
	jobs := f.blueprint(s.Blueprint).Definition.Jobs
	if int(job) >= len(jobs) {
		return 0, nil, 0, nil, reverts("InvalidJobIndex(uint8)", wordOf(uint64(job)))
	}
	return id, s, job, inputs, f.charge(165_000 + 10*uint64(len(inputs)))
}

func (f *frame) checkInputs(s *service, job uint8, inputs []byte) error {
	schema := f.blueprint(s.Blueprint).Definition.Jobs[job].ParamsSchema
	if path, ok := conforms(schema, inputs); !ok {
		return schemaFailed(2, s.Blueprint, job, path)
	}
	return nil
}

func schemaFailed(target, blueprint uint64, job uint8, path uint64) error {
	return reverts("SchemaValidationFailed(uint8,uint64,uint64,uint256)", wordOf(target), wordOf(blueprint),
		wordOf(uint64(job)), wordOf(path))
}

// store stores a new call and returns its id.
func (f *frame) store(service uint64, c *call) uint64 {
	count := key{kind: kindCalls, a: service}
	id := read[uint64](f, count)
	f.set(count, id+1)
	f.set(key{kind: kindCall, a: service, b: id}, c)
	return id
}

func submitJob(f *frame, a *arguments) ([]byte, error) {
	id, s, job, inputs, err := f.admit(a)
	if err != nil {
		return nil, err
	}
	rate := new(big.Int)
	if b := f.blueprint(s.Blueprint); s.PerJob && b.Rate != nil {
		rate = b.Rate
	}
	if err := f.checkInputs(s, job, inputs); err != nil {
		return nil, err
	}
	if rate.Cmp(f.value) != 0 {
		return nil, &revert{encoding{}.selector(selector("InvalidMsgValue(uint256,uint256)")).big(rate).big(f.value)}
	}
	n := f.store(id, &call{job: job, caller: f.from, created: f.time, payment: rate,
		inputs: tangle.Keccak256(inputs)})
	f.emit(f.c.contract, encoding{}.uint(uint64(job)).address(f.from).uint(3*wordSize).bytes(inputs),
		topicSubmitted, wordOf(id), wordOf(n))
	return encoding{}.uint(n), nil
}

// submitJobFromQuote does not verify the quotes' signatures; a runner never makes one.
func submitJobFromQuote(f *frame, a *arguments) ([]byte, error) {
	id, s, job, inputs, err := f.admit(a)
	if err != nil {
		return nil, err
	}
	quotes, n := a.list(3)
	if a.bad || n == 0 {
		return nil, errArguments
	}
	c := &call{job: job, caller: f.from, created: f.time, payment: new(big.Int), inputs: tangle.Keccak256(inputs)}
	for i := range n {
		q := quotes.tail(i)
		requester, operator, price := q.address(0), q.address(9), q.big(3)
		if quotes.bad || q.bad || q.uint(1, 64) != id || uint8(q.uint(2, 8)) != job {
			return nil, errArguments
		}
		if requester != f.from {
			const otherRequester = 0x22251829
			return nil, &revert{encoding{}.selector(otherRequester).address(operator).address(requester).address(f.from)}
		}
		if !s.isOperator(operator) {
			return nil, notInService(id, operator)
		}
		c.quoted, c.prices = append(c.quoted, operator), append(c.prices, price)
		c.payment.Add(c.payment, price)
	}
	if err := f.checkInputs(s, job, inputs); err != nil {
		return nil, err
	}
	if c.payment.Cmp(f.value) != 0 {
		return nil, &revert{encoding{}.selector(selector("InvalidMsgValue(uint256,uint256)")).big(c.payment).big(f.value)}
	}
	number := f.store(id, c)
	head := encoding{}.uint(uint64(job)).address(f.from).uint(5 * wordSize).big(c.payment)
	list := encoding{}.addresses(c.quoted)
	f.emit(f.c.contract, append(head.uint(uint64(5*wordSize+len(list))), list.bytes(inputs)...),
		topicSubmittedQuoted, wordOf(id), wordOf(number))
	return encoding{}.uint(number), nil
}

func notInService(service uint64, operator Address) error {
	return reverts("OperatorNotInService(uint64,address)", wordOf(service), wordOfAddress(operator))
}
