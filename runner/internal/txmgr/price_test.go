package txmgr

import (
	"math/big"
	"testing"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

func TestPrice(t *testing.T) {
	const gwei = 1e9
	m := &Manager{cfg: Config{MaxFee: big.NewInt(500 * gwei), MaxTip: big.NewInt(50 * gwei)}}
	for _, tt := range []struct {
		name             string
		base, tip        int64 // in thousandths of a gwei, like all here
		prevTip, prevCap int64
		gas              uint64
		eighths          int64
		wantTip, wantCap int64
		atCeiling        bool
	}{
		{"first", 10_000, 1000, 0, 0, 1e5, 1, 1000, 21_000, false},
		{"no tip", 10_000, 0, 0, 0, 1e5, 1, 0, 20_000, false},
		{"high tip", 10_000, 90_000, 0, 0, 1e5, 1, 50_000, 70_000, false},
		{"high base", 400_000, 1000, 0, 0, 1e5, 1, 1000, 500_000, false},
		{"bump", 10_000, 1000, 1000, 21_000, 1e5, 1, 1125, 23_625, false},
		{"doubled", 10_000, 1000, 1000, 21_000, 1e5, 8, 2000, 42_000, false},
		{"bump to a new base", 100_000, 1000, 1000, 21_000, 1e5, 1, 1125, 201_000, false},
		{"last bump", 10_000, 1000, 1000, 440_000, 1e5, 8, 2000, 500_000, false},
		{"no further bump", 10_000, 1000, 1000, 450_000, 1e5, 1, 1125, 500_000, true},
		{"no further tip", 10_000, 1000, 45_000, 60_000, 1e5, 1, 50_000, 67_500, true},
		// One ether for 10,000,000 gas is 100 gwei.
		{"much gas", 60_000, 1000, 0, 0, 1e7, 1, 1000, 100_000, false},
		{"much gas, bump", 60_000, 1000, 1000, 95_000, 1e7, 1, 1125, 100_000, true},
		{"much gas, high fee", 160_000, 1000, 0, 0, 1e7, 1, 1000, 181_000, false},
	} {
		n := func(milli int64) *big.Int { return new(big.Int).Mul(big.NewInt(milli), big.NewInt(gwei/1000)) }
		var prev *version
		if tt.prevCap > 0 {
			prev = &version{tip: n(tt.prevTip), cap: n(tt.prevCap)}
		}
		tip, limit, ok := m.price(chain.Fees{BaseFee: n(tt.base), Tip: n(tt.tip)}, prev, tt.gas, tt.eighths)
		if tip.Cmp(n(tt.wantTip)) != 0 || limit.Cmp(n(tt.wantCap)) != 0 || ok == tt.atCeiling {
			t.Errorf("%s: tip %v and cap %v, %v; want %v and %v", tt.name, tip, limit, ok, n(tt.wantTip), n(tt.wantCap))
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
