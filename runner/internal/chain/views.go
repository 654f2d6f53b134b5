package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// view is a call of a view function. Its decode may be called once for each node.
type view struct {
	to     Address
	data   []byte
	decode func(*tangle.Decoder)
	// optional views may return nothing at all, as an address without code does.
	optional bool
}

// read calls views, all on one node, and decodes their results. The errors are *Revert, or
// errNothing for what is optional and returned nothing.
func (c *Chain) read(ctx context.Context, views ...view) ([]error, error) {
	errs := make([]error, len(views))
	calls := make([]rpc.Call, len(views))
	for i, v := range views {
		calls[i] = ask("eth_call", func(result []byte) error {
			data, err := parseBytes(result)
			if errs[i] = nil; err == nil && len(data) == 0 && v.optional {
				errs[i] = errNothing
				return nil
			}
			if err != nil {
				return err
			}
			d := tangle.NewDecoder(data)
			v.decode(d)
			if err := d.Err(); err != nil {
				return fmt.Errorf("0x%x: %w", v.data[:4], err)
			}
			return nil
		}, Call{To: v.to, Data: v.data}.params(), "latest")
	}
	answers, node, err := c.rpc.Do(ctx, calls)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		if a.Err != nil {
			errs[i] = callError(node.RPCError(a.Err, "eth_call"))
		}
	}
	return errs, nil
}

var errNothing = errors.New("no answer")

// readOne calls one view of the Tangle contract. The error may be a *Revert.
func (c *Chain) readOne(ctx context.Context, to Address, call *calldata, decode func(*tangle.Decoder)) error {
	errs, err := c.read(ctx, view{to: to, data: call.encode(), decode: decode})
	if err != nil {
		return err
	}
	return errs[0]
}

// Service is what getService returns.
type Service struct {
	Blueprint  uint64
	Owner      Address
	CreatedAt  uint64
	TTL        uint64 // seconds; 0: none
	Terminated uint64
	Operators  uint32
	Pricing    uint8
	Status     uint8 // 0 pending, 1 active, 2 terminated
}

// Service returns what the contract knows of a service: all zeros if there is none.
func (c *Chain) Service(ctx context.Context, service uint64) (Service, error) {
	var s Service
	err := c.readOne(ctx, c.contract, newCall(0x3dc0d5fe, 1).uint(service), func(d *tangle.Decoder) {
		if d.Head(0, 13, "service") {
			s = Service{
				Blueprint:  d.Uint(0, 64, "blueprint"),
				Owner:      d.Address(wordSize, "owner"),
				CreatedAt:  d.Uint(2*wordSize, 64, "createdAt"),
				TTL:        d.Uint(3*wordSize, 64, "ttl"),
				Terminated: d.Uint(4*wordSize, 64, "terminatedAt"),
				Operators:  uint32(d.Uint(6*wordSize, 32, "operatorCount")),
				Pricing:    uint8(d.Uint(10*wordSize, 8, "pricing")),
				Status:     uint8(d.Uint(11*wordSize, 8, "status")),
			}
		}
	})
	return s, err
}

// IsServiceOperator stays true after the service was terminated.
func (c *Chain) IsServiceOperator(ctx context.Context, service uint64, operator Address) (bool, error) {
	return c.readBool(ctx, c.contract, newCall(0xa595b21e, 2).uint(service).address(operator))
}

// ServiceOperators returns the operators in the order that bitmaps of aggregated results refer to.
func (c *Chain) ServiceOperators(ctx context.Context, service uint64) ([]Address, error) {
	return c.readAddresses(ctx, newCall(0xbb207f1f, 1).uint(service))
}

const (
	selQuoted  = 0x038dda6c
	selJobCall = 0xa672bc0a
)

// IsOperatorRegistered reports whether an operator is registered for a blueprint.
func (c *Chain) IsOperatorRegistered(ctx context.Context, blueprint uint64, operator Address) (bool, error) {
	return c.readBool(ctx, c.contract, newCall(0x64462595, 2).uint(blueprint).address(operator))
}

// Paused reports whether the contract is paused.
func (c *Chain) Paused(ctx context.Context) (bool, error) {
	return c.readBool(ctx, c.contract, newCall(0x5c975abb, 0))
}

// RequiresKeyProof reports whether an operator that registers must prove that it has the key.
func (c *Chain) RequiresKeyProof(ctx context.Context) (bool, error) {
	yes, err := c.readBool(ctx, c.contract, newCall(0xc286ab66, 0))
	if missing(err) {
		return false, nil
	}
	return yes, err
}

// PendingRewards returns what an account may claim, in the smallest unit of the asset.
func (c *Chain) PendingRewards(ctx context.Context, account Address) (*big.Int, error) {
	var amount *big.Int
	err := c.readOne(ctx, c.contract, newCall(0x31d7a262, 1).address(account), func(d *tangle.Decoder) {
		if d.Head(0, 1, "amount") {
			amount = d.Word(0).Big()
		}
	})
	return amount, err
}

// StatusRegistry returns the address of the OperatorStatusRegistry; zero if there is none.
func (c *Chain) StatusRegistry(ctx context.Context) (a Address, err error) {
	err = c.readOne(ctx, c.contract, newCall(0xd390bbbb, 0), func(d *tangle.Decoder) {
		if d.Head(0, 1, "registry") {
			a = d.Address(0, "registry")
		}
	})
	return a, err
}

// defaultHookGas is what a manager's hook may use in contracts that do not say it.
const defaultHookGas = 500_000

// HookGasLimit returns how much gas a hook of the manager may use.
func (c *Chain) HookGasLimit(ctx context.Context) (gas uint64, err error) {
	err = c.readOne(ctx, c.contract, newCall(0x35ba86c3, 0), func(d *tangle.Decoder) {
		if d.Head(0, 1, "gas") {
			gas = d.Uint(0, 64, "gas")
		}
	})
	if missing(err) {
		return defaultHookGas, nil
	}
	return gas, err
}

// Blueprint returns what getBlueprint returns: all zeros if there is none.
func (c *Chain) Blueprint(ctx context.Context, blueprint uint64) (s tangle.Status, err error) {
	err = c.readOne(ctx, c.contract, newCall(0xb7696dbb, 1).uint(blueprint), func(d *tangle.Decoder) { s = d.Status() })
	return s, err
}

// Jobs returns the definitions of a blueprint's jobs, in the order of their ids, with the schemas
// of their inputs and outputs.
func (c *Chain) Jobs(ctx context.Context, blueprint uint64) ([]tangle.Job, error) {
	data, err := c.Call(ctx, Call{To: c.contract, Data: newCall(0x6171fea8, 1).uint(blueprint).encode()})
	if err != nil {
		return nil, err
	}
	definition, err := tangle.DecodeDefinition(data)
	if err != nil {
		return nil, err
	}
	return definition.Jobs, nil
}

// JobRules is what the blueprint's manager says of a job.
type JobRules struct {
	Aggregated bool   // plain results are refused
	Threshold  uint16 // of an aggregated result, in basis points
	ByStake    bool   // the threshold counts stake, not operators
	Results    uint32 // that complete a call
}

// What the contract assumes if a blueprint has no manager, or the manager's hook fails.
const (
	defaultThreshold = 6700
	defaultResults   = 1
)

// JobRules asks the manager of a service's blueprint about jobs. What the manager does not answer
// is as the contract assumes: one result completes a call, and results are plain if there is no
// manager. If there is one that does not say whether results are aggregated, they must be:
// contracts since 0.18 refuse plain ones.
func (c *Chain) JobRules(ctx context.Context, service uint64, jobs []uint8) ([]JobRules, error) {
	s, err := c.Service(ctx, service)
	if err != nil {
		return nil, err
	}
	b, err := c.Blueprint(ctx, s.Blueprint)
	if err != nil {
		return nil, err
	}
	rules := make([]JobRules, len(jobs))
	for i := range rules {
		rules[i] = JobRules{Threshold: defaultThreshold, Results: defaultResults}
	}
	if b.Manager.IsZero() {
		return rules, nil
	}
	const each = 3
	var views []view
	for i, job := range jobs {
		hook := func(selector uint32, heads int, decode func(*tangle.Decoder)) {
			views = append(views, view{to: b.Manager, optional: true,
				data: newCall(selector, 2).uint(service).uint(uint64(job)).encode(), decode: func(d *tangle.Decoder) {
					if d.Head(0, heads, "answer") {
						decode(d)
					}
				}})
		}
		r := &rules[i]
		hook(0x19ed5bb2, 1, func(d *tangle.Decoder) { r.Aggregated = d.Bool(0, "requiresAggregation") })
		hook(0x25fcc64e, 2, func(d *tangle.Decoder) {
			r.Threshold, r.ByStake = uint16(d.Uint(0, 16, "thresholdBps")), d.Bool(wordSize, "thresholdType")
		})
		hook(0x4c443e04, 1, func(d *tangle.Decoder) { r.Results = uint32(d.Uint(0, 32, "requiredResultCount")) })
	}
	errs, err := c.read(ctx, views...)
	if err != nil {
		return nil, err
	}
	for i := range rules {
		of := errs[each*i:]
		if of[0] != nil {
			rules[i].Aggregated = true
		}
		if of[1] != nil {
			rules[i].Threshold, rules[i].ByStake = defaultThreshold, false
		}
		if of[2] != nil || rules[i].Results == 0 {
			rules[i].Results = defaultResults
		}
	}
	return rules, nil
}

// HeartbeatConfig is what an operator of a service owes to the status registry.
type HeartbeatConfig struct {
	Interval      uint64 // seconds
	MaxMissed     uint64
	CustomMetrics bool
}

// HeartbeatConfig asks the status registry.
func (c *Chain) HeartbeatConfig(ctx context.Context, registry Address, service uint64) (h HeartbeatConfig, err error) {
	err = c.readOne(ctx, registry, newCall(0x0758236f, 1).uint(service), func(d *tangle.Decoder) {
		if d.Head(0, 3, "config") {
			h = HeartbeatConfig{d.Uint(0, 64, "interval"), d.Uint(wordSize, 64, "maxMissed"),
				d.Bool(2*wordSize, "customMetrics")}
		}
	})
	return h, err
}

func (c *Chain) readBool(ctx context.Context, to Address, call *calldata) (yes bool, err error) {
	err = c.readOne(ctx, to, call, func(d *tangle.Decoder) {
		if d.Head(0, 1, "answer") {
			yes = d.Bool(0, "answer")
		}
	})
	return yes, err
}

func (c *Chain) readAddresses(ctx context.Context, call *calldata) (list []Address, err error) {
	err = c.readOne(ctx, c.contract, call, func(d *tangle.Decoder) {
		if list = nil; d.Head(0, 1, "answer") {
			list = addresses(d, 0, "operators")
		}
	})
	return list, err
}

// missing reports whether a function is not there: contracts of older generations lack some.
func missing(err error) bool {
	var revert *Revert
	return errors.As(err, &revert) && (revert.Selector == RevertUnknownSelector || revert.Selector == 0)
}
