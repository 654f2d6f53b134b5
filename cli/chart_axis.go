package cli

import (
	"fmt"
	"math"
	"strconv"

	"github.com/go-analyze/charts/chartdraw"
)

// decades is a logarithmic axis over whole decades. The library's own begins at 1 and is for one axis only.
type decades struct {
	min, max float64
	domain   int
}

var _ chartdraw.Range = (*decades)(nil)

func newDecades(low, high float64) *decades {
	const grace = 1e-9 // of what logarithms of powers of ten are off
	return &decades{min: math.Pow(10, math.Floor(math.Log10(low)+grace)),
		max: math.Pow(10, math.Ceil(math.Log10(high)-grace))}
}

func (d *decades) String() string       { return fmt.Sprintf("%g to %g", d.min, d.max) }
func (d *decades) IsZero() bool         { return d.max == 0 }
func (d *decades) GetMin() float64      { return d.min }
func (d *decades) GetMax() float64      { return d.max }
func (d *decades) GetDelta() float64    { return d.max - d.min }
func (d *decades) GetDomain() int       { return d.domain }
func (d *decades) SetDomain(domain int) { d.domain = domain }
func (d *decades) IsDescending() bool   { return false }

// the library would take the outermost ticks, which may be fewer than the decades
func (d *decades) SetMin(float64) {}
func (d *decades) SetMax(float64) {}

// Translate returns how many pixels a value is from the beginning.
func (d *decades) Translate(value float64) int {
	share := math.Log10(max(value, d.min)/d.min) / math.Log10(d.max/d.min)
	return int(math.Round(share * float64(d.domain)))
}

// ticks are at every power of ten, or with few at every other.
func (d *decades) ticks(few bool) []chartdraw.Tick {
	count := int(math.Round(math.Log10(d.max / d.min)))
	step := 1
	if few && count > 4 {
		step = 2
	}
	var ticks []chartdraw.Tick
	for i := 0; i <= count; i += step {
		value := d.min * math.Pow(10, float64(i))
		ticks = append(ticks, chartdraw.Tick{Value: value, Label: short(value)})
	}
	return ticks
}

// short writes a number in three figures: 0.1, 10, 1k, 4.24M.
func short(x float64) string {
	unit := ""
	for _, larger := range []string{"k", "M", "B", "T"} {
		if x < 999.5 {
			break
		}
		x, unit = x/1000, larger
	}
	figures := 2
	if x >= 9.995 {
		figures = 1
	}
	if x >= 99.95 {
		figures = 0
	}
	scale := math.Pow(10, float64(figures))
	return strconv.FormatFloat(math.Round(x*scale)/scale, 'f', -1, 64) + unit
}
