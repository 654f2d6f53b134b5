package refresh

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/cost"
)

// listed is a row of a price list: the price from an amount on.
type listed struct {
	from, price float64
	unit        string
}

// tiersOf turns the rows of one price, by ascending amounts, into tiers. per returns how many of
// our units a unit of the list holds, or 0 for an unknown unit. A free amount at the beginning is
// returned apart.
func tiersOf(rows []listed, per func(unit string) float64) (tiers []cost.Tier, free float64, err error) {
	if len(rows) == 0 {
		return nil, 0, errors.New("is not in the price list, or there twice with different prices, or in another currency")
	}
	amount := per(rows[0].unit)
	if amount == 0 {
		return nil, 0, fmt.Errorf("its unit is %s, which is not known here", brief(rows[0].unit))
	}
	for i, row := range rows {
		switch {
		case i == 0 && row.from != 0, i > 0 && row.from <= rows[i-1].from, bad(row.from):
			return nil, 0, errors.New("its tiers do not follow each other")
		case bad(row.price):
			return nil, 0, errors.New("it has no amount for a price")
		}
		if row.price == 0 && len(tiers) == 0 {
			if i+1 < len(rows) {
				free = rows[i+1].from * amount
			}
			continue
		}
		if n := len(tiers); n > 0 {
			tiers[n-1].UpTo = row.from * amount
		}
		tiers = append(tiers, cost.Tier{Price: rounded(row.price / amount)})
	}
	if len(tiers) == 0 {
		return nil, 0, errors.New("it has no price but 0")
	}
	return tiers, free, nil
}

// take replaces a price with the one from a list, and its free amount if the list has one.
func take(p *cost.ProviderPrices, member string, rows []listed, per func(unit string) float64) error {
	tiers, free, err := tiersOf(rows, per)
	if err != nil {
		return err
	}
	switch first := tiers[0].Price; member {
	case "per_million_requests":
		p.PerMillionRequests = rounded(first * 1e6)
		grant(&p.FreeRequests, free)
	case "gb_second":
		p.GBSecond = tiers
		grant(&p.FreeGBSeconds, free)
	case "gb_second_arm64":
		p.GBSecondARM64 = tiers
	case "vcpu_second":
		p.VCPUSecond = first
		grant(&p.FreeVCPUSeconds, free)
	case "idle_gb_second":
		p.IdleGBSecond = first
	case "idle_gb_second_arm64":
		p.IdleGBSecondARM64 = first
	case "idle_vcpu_second":
		p.IdleVCPUSecond = first
	case "warm_gb_second":
		p.WarmGBSecond = first
	case "warm_gb_second_arm64":
		p.WarmGBSecondARM64 = first
	}
	return nil
}

// grant replaces a free amount. A list without one proves nothing: the provider may grant a credit
// instead.
func grant(to *float64, free float64) {
	if free > 0 {
		*to = free
	}
}

// rounded removes the error of dividing decimal fractions in binary.
func rounded(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
	if err != nil {
		return x // too large for a number, which is refused as a price
	}
	return y
}

// bad reports whether x cannot be an amount.
func bad(x float64) bool { return !(x >= 0 && x <= 1e15) }
