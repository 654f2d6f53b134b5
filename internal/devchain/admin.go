package devchain

import (
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

func getJobCall(f *frame, a *arguments) encoding {
	c := f.call(a.uint(0, 64), a.uint(1, 64))
	if c == nil {
		return make(encoding, 7*wordSize)
	}
	out := encoding{}.uint(uint64(c.job)).address(c.caller).uint(c.created).uint(uint64(c.results))
	if f.c.oldLayout { // contracts up to 0.18
		return out.big(c.payment).bool(c.completed).bool(c.quoted != nil)
	}
	return out.bool(c.completed).bool(c.quoted != nil).big(c.payment)
}

func getService(f *frame, a *arguments) encoding {
	s := f.service(a.uint(0, 64))
	if s == nil {
		return make(encoding, 13*wordSize)
	}
	const eventDriven, oneOperator = 2, 1
	pricing, paid := uint64(0), uint64(0)
	if s.PerJob {
		pricing, paid = eventDriven, s.activated
	}
	n := uint64(len(s.operators()))
	return encoding{}.uint(s.Blueprint).address(s.Owner).uint(s.created).uint(s.TTL).uint(s.terminated).uint(paid).
		uint(n).uint(oneOperator).uint(0).uint(1).uint(pricing).uint(s.status).uint(0)
}

const allExposed = 10_000 // basis points of an operator's stake

func getServiceOperator(f *frame, a *arguments) encoding {
	if s := f.service(a.uint(0, 64)); s != nil {
		for _, m := range s.members {
			if m.address == a.address(1) {
				return encoding{}.uint(allExposed).uint(m.joined).uint(m.left).bool(m.active)
			}
		}
	}
	return make(encoding, 4*wordSize)
}

func getBlueprintDefinition(f *frame, a *arguments) ([]byte, error) {
	id := a.uint(0, 64)
	b := f.blueprint(id)
	if b == nil {
		return nil, reverts("BlueprintNotFound(uint64)", wordOf(id))
	}
	return tangletest.EncodeDefinition(&b.Definition), nil
}

func getBlueprint(f *frame, a *arguments) encoding {
	b := f.blueprint(a.uint(0, 64))
	if b == nil {
		return tangletest.EncodeStatus(tangle.Status{})
	}
	return tangletest.EncodeStatus(tangle.Status{Owner: b.owner, Manager: b.Definition.Manager, CreatedAt: b.created,
		Membership: b.Definition.Config.Membership, Pricing: b.Definition.Config.Pricing, Active: true})
}

func registerOperator(f *frame, a *arguments) ([]byte, error)           { return f.register(a, false) }
func registerOperatorWithInputs(f *frame, a *arguments) ([]byte, error) { return f.register(a, true) }

func (f *frame) register(a *arguments, withInputs bool) ([]byte, error) {
	id, public, rpc := a.uint(0, 64), a.bytes(1), a.bytes(2)
	var inputs []byte
	if withInputs {
		inputs = a.bytes(3)
	}
	if a.bad {
		return nil, errArguments
	}
	if err := f.charge(320_000); err != nil {
		return nil, err
	}
	registered := key{kind: kindRegistered, a: id, address: f.from}
	b := f.blueprint(id)
	switch {
	case f.paused():
		return nil, f.unpaused()
	case b == nil:
		return nil, reverts("BlueprintNotFound(uint64)", wordOf(id))
	case !read[bool](f, key{kind: kindStaked, address: f.from}):
		return nil, reverts("OperatorNotActive(address)", wordOfAddress(f.from))
	case read[bool](f, registered):
		return nil, reverts("OperatorAlreadyRegistered(uint64,address)", wordOf(id), wordOfAddress(f.from))
	}
	public, err := f.operatorKey(id, public)
	if err != nil {
		return nil, err
	}
	var hash Address // a part of the hash is enough to find a duplicate
	copy(hash[:], public[1:])
	taken := key{kind: kindOperatorKey, a: id, address: hash}
	if read[bool](f, taken) {
		return nil, reverts("DuplicateOperatorKey(uint64,bytes32)", wordOf(id), tangle.Keccak256(public))
	}
	if path, fits := conforms(b.Definition.RegistrationSchema, inputs); !fits {
		return nil, schemaFailed(0, id, 0, path)
	}
	f.set(registered, true)
	f.set(taken, true)
	list := encoding{}.bytes(public)
	f.emit(f.c.contract, append(encoding{}.uint(2*wordSize).uint(uint64(2*wordSize+len(list))), list.bytes(rpc)...),
		topicRegistered, wordOf(id), wordOfAddress(f.from))
	return nil, nil
}

const keySize = 65

// operatorKey returns the key of an argument: 65 bytes, which 65 bytes of signature may follow.
// The signature proves that the operator has the key.
func (f *frame) operatorKey(blueprint uint64, proof []byte) ([]byte, error) {
	switch {
	case len(proof) == 2*keySize:
	case read[bool](f, key{kind: kindKeyProof}):
		return nil, reverts("KeyOwnershipProofRequired(uint64)", wordOf(blueprint))
	case len(proof) != keySize:
		return nil, reverts("InvalidOperatorKey()")
	default:
		return proof, nil
	}
	public, signature := proof[:keySize], proof[keySize:]
	inner := tangle.Keccak256(encoding{}.word(event("TangleOperatorKeyProof")).uint(f.c.id).address(f.c.contract).
		uint(blueprint).address(f.from).word(tangle.Keccak256(public)))
	hash := tangle.Keccak256([]byte("\x19Ethereum Signed Message:\n32"), inner[:])
	var owner Address
	body := tangle.Keccak256(public[1:])
	copy(owner[:], body[wordSize-len(owner):])
	if signer := signerOf(hash, signature); signer != owner {
		return nil, reverts("InvalidKeyOwnershipProof(uint64,address,address)", wordOf(blueprint), wordOfAddress(owner),
			wordOfAddress(signer))
	}
	return public, nil
}

// signerOf recovers who signed: of r, s, and v of 27 or 28. It is zero if nobody did.
func signerOf(hash Word, signature []byte) Address {
	if len(signature) != keySize || signature[64] != 27 && signature[64] != 28 {
		return Address{}
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:64])
	from, err := recoverSender(hash, signature[64] == 28, r, s)
	if err != nil {
		return Address{}
	}
	return from
}

// Only account 0 pauses.
func pause(f *frame, _ *arguments) ([]byte, error)   { return f.switchPause(true, topicPaused) }
func unpause(f *frame, _ *arguments) ([]byte, error) { return f.switchPause(false, topicUnpaused) }

func (f *frame) switchPause(on bool, topic Word) ([]byte, error) {
	switch {
	case f.from != Account(0):
		return nil, reverts("AccessControlUnauthorizedAccount(address,bytes32)", wordOfAddress(f.from), event("PAUSER_ROLE"))
	case on && f.paused():
		return nil, reverts("EnforcedPause()")
	case !on && !f.paused():
		return nil, reverts("ExpectedPause()")
	}
	f.set(key{kind: kindPaused}, on)
	f.emit(f.c.contract, encoding{}.address(f.from), topic)
	return nil, f.charge(8_000)
}

func terminateService(f *frame, a *arguments) ([]byte, error) {
	id := a.uint(0, 64)
	s := f.service(id)
	switch {
	case a.bad:
		return nil, errArguments
	case s == nil:
		return nil, reverts("ServiceNotFound(uint64)", wordOf(id))
	case s.status != statusActive:
		return nil, reverts("ServiceNotActive(uint64)", wordOf(id))
	case f.from != s.Owner:
		return nil, reverts("NotServiceOwner(uint64,address)", wordOf(id), wordOfAddress(f.from))
	}
	changed := *s
	changed.status, changed.terminated = statusTerminated, f.time
	f.set(key{kind: kindService, a: id}, &changed)
	for _, operator := range s.operators() {
		f.emit(Registry, nil, topicRegistryLeft, wordOf(id), wordOfAddress(operator))
	}
	f.emit(f.c.contract, nil, topicTerminated, wordOf(id))
	return nil, f.charge(100_000)
}

const (
	devActivate = "devActivate(uint64)"
	devJoin     = "devJoin(uint64)"
)

func activateService(f *frame, a *arguments) ([]byte, error) {
	id := a.uint(0, 64)
	s := f.service(id)
	if a.bad || s == nil || s.status != statusPending {
		return nil, errArguments
	}
	changed := *s
	changed.status, changed.activated, changed.created = statusActive, f.time, f.time
	f.set(key{kind: kindService, a: id}, &changed)
	f.emit(f.c.contract, encoding{}.uint(0), topicActivated, wordOf(id), wordOf(id), wordOf(s.Blueprint))
	for _, operator := range s.operators() {
		f.emit(Registry, nil, topicRegistryJoined, wordOf(id), wordOfAddress(operator))
	}
	return nil, f.charge(500_000)
}

func joinService(f *frame, a *arguments) ([]byte, error) {
	id := a.uint(0, 64)
	s := f.service(id)
	if a.bad || s == nil || s.isOperator(f.from) {
		return nil, errArguments
	}
	changed := *s
	changed.members = nil
	for _, m := range s.members {
		if m.address != f.from {
			changed.members = append(changed.members, m)
		}
	}
	changed.members = append(changed.members, member{address: f.from, weight: 1, joined: f.time, active: true})
	f.set(key{kind: kindService, a: id}, &changed)
	f.emit(Registry, nil, topicRegistryJoined, wordOf(id), wordOfAddress(f.from))
	f.emit(f.c.contract, encoding{}.uint(allExposed), topicJoined, wordOf(id), wordOfAddress(f.from))
	return nil, f.charge(150_000)
}

func leaveService(f *frame, a *arguments) ([]byte, error) {
	id := a.uint(0, 64)
	s := f.service(id)
	switch {
	case a.bad:
		return nil, errArguments
	case s == nil:
		return nil, reverts("ServiceNotFound(uint64)", wordOf(id))
	case !s.isOperator(f.from):
		return nil, notInService(id, f.from)
	}
	changed := *s
	changed.members = append([]member(nil), s.members...)
	for i, m := range changed.members {
		if m.address == f.from {
			changed.members[i].active, changed.members[i].left = false, f.time
		}
	}
	f.set(key{kind: kindService, a: id}, &changed)
	f.emit(Registry, nil, topicRegistryLeft, wordOf(id), wordOfAddress(f.from))
	f.emit(f.c.contract, nil, topicLeft, wordOf(id), wordOfAddress(f.from))
	return nil, f.charge(110_000)
}

func claimRewards(f *frame, _ *arguments) ([]byte, error) {
	owed := key{kind: kindRewards, address: f.from}
	amount := f.amount(owed)
	if amount.Sign() == 0 {
		return nil, reverts("NoRewardsToClaim()")
	}
	f.set(owed, new(big.Int))
	f.add(key{kind: kindBalance, address: f.from}, amount)
	f.add(key{kind: kindBalance, address: f.c.contract}, new(big.Int).Neg(amount))
	f.emit(f.c.contract, encoding{}.big(amount), topicRewardsClaimed, wordOfAddress(f.from))
	return nil, f.charge(60_000)
}
