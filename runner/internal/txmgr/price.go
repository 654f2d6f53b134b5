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

// price returns the tip and the cap of a version that comes after prev, or of a first one. Pools
// replace a transaction if both are raised by an eighth at least; eighths says by how many. ok is
// false if that is above what is allowed; the fees are then the highest that are allowed.
func (m *Manager) price(fees chain.Fees, prev *version, eighths int64) (tip, limit *big.Int, ok bool) {
	base := new(big.Int)
	if fees.BaseFee != nil {
		base = fees.BaseFee
	}
	tip, ok = new(big.Int), true
	if fees.Tip != nil {
		tip = fees.Tip
	}
	if prev != nil {
		tip = larger(tip, raise(prev.tip, eighths))
		ok = raise(prev.tip, 1).Cmp(m.cfg.MaxTip) <= 0 && raise(prev.cap, 1).Cmp(m.cfg.MaxFee) <= 0
	}
	tip = smaller(tip, m.cfg.MaxTip)
	limit = new(big.Int).Add(new(big.Int).Lsh(base, 1), tip)
	if prev != nil {
		limit = larger(limit, raise(prev.cap, eighths))
	}
	limit = smaller(limit, m.cfg.MaxFee)
	return smaller(tip, limit), limit, ok
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
