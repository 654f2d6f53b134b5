package txmgr

import (
	"math/big"
	"testing"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

func TestPrice(t *testing.T) {
	const gwei = 1e9
	m := &Manager{cfg: Config{MaxFee: big.NewInt(500 * gwei), MaxTip: big.NewInt(50 * gwei)}}
	for name, tt := range map[string]struct {
		base, tip        int64 // in thousandths of a gwei, like all here
		prevTip, prevCap int64
		gas              uint64
		eighths          int64
		wantTip, wantCap int64
		atCeiling        bool
	}{
		"first":              {base: 10_000, tip: 1000, gas: 1e5, wantTip: 1000, wantCap: 21_000},
		"no tip":             {base: 10_000, gas: 1e5, wantCap: 20_000},
		"high tip":           {base: 10_000, tip: 90_000, gas: 1e5, wantTip: 50_000, wantCap: 70_000},
		"high base":          {base: 400_000, tip: 1000, gas: 1e5, wantTip: 1000, wantCap: 500_000},
		"bump":               {base: 10_000, tip: 1000, prevTip: 1000, prevCap: 21_000, gas: 1e5, eighths: 1, wantTip: 1125, wantCap: 23_625},
		"doubled":            {base: 10_000, tip: 1000, prevTip: 1000, prevCap: 21_000, gas: 1e5, eighths: 8, wantTip: 2000, wantCap: 42_000},
		"bump to a new base": {base: 100_000, tip: 1000, prevTip: 1000, prevCap: 21_000, gas: 1e5, eighths: 1, wantTip: 1125, wantCap: 201_000},
		"last bump":          {base: 10_000, tip: 1000, prevTip: 1000, prevCap: 440_000, gas: 1e5, eighths: 8, wantTip: 2000, wantCap: 500_000},
		"no further bump":    {base: 10_000, tip: 1000, prevTip: 1000, prevCap: 450_000, gas: 1e5, eighths: 1, wantTip: 1125, wantCap: 500_000, atCeiling: true},
		"no further tip":     {base: 10_000, tip: 1000, prevTip: 45_000, prevCap: 60_000, gas: 1e5, eighths: 1, wantTip: 50_000, wantCap: 67_500, atCeiling: true},
		// One ether for 10,000,000 gas is 100 gwei.
		"much gas":           {base: 60_000, tip: 1000, gas: 1e7, wantTip: 1000, wantCap: 100_000},
		"much gas, bump":     {base: 60_000, tip: 1000, prevTip: 1000, prevCap: 95_000, gas: 1e7, eighths: 1, wantTip: 1125, wantCap: 100_000, atCeiling: true},
		"much gas, high fee": {base: 160_000, tip: 1000, gas: 1e7, wantTip: 1000, wantCap: 181_000},
	} {
		n := func(milli int64) *big.Int { return new(big.Int).Mul(big.NewInt(milli), big.NewInt(gwei/1000)) }
		var prev *version
		if tt.prevCap > 0 {
			prev = &version{tip: n(tt.prevTip), cap: n(tt.prevCap)}
		}
		tip, limit, ok := m.price(chain.Fees{BaseFee: n(tt.base), Tip: n(tt.tip)}, prev, tt.gas, tt.eighths)
		if tip.Cmp(n(tt.wantTip)) != 0 || limit.Cmp(n(tt.wantCap)) != 0 || ok == tt.atCeiling {
			t.Errorf("%s: tip %v and cap %v, %v; want %v and %v", name, tip, limit, ok, n(tt.wantTip), n(tt.wantCap))
		}
	}
	// Nothing is raised to itself: pools would refuse it for ever.
	if got := raise(new(big.Int), 1); got.Int64() != 1 {
		t.Errorf("nothing is raised to %v", got)
	}
	if got := raise(big.NewInt(1000), 1); got.Int64() != 1125 {
		t.Errorf("1000 is raised to %v", got)
	}
}
