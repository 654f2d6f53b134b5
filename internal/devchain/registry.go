package devchain

import "github.com/tangle-network/blueprint-serverless/internal/tangle"

// beat is what the status registry knows of an operator of a service.
type beat struct {
	last, consecutive uint64
	missed            uint64
	status            uint64
	metrics           Word
}

const (
	statusHealthy  = 0
	statusDegraded = 1
	statusOffline  = 2
	statusSlashed  = 3
)

var (
	topicBeat           = event("HeartbeatReceived(uint64,uint64,address,uint8,uint256)")
	topicStatus         = hexWord("228824b86c256469125f525ce18c6c2d0a9e133d13b8ec7a2c96a193b0c28a09")
	topicCameOnline     = hexWord("c9862c5f02eefbdcea01c207ae538e1d304dc93026870f48951e48a0f4c8470c")
	topicWentOffline    = hexWord("44fd32b677704ce68e7763897c49733b8f5289018ac60a5c926802d63759db4d")
	topicRegistryLeft   = hexWord("08bb93e5444209b15155078a13f6e341299d748d0c299f722c9cbc0723f0fe9e")
	topicRegistryJoined = hexWord("8e2d88795a3c66719a287658cbf68b3eb2b8e183cb18f46f4813913fc8aafc4b")
)

// registryMethods are the functions of the OperatorStatusRegistry.
var registryMethods = methods(map[string]method{
	"submitHeartbeatDirect(uint64,uint64,uint8,bytes)": {run: func(f *frame, a *arguments) ([]byte, error) {
		service, blueprint, code, metrics := a.uint(0, 64), a.uint(1, 64), a.uint(2, 8), a.bytes(3)
		if a.bad {
			return nil, errArguments
		}
		if err := f.member(service); err != nil {
			return nil, err
		}
		return nil, f.beat(service, blueprint, code, metrics)
	}},
	"submitHeartbeat(uint64,uint64,uint8,bytes,uint64,bytes)": {run: submitHeartbeat},
	"getHeartbeatConfig(uint64)": view(func(f *frame, a *arguments) encoding {
		interval, most := f.heartbeats(a.uint(0, 64))
		return encoding{}.uint(interval).uint(most).bool(false)
	}),
	"getOperatorState(uint64,address)": view(func(f *frame, a *arguments) encoding {
		b := f.operator(a.uint(0, 64), a.address(1))
		return encoding{}.uint(b.last).uint(b.consecutive).uint(b.missed).uint(b.status).word(b.metrics)
	}),
	"isOnline(uint64,address)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.bool(f.operator(a.uint(0, 64), a.address(1)).status <= statusDegraded)
	}),
	"isHeartbeatCurrent(uint64,address)": view(func(f *frame, a *arguments) encoding {
		b := f.operator(a.uint(0, 64), a.address(1))
		return encoding{}.bool(b.last != 0 && !f.silent(a.uint(0, 64), b))
	}),
	"isRegisteredOperator(uint64,address)": view(func(f *frame, a *arguments) encoding {
		return encoding{}.bool(f.registered(a.uint(0, 64), a.address(1)))
	}),
	"getSlashableOperators(uint64)": view(func(f *frame, a *arguments) encoding {
		var list []Address
		if s := f.service(a.uint(0, 64)); s != nil {
			for _, operator := range s.operators() {
				if b := f.operator(a.uint(0, 64), operator); b.last != 0 && f.silent(a.uint(0, 64), b) {
					list = append(list, operator)
				}
			}
		}
		return encoding{}.uint(wordSize).addresses(list)
	}),
	"checkOperatorStatus(uint64,address)": {run: func(f *frame, a *arguments) ([]byte, error) {
		service, operator := a.uint(0, 64), a.address(1)
		if a.bad {
			return nil, errArguments
		}
		b := f.operator(service, operator)
		if b.last == 0 || b.status == statusOffline || !f.silent(service, b) {
			return nil, f.charge(20_000)
		}
		interval, _ := f.heartbeats(service)
		b.missed = min((f.time-b.last)/interval, 255)
		b.consecutive = 0
		f.emit(Registry, encoding{}.uint(b.missed), topicWentOffline, wordOf(service), wordOfAddress(operator))
		f.setStatus(service, operator, b, statusOffline)
		return nil, f.charge(20_000)
	}},
	"goOffline(uint64)": {run: func(f *frame, a *arguments) ([]byte, error) { return f.goTo(a, statusOffline) }},
	"goOnline(uint64)":  {run: func(f *frame, a *arguments) ([]byte, error) { return f.goTo(a, statusHealthy) }},
})

func (f *frame) heartbeats(service uint64) (interval, most uint64) {
	interval, most = 300, 3
	if s := f.service(service); s != nil && s.HeartbeatInterval != 0 {
		interval, most = max(60, s.HeartbeatInterval), uint64(s.MaxMissed)
	}
	return interval, most
}

// operator returns a copy of an operator's state. One that never beat is offline.
func (f *frame) operator(service uint64, operator Address) beat {
	if b := read[*beat](f, key{kind: kindBeat, a: service, address: operator}); b != nil {
		return *b
	}
	return beat{status: statusOffline}
}

func (f *frame) silent(service uint64, b beat) bool {
	interval, most := f.heartbeats(service)
	return f.time > b.last+interval*most
}

func (f *frame) registered(service uint64, operator Address) bool {
	s := f.service(service)
	return s != nil && s.status == statusActive && s.isOperator(operator)
}

// member checks that the sender may report on a service.
func (f *frame) member(service uint64) error {
	switch {
	case !f.registered(service, f.from):
		return reverts("NotRegisteredOperator()")
	case f.operator(service, f.from).status == statusSlashed:
		return reverts("OperatorSlashed()")
	}
	return nil
}

func (f *frame) setStatus(service uint64, operator Address, b beat, status uint64) {
	if b.status != status {
		f.emit(Registry, encoding{}.uint(b.status).uint(status), topicStatus, wordOf(service), wordOfAddress(operator))
	}
	b.status = status
	f.set(key{kind: kindBeat, a: service, address: operator}, &b)
}

func (f *frame) beat(service, blueprint, code uint64, metrics []byte) error {
	b := f.operator(service, f.from)
	if b.status == statusOffline {
		f.emit(Registry, nil, topicCameOnline, wordOf(service), wordOfAddress(f.from))
	}
	gas := uint64(50_000)
	if b.last == 0 {
		gas = 200_000
	}
	b.last, b.missed, b.metrics = f.time, 0, tangle.Keccak256(metrics)
	b.consecutive++
	f.emit(Registry, encoding{}.uint(code).uint(f.time), topicBeat, wordOf(service), wordOf(blueprint),
		wordOfAddress(f.from))
	status := uint64(statusHealthy)
	if code > 0 {
		status = statusDegraded
	}
	f.setStatus(service, f.from, b, status)
	return f.charge(gas)
}

func submitHeartbeat(f *frame, a *arguments) ([]byte, error) {
	service, blueprint, code, metrics, signed, signature := a.uint(0, 64), a.uint(1, 64), a.uint(2, 8), a.bytes(3),
		a.uint(4, 64), a.bytes(5)
	if a.bad {
		return nil, errArguments
	}
	if err := f.member(service); err != nil {
		return nil, err
	}
	const oldest = 300 // seconds
	switch {
	case signed > f.time:
		return nil, reverts("HeartbeatFromFuture(uint64,uint64)", wordOf(signed), wordOf(f.time))
	case signed+oldest < f.time:
		return nil, reverts("HeartbeatStale(uint64,uint64)", wordOf(signed), wordOf(f.time))
	}
	domain := tangle.Keccak256(encoding{}.
		word(event("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")).
		word(event("OperatorStatusRegistry")).word(event("1")).uint(f.c.id).address(Registry))
	message := tangle.Keccak256(encoding{}.word(event("Heartbeat(address operator,uint64 serviceId,uint64 blueprintId," +
		"uint8 statusCode,bytes32 metricsHash,uint64 timestamp)")).address(f.from).uint(service).uint(blueprint).
		uint(code).word(tangle.Keccak256(metrics)).uint(signed))
	if signerOf(tangle.Keccak256([]byte("\x19\x01"), domain[:], message[:]), signature) != f.from {
		return nil, reverts("InvalidSignature()")
	}
	return nil, f.beat(service, blueprint, code, metrics)
}

func (f *frame) goTo(a *arguments, status uint64) ([]byte, error) {
	service := a.uint(0, 64)
	if a.bad {
		return nil, errArguments
	}
	if err := f.member(service); err != nil {
		return nil, err
	}
	topic := topicCameOnline
	if status == statusOffline {
		topic = topicWentOffline
	}
	f.emit(Registry, nil, topic, wordOf(service), wordOfAddress(f.from))
	f.setStatus(service, f.from, f.operator(service, f.from), status)
	return nil, f.charge(15_000)
}
