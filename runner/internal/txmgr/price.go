package txmgr

import (
	"errors"
	"math/big"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

var (
	errBaseFee = errors.New("the base fee is above the highest fee that is allowed")
	errCeiling = errors.New("the fees cannot be raised: they are at the highest that is allowed")
)

// maxCost is what many nodes let a transaction cost at most, in wei: go-ethereum's rpc.txfeecap.
const maxCost = 1e18

// price returns the tip and the cap of a version that comes after prev, or of a first one. Pools
// replace a transaction if both are raised by an eighth at least; eighths says by how many. ok is
// false if that is above what is allowed; the fees are then the highest that are allowed.
func (m *Manager) price(fees chain.Fees, prev *version, gas uint64, eighths int64) (tip, limit *big.Int, ok bool) {
	base := new(big.Int)
	if fees.BaseFee != nil {
		base = fees.BaseFee
	}
	tip, ok = new(big.Int), true
	if fees.Tip != nil {
		tip = smaller(fees.Tip, m.cfg.MaxTip)
	}
	// Nodes with that limit are no use where the base fee alone is above it.
	ceiling := new(big.Int).Div(big.NewInt(maxCost), new(big.Int).SetUint64(max(gas, 1)))
	ceiling = smaller(m.cfg.MaxFee, larger(ceiling, new(big.Int).Add(raise(base, 1), tip)))
	limit = new(big.Int).Add(new(big.Int).Lsh(base, 1), tip)
	if prev != nil {
		tip, limit = larger(tip, raise(prev.tip, eighths)), larger(limit, raise(prev.cap, eighths))
		ok = raise(prev.tip, 1).Cmp(m.cfg.MaxTip) <= 0 && raise(prev.cap, 1).Cmp(ceiling) <= 0
	}
	limit = smaller(limit, ceiling)
	return smaller(smaller(tip, m.cfg.MaxTip), limit), limit, ok
}

// raise returns n and the eighths of it, rounded up, and more than n.
func raise(n *big.Int, eighths int64) *big.Int {
	more := new(big.Int).Mul(n, big.NewInt(eighths))
	more.Add(more, big.NewInt(7)).Rsh(more, 3)
	if more.Sign() == 0 {
		more.SetInt64(1)
	}
	return more.Add(more, n)
}

func larger(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

func smaller(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}
